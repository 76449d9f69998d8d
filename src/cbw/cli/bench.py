"""``cbw bench``."""

from __future__ import annotations

import contextlib
import sys

import click
from rich.console import Console
from rich.table import Table

from cbw import settings
from cbw.addresses import address
from cbw.bench import Load, Measured, measure
from cbw.cli import output, tables
from cbw.cli.option_types import Integer, Number, port
from cbw.cli.options import keys_option
from cbw.errors import UsageError

BODY_BYTES_MAX = settings.default_of(settings.BROKER, "body_bytes_max")


@click.command("bench", context_settings={"max_content_width": 110})
@click.option("--clients", type=Integer(1), default=1, show_default=True, help="Number of client processes.")
@click.option("--workers", type=Integer(1), default=1, show_default=True, help="Number of worker processes.")
@click.option(
    "--window",
    type=Integer(1),
    default=256,
    show_default=True,
    help="Number of requests that each client has in flight; 1 sends one at a time.",
)
@click.option(
    "--body-bytes",
    type=Integer(0, BODY_BYTES_MAX),
    default=100,
    show_default=True,
    help="Size of the body of each request and of its answer.",
)
@click.option(
    "--seconds", type=Number(0.1), default=5.0, show_default=True, help="Seconds to measure, after a warm-up of 1 s."
)
@click.option(
    "--broker",
    metavar="HOST:PORT",
    help="Measure this running broker, with clients and workers of the benchmark's own. Default: a broker of its own.",
)
@click.option(
    "--worker-port",
    type=port,
    default=settings.WORKER_PORT,
    show_default=True,
    help="Port for workers of the broker given with --broker.",
)
@click.option("--log", "is_logged", is_flag=True, help="Also run a logger, and send it every step of every request.")
@click.option("--journal", metavar="DIR", help="Folder for a journal of the benchmark's own broker, as in cbw broker.")
@click.option("--json", "is_json", is_flag=True, help="Print the figures as JSON.")
@keys_option
def command(
    clients: int,
    workers: int,
    window: int,
    body_bytes: int,
    seconds: float,
    broker: str | None,
    worker_port: int,
    is_logged: bool,
    journal: str | None,
    is_json: bool,
) -> None:
    """Measure requests per second, latency, and the CPU time that each role takes for a request.

    \b
    cbw bench                               throughput: 256 requests in flight
    cbw bench --window 1                    latency: one at a time
    cbw bench --clients 4 --workers 2

    Broker, workers and clients are processes of this machine: compare figures of one machine only.
    """
    target = (*address(broker, "client"), worker_port) if broker is not None else None
    if target is not None and journal:
        raise UsageError("--journal goes without --broker: that broker has its own, or none")
    load = Load(
        clients=clients,
        workers=workers,
        window=window,
        body_bytes=body_bytes,
        seconds=seconds,
        broker=target,
        logged="all" if is_logged else "",
        journal=journal or "",
    )
    with _telling(f"{clients} clients, {workers} workers: about {seconds + 2:g} s"):
        measured = measure(load)
    if is_json:
        output.json(measured)
    else:
        _print(measured)


def _telling(text: str) -> contextlib.AbstractContextManager[object]:
    """Show ``text`` meanwhile, to whoever watches."""
    return Console(stderr=True).status(text) if sys.stderr.isatty() else contextlib.nullcontext()


def _print(measured: Measured) -> None:
    table = Table("requests/s", "p50", "p99", *(f"CPU {role}" for role in measured.cpu_us))
    table.add_row(
        f"{measured.requests_per_s:,.0f}",
        f"{measured.p50_s * 1e6:,.0f} µs",
        f"{measured.p99_s * 1e6:,.0f} µs",
        *(f"{value:.1f} µs/request" for value in measured.cpu_us.values()),
    )
    tables.show(table)
