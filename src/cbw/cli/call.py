"""``cbw call``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from cbw import settings
from cbw.cli.connection import no_broker, no_host, telling_who_waits
from cbw.cli.options import Integer, Number, keys_option, setting_options
from cbw.client.sync_client import Client
from cbw.core.messages import DELAY_S_MAX, PRIORITY, PRIORITY_MAX
from cbw.errors import RequestError
from cbw.settings import address

broker_option = click.option(
    "--broker",
    metavar="HOST:PORT",
    help="Broker to talk to, and its port for clients. [env: BROKER_HOST, BROKER_PORT]",
)


@click.command("call", context_settings={"max_content_width": 110})
@click.argument("file", type=click.File("rb"), default="-")
@broker_option
@click.option("--service", "-s", default="", help="Service that answers the request. Default: the nameless service.")
@click.option(
    "--priority",
    type=Integer(0, PRIORITY_MAX),
    default=PRIORITY,
    show_default=True,
    help="Order of the request among those that wait of the same client: 9 is served first, 0 last.",
)
@click.option(
    "--delay",
    "delay_s",
    type=Number(0, DELAY_S_MAX),
    default=0.0,
    help="Seconds for which no worker gets the request. They count towards --timeout, or towards --deadline with --detach or "
    "--ticket.",
)
@click.option(
    "--detach",
    "is_detached",
    is_flag=True,
    help="Do not wait for the answer: print a ticket when the broker has the request. cbw result fetches the answer with it.",
)
@click.option(
    "--ticket",
    metavar="NAME",
    help="Start the request under this ticket, or join the one that was started under it with the same body and service. The "
    "request goes on when this command ends.",
)
@click.option(
    "--deadline",
    "deadline_s",
    type=Number(0.001),
    help="With --detach or --ticket: seconds that the request may take. Default: for ever.",
)
@setting_options(*settings.CLIENT)
@keys_option
def command(
    file: BinaryIO,
    broker: str | None,
    service: str,
    priority: int,
    delay_s: float,
    is_detached: bool,
    ticket: str | None,
    deadline_s: float | None,
    timeout_s: float,
) -> None:
    """Send FILE (default: standard input) as one request; its answer goes to standard output, an error to standard error.

    With --detach or --ticket the request outlives this command.

    \b
    echo hello | cbw call
    cbw call --service thumbnail photo.jpg > small.jpg
    ticket=$(cbw call --service report --detach year.json); cbw result $ticket
    """
    if deadline_s is not None and not (is_detached or ticket is not None):
        raise click.UsageError("--deadline goes with --detach or --ticket; otherwise --timeout is the deadline.")
    body = file.read()
    with asking(broker, timeout_s) as client:
        if not is_detached and ticket is None:
            print_answer(client.call(body, service, priority=priority, delay_s=delay_s))
            return
        started = client.start(body, service, ticket=ticket, deadline_s=deadline_s, priority=priority, delay_s=delay_s)
        if not is_detached:
            print_answer(client.result(started))
            return
        if not started.is_durable:
            click.echo("this broker has no journal: the request is lost if the broker ends", err=True)
        click.echo(str(started))


@contextlib.contextmanager
def asking(broker: str | None, timeout_s: float) -> Iterator[Client]:
    """A client of ``broker``, and clear words if there is none."""
    if broker is None and os.environ.get(settings.BROKER_HOST.environment) == "":  # as in the images
        raise no_host("with --broker")
    host, port = address(broker, "client")
    with Client(broker, timeout=timeout_s) as client, telling_who_waits(client, host, port, timeout_s):
        try:
            yield client
        except RequestError as error:
            if not client.has_met_broker:
                raise no_broker(host, port, timeout_s) from None
            raise error


def print_answer(answer: bytes) -> None:
    """Write ``answer`` to standard output as it is; for people with a line's end behind it."""
    sys.stdout.buffer.write(answer)
    if sys.stdout.isatty() and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
