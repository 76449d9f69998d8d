"""``cbw worker``."""

from __future__ import annotations

import contextlib
import time

import click

from cbw import settings
from cbw.cli.options import (
    OpenTrace,
    ServeStatus,
    broker_place,
    port,
    role_id,
    setting_options,
    status_options,
    trace_options,
    warn_if_unresolved,
)
from cbw.handler import load
from cbw.signals import stopping
from cbw.worker import Worker


@click.command("worker", context_settings={"max_content_width": 110})
@click.argument("id", default=None, metavar="[ID]")
@click.argument("broker_host", envvar="BROKER_HOST", default=None, metavar="[BROKER_HOST]")
@click.argument("broker_port", type=port, envvar="BROKER_PORT", default=settings.WORKER_PORT, metavar="[BROKER_PORT]")
@click.option(
    "--handler",
    "handlers",
    multiple=True,
    metavar="[SERVICE=]MODULE:FUNCTION",
    envvar="CBW_WORKER_HANDLER",
    help="Serve SERVICE (default: the nameless one) with this function. May be repeated. The current folder is searched.",
)
@setting_options(*settings.WORKER)
@trace_options
@status_options
def command(
    id: str | None,
    broker_host: str | None,
    broker_port: int,
    handlers: tuple[str, ...],
    concurrency: int,
    processes: int,
    grace_s: float,
    work_time_s: float,
    open_trace: OpenTrace,
    serve_status: ServeStatus,
) -> None:
    """A worker called ID (HN: after this host; none: after host and process) for the broker at BROKER_HOST:BROKER_PORT.

    Without --handler it is the lab's demonstration: it takes --work-time seconds and answers "<message> <id>".

    \b
    cbw worker W1 172.17.0.2 9999
    cbw worker --handler shop.orders:price --concurrency 8
    cbw worker --handler resize=images:resize --handler crop=images:crop --processes 2
    """
    name = role_id(id, "WOR")
    host, address = broker_place(broker_host, broker_port)
    worker = Worker(
        address,
        id=name,
        concurrency=concurrency,
        processes=processes,
        grace_s=grace_s,
        trace=open_trace(name),
    )
    for spec in handlers:
        service, _, path = spec.rpartition("=")
        worker.add(service, load(path))
    if not handlers:
        worker.add("", Demonstration(name, work_time_s))
    warn_if_unresolved(host, broker_port)
    with stopping(worker), serve_status(worker.inquiry.ask, is_one_of_many=True):
        click.echo(f"{name} works for {host}:{broker_port}")
        worker.run()


class Demonstration:
    """The lab's worker: it takes a while and says who it is."""

    def __init__(self, name: str, work_time_s: float) -> None:
        self._name = name
        self._work_time_s = work_time_s

    def __call__(self, message: bytes) -> bytes:
        with contextlib.suppress(OSError):  # nobody reads it; the client does not care
            click.echo(f"{self._name} begins {message.decode(errors='replace').rstrip()}")
        if self._work_time_s:
            time.sleep(self._work_time_s)
        return message + b" " + self._name.encode()
