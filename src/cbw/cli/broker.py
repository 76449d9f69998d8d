"""``cbw broker``."""

from __future__ import annotations

import socket
from typing import Any

import click

from cbw import settings
from cbw.broker import Broker
from cbw.cli.options import port, setting_options, stopping, trace_options
from cbw.core.broker import Limits
from cbw.trace import Trace


@click.command("broker", context_settings={"max_content_width": 110})
@click.argument("client_port", type=port, default=settings.CLIENT_PORT, metavar="[FRONTEND_PORT]")
@click.argument("worker_port", type=port, default=settings.WORKER_PORT, metavar="[BACKEND_PORT]")
@setting_options(*settings.BROKER)
@trace_options
def command(
    client_port: int, worker_port: int, host: str, grace_s: float, trace: str | None, verbose: bool, **limits: Any
) -> None:
    """The broker: clients connect to FRONTEND_PORT (9998), workers to BACKEND_PORT (9999); 0 takes a free port.

    It serves CBW/1 peers and the lab's REQ programs on the same ports. SIGTERM lets running requests finish.
    """
    name = f"BRO_{socket.gethostname()}"
    broker = Broker(
        client_port,
        worker_port,
        host=host,
        name=name,
        limits=Limits(**limits),
        grace_s=grace_s,
        trace=Trace(trace, is_verbose=verbose),
    )
    with stopping(broker):
        click.echo(f"{name} serves clients on port {broker.client_port}, workers on port {broker.worker_port}")
        broker.run()
