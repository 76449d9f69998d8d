"""``cbw call``."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import click

from cbw import settings
from cbw.cli.options import no_broker, no_host, setting_options, telling_who_waits
from cbw.client import Client
from cbw.errors import RequestError
from cbw.settings import address


@click.command("call", context_settings={"max_content_width": 110})
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--broker", metavar="HOST:PORT", help="The broker's client port. [env: BROKER_HOST, BROKER_PORT]")
@click.option("--service", "-s", default="", help="The service to ask; the nameless one by default.")
@setting_options(*settings.CLIENT)
def command(file: BinaryIO, broker: str | None, service: str, timeout_s: float) -> None:
    """Send FILE (default: standard input) as one request; its answer goes to standard output, an error to standard error.

    \b
    echo hello | cbw call
    cbw call --service thumbnail photo.jpg > small.jpg
    """
    if broker is None and os.environ.get(settings.BROKER_HOST.environment) == "":  # as in the images
        raise no_host("with --broker")
    body = file.read()
    host, port = address(broker, "client")
    with Client(broker, timeout=timeout_s) as client, telling_who_waits(client, host, port, timeout_s):
        try:
            answer = client.call(body, service)
        except RequestError as error:
            if not client.has_met_broker:
                raise no_broker(host, port, timeout_s) from None
            raise error
    sys.stdout.buffer.write(answer)
    if sys.stdout.isatty() and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
