"""``cbw ps``."""

from __future__ import annotations

import sys
from typing import Any

import click

from cbw.cli import output
from cbw.cli.control import Control, controlling, json_printed, seconds, show_rows
from cbw.core.broker.looks import LIST_WORKERS, LISTED_MAX, SHOW_STATUS

SERVICE_COLUMNS = ("service", "waiting", "running", "delayed", "workers", "free", "oldest", "state")
WORKER_COLUMNS = ("worker", "state", "in hand", "answered", "failed", "p50", "p99", "busy", "since", "at", "services")


@click.command("ps", context_settings={"max_content_width": 110})
@controlling
@json_printed
def command(control: Control, is_json: bool) -> None:
    """Show the services and the workers of a broker: what waits, who is at what, and how long each takes.

    Tables on a terminal; otherwise lines with tabs between the columns, those of services first, each with its kind before it.

    Of a service: its requests, its workers, and how long its oldest waiting request has waited. Of a worker: its state, how many
    requests it has in hand and can run at once, how many it has answered and failed, how long half of its last answers took
    (p50) and 99 % of them (p99), the share of its life that it had work, since when it is here, its oldest request.
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
    show_rows(SERVICE_COLUMNS, services, right=SERVICE_COLUMNS[1:-1])
    show_rows(WORKER_COLUMNS, rows, right=WORKER_COLUMNS[2:9])


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
    return [output.called(row["service"]), *figures, seconds(row["oldest_s"]) if row["waiting"] else "", state]


def _worker(row: dict[str, Any]) -> list[str]:
    return [
        row["worker"],
        row["state"],
        f"{row['in_hand']}/{row['concurrency']}",
        str(row["answered"]),
        str(row["failed"]),
        seconds(row["p50_s"]),
        seconds(row["p99_s"]),
        f"{row['busy']:.0%}",
        seconds(row["age_s"]),
        f"{row['at']} for {seconds(row['at_s'])}" if row["at"] else "",
        ", ".join(map(output.called, row["services"])),
    ]
