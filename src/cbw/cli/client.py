"""``cbw client``."""

from __future__ import annotations

import time

import click

from cbw import settings
from cbw.cli.options import broker_address, port, role_id, setting_options
from cbw.cli.worker import warn_if_unresolved
from cbw.client import Client
from cbw.core.events import Record
from cbw.errors import RequestError
from cbw.trace import Trace


@click.command("client", context_settings={"max_content_width": 110})
@click.argument("id", default=None, metavar="[ID]")
@click.argument("count", type=click.IntRange(0), default=10, metavar="[N]")
@click.argument("broker_host", envvar="BROKER_HOST", default="127.0.0.1", metavar="[BROKER_HOST]")
@click.argument("broker_port", type=port, envvar="BROKER_PORT", default=settings.CLIENT_PORT, metavar="[BROKER_PORT]")
@setting_options(*settings.CLIENT)
@click.option("--trace", metavar="FILE", envvar="CBW_TRACE", help="Append every event to FILE, a JSON line each.")
def command(
    id: str | None, count: int, broker_host: str, broker_port: int, timeout_s: float, trace: str | None
) -> None:
    """The lab's client: sends "<ID>-1" to "<ID>-N", one after another, and prints each answer.

    \b
    cbw client C1 10 172.17.0.2 9998
    """
    name = role_id(id, "CLI")
    lines = Trace(trace, is_printing=False)
    failed = 0
    warn_if_unresolved(broker_host, broker_port)
    with Client(broker_address(broker_host, broker_port), id=name, timeout=timeout_s) as client:
        for number in range(1, count + 1):
            request = f"{name}-{number}"
            began_at = time.monotonic()
            lines.write([Record(began_at, "sent", "client", name, f"{name}/{number}", name, text=request)])
            try:
                answer = client.call(request, returns=str)
            except RequestError as error:
                failed += 1
                click.secho(f"{request} failed: {error}", fg="red", err=True)
                event = Record(time.monotonic(), "failed", "client", name, f"{name}/{number}", name, text=str(error))
            else:
                seconds = time.monotonic() - began_at
                click.echo(f"{request} -> {answer}  ({seconds:.3f} s)")
                event = Record(time.monotonic(), "got", "client", name, f"{name}/{number}", name, text=answer)
            lines.write([event])
    if failed:
        raise click.exceptions.Exit(1)
