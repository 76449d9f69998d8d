"""``cbw broker``."""

from __future__ import annotations

import socket
from typing import Any, Literal

import click

from cbw import settings
from cbw.broker import Broker, Recovered
from cbw.cli.option_types import port, setting_type
from cbw.cli.options import (
    OpenTrace,
    ServeStatus,
    announce,
    check_two_ports,
    keys_option,
    setting_options,
    status_options,
    times_option,
    trace_options,
    warn_if_open,
)
from cbw.core.broker.limits import Limits
from cbw.journal.places import journal_at
from cbw.language import said, said_of, translated
from cbw.observe.page import Page
from cbw.signals import reopening, stopping
from cbw.standby import Standby


@click.command("broker", context_settings={"max_content_width": 110})
@click.argument("client_port", type=port, default=settings.CLIENT_PORT, metavar="[FRONTEND_PORT]")
@click.argument("worker_port", type=port, default=settings.WORKER_PORT, metavar="[BACKEND_PORT]")
@click.argument("log_host", default=None, metavar="[LOGGER_HOST]")
@click.argument("log_port", type=setting_type(settings.LOGGER_PORT), default=None, metavar="[LOGGER_PORT]")
@setting_options(*settings.JOURNAL, *settings.BROKER)
@keys_option
@trace_options
@times_option
@status_options
def command(
    client_port: int,
    worker_port: int,
    log_host: str | None,
    log_port: int | None,
    listen: str | None,
    grace_s: float,
    journal: str | None,
    journal_sync: Literal["full", "normal"],
    allow_control: bool,
    open_trace: OpenTrace,
    serve_status: ServeStatus,
    **limits: Any,
) -> None:
    """The broker: clients connect to FRONTEND_PORT (9998), workers to BACKEND_PORT (9999); 0 takes a free port.

    With a logger at LOGGER_HOST:LOGGER_PORT (9995) every event goes there too.

    It serves CBW/1 peers and the lab's REQ programs on the same ports. SIGTERM lets running requests finish. SIGHUP begins a new
    trace file, if the old one was moved away.
    """
    check_two_ports(client_port, worker_port)
    name = f"BRO_{socket.gethostname()}"
    waits_for = journal_at(journal, name, journal_sync) if journal else None
    standby = Standby(waits_for, name, lambda problem: announce(" ".join((name, translated(problem)))))
    with stopping(standby), reopening(standby.reopen_trace), serve_status(standby.status, page=Page(standby)):
        if not standby.wait():
            return
        broker = Broker(
            client_port,
            worker_port,
            listen=listen,
            name=name,
            limits=Limits(**limits),
            grace_s=grace_s,
            journal=standby.journal,
            allow_control=allow_control,
            trace=open_trace(name, log_host=log_host, log_port=log_port),
        )
        standby.becomes(broker)
        warn_if_open(broker.listen, has_keys=broker.guard is not None)
        if broker.recovered:
            announce(said("{name} goes on with its journal: {what}", name=name, what=_told(broker.recovered)))
        announce(f"{name} serves clients on port {broker.client_port}, workers on port {broker.worker_port}")
        broker.run()


def _told(found: Recovered) -> str:
    parts = [
        said_of(found.requests, "1 request", "{count} requests"),
        said_of(found.answers, "1 answer", "{count} answers"),
    ]
    if found.dead_letters:
        parts.append(said_of(found.dead_letters, "and 1 dead letter", "and {count} dead letters"))
    return ", ".join(parts)
