"""``cbw ps``."""

from __future__ import annotations

import sys
from typing import Any

import click

from cbw.cli import output
from cbw.cli.control import Control, controlling, json_printed, per_second, seconds, show_rows
from cbw.core.broker.looks import LIST_WORKERS, LISTED_MAX, SHOW_STATUS

DONE_COLUMNS = ("rate", "p50", "p99", "answered", "failed", "since")
SERVICE_COLUMNS = ("service", "waiting", "running", "delayed", "workers", "free", "oldest", *DONE_COLUMNS, "state")
WORKER_COLUMNS = ("worker", "state", "in hand", *DONE_COLUMNS, "busy", "at", "services")
SERVICE_SPARE = ("answered", "delayed", "free", "since")
"""What a narrow terminal leaves out; :data:`WORKER_SPARE` too."""
WORKER_SPARE = ("answered", "busy", "services", "since")


@click.command("ps", context_settings={"max_content_width": 110})
@controlling
@json_printed
def command(control: Control, is_json: bool) -> None:
    """Show the services and the workers of a broker: what waits, who is at what, how much each does, and how long that takes.

    Tables on a terminal; otherwise lines with tabs between the columns, those of services first, each with its kind before it.

    Of a service: its requests, its workers, how long its oldest waiting request has waited; its answers a second over the last
    10 s; how long half of the requests of the minute up to its last answer took from their acceptance (p50), and 99 % of them
    (p99); how many were answered, and how many failed: with an error of the handler, or given up; since when it is known.

    Of a worker: its state, how many requests it has in hand and can run at once; its answers a second over the last 10 s; how
    long half of its last answers took after it was given the requests, and 99 % of them; how many it has answered, and how many
    attempts have failed as it was lost; since when it is here; the share of its life that it had work; its oldest request.

    A terminal that is too narrow shows the most important columns.
    """
    status = control.ask(SHOW_STATUS)
    workers = _workers(control)
    if is_json:
        output.json({"services": status["services"], "workers": workers})
        return
    services = [_service(row) for row in status["services"]]
    rows = [_worker(row) for row in workers]
    if not sys.stdout.isatty():
        show_rows((), [["service", *row] for row in services] + [["worker", *row] for row in rows])
        return
    show_rows(SERVICE_COLUMNS, services, right=SERVICE_COLUMNS[1:-1], spare=SERVICE_SPARE)
    show_rows(WORKER_COLUMNS, rows, right=WORKER_COLUMNS[2:10], spare=WORKER_SPARE)


def _workers(control: Control) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = control.ask(LIST_WORKERS, limit=LISTED_MAX, offset=len(found))["workers"]
        found += page
        if len(page) < LISTED_MAX:
            return found


def _service(row: dict[str, Any]) -> list[str]:
    figures = [str(row[name]) for name in ("waiting", "running", "delayed", "workers", "free_workers")]
    state = "paused" if row["is_paused"] else "" if row["workers"] else "nobody serves it"
    oldest = seconds(row["oldest_s"]) if row["waiting"] else ""
    return [output.called(row["service"]), *figures, oldest, *_done(row), state]


def _worker(row: dict[str, Any]) -> list[str]:
    return [
        row["worker"],
        row["state"],
        f"{row['in_hand']}/{row['concurrency']}",
        *_done(row),
        f"{row['busy']:.0%}",
        f"{row['at']} for {seconds(row['at_s'])}" if row["at"] else "",
        ", ".join(map(output.called, row["services"])),
    ]


def _done(row: dict[str, Any]) -> list[str]:
    """What a service or a worker has done, in the order of :data:`DONE_COLUMNS`."""
    counts = ("" if row[name] is None else str(row[name]) for name in ("answered", "failed"))
    return [per_second(row["rate"]), seconds(row["p50_s"]), seconds(row["p99_s"]), *counts, seconds(row["age_s"])]
