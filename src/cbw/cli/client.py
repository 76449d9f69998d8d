"""``cbw client``."""

from __future__ import annotations

import time

import click

from cbw import settings
from cbw.cli import output
from cbw.cli.call import missing_worker
from cbw.cli.connection import (
    broker_address,
    no_broker,
    role_id,
    telling_who_waits,
    warn_if_unresolved,
)
from cbw.cli.option_types import Integer, port
from cbw.cli.options import (
    OpenTrace,
    ServeStatus,
    keys_option,
    setting_options,
    status_options,
    times_option,
    trace_options,
)
from cbw.cli.signals import stopping_at_once
from cbw.client.sync_client import Client
from cbw.core.messages import DEFAULT_SERVICE, REFUSED
from cbw.errors import RequestError
from cbw.language import said, translated
from cbw.signals import reopening


@click.command("client", context_settings={"max_content_width": 110})
@click.argument("id", default=None, metavar="[ID]")
@click.argument("count", type=Integer(0), default=10, metavar="[N]")
@click.argument("broker_host", envvar="BROKER_HOST", default=None, metavar="[BROKER_HOST]")
@click.argument("broker_port", type=port, envvar="BROKER_PORT", default=settings.CLIENT_PORT, metavar="[BROKER_PORT]")
@setting_options(*settings.CLIENT)
@keys_option
@trace_options
@times_option
@status_options
def command(
    id: str | None,
    count: int,
    broker_host: str | None,
    broker_port: int,
    timeout_s: float,
    open_trace: OpenTrace,
    serve_status: ServeStatus,
) -> None:
    """The lab's client: sends "<ID>-1" to "<ID>-N", one after another, and prints each answer.

    \b
    cbw client C1 10 172.17.0.2 9998
    """
    name = role_id(id, "CLI", broker_host)
    brokers = broker_address(broker_host, broker_port)
    warn_if_unresolved(brokers.hosts)
    failed = answered = 0

    def missing() -> str:
        if client.hello_refused:
            return said("its turn, as {reason}", reason=translated(client.hello_refused))
        return "" if answered or not client.has_met_broker else missing_worker(brokers, DEFAULT_SERVICE)

    trace = open_trace(name, tells_bodies=True)
    with (
        stopping_at_once(),
        reopening(trace.reopen),
        Client(brokers.text, id=name, timeout=timeout_s, trace=trace) as client,
        serve_status(client.status, is_one_of_many=True),
        telling_who_waits(client, brokers, timeout_s, missing),
    ):
        for number in range(1, count + 1):
            request = f"{name}-{number}"
            began_at = time.monotonic()
            try:
                answer = client.call(request).decode(errors="backslashreplace")
            except RequestError as error:
                if not client.has_met_broker and error.kind != REFUSED:
                    raise no_broker(brokers, timeout_s) from None
                failed += 1
                output.told(
                    said("{request} failed: {error}", request=request, error=output.words_of(error)), err=True, fg="red"
                )
            else:
                answered += 1
                output.told(f"{request} -> {answer}  ({time.monotonic() - began_at:.3f} s)")
    if failed:
        raise click.exceptions.Exit(1)
