"""``cbw ps``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from cbw.cli import output
from cbw.cli.control import Control, Fields, cell_text, controlling, json_printed, per_second, seconds, show_rows
from cbw.core.broker.looks import LIST_WORKERS, LISTED_MAX, SHOW_STATUS
from cbw.language import word

Cell = tuple[str, Callable[[Fields], str]]
"""The heading of a column, and what stands in it."""
DONE_CELLS: Sequence[Cell] = (
    ("rate", lambda row: per_second(row["rate"])),
    ("p50", lambda row: seconds(row["p50_s"])),
    ("p99", lambda row: seconds(row["p99_s"])),
    ("answered", lambda row: "" if row["answered"] is None else str(row["answered"])),
    ("failed", lambda row: "" if row["failed"] is None else str(row["failed"])),
    ("since", lambda row: seconds(row["age_s"])),
)
"""What a service or a worker has done."""
SERVICE_CELLS: Sequence[Cell] = (
    ("service", lambda row: output.called(row["service"])),
    ("waiting", lambda row: str(row["waiting"])),
    ("running", lambda row: str(row["running"])),
    ("delayed", lambda row: str(row["delayed"])),
    ("workers", lambda row: str(row["workers"])),
    ("free", lambda row: str(row["free_workers"])),
    ("oldest", lambda row: seconds(row["oldest_s"]) if row["waiting"] else ""),
    *DONE_CELLS,
    ("state", lambda row: "paused" if row["is_paused"] else "" if row["workers"] else NOBODY_SERVES),
)
WORKER_CELLS: Sequence[Cell] = (
    ("worker", lambda row: str(row["worker"])),
    ("state", lambda row: str(row["state"])),
    ("in hand", lambda row: f"{row['in_hand']}/{row['concurrency']}"),
    *DONE_CELLS,
    ("busy", lambda row: f"{row['busy']:.0%}"),
    ("at", lambda row: _at(row["at"], seconds(row["at_s"])) if row["at"] else ""),
    ("services", lambda row: ", ".join(map(output.called, row["services"]))),
)
AT = "{request} for {time}"
NOBODY_SERVES = "nobody serves it"
SERVICE_COLUMNS = tuple(name for name, _ in SERVICE_CELLS)
WORKER_COLUMNS = tuple(name for name, _ in WORKER_CELLS)
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

    A terminal that is too narrow shows the most important columns. A broker of an earlier version may not tell all: ? stands for
    what it does not.
    """
    status = control.ask(SHOW_STATUS)
    workers = _workers(control)
    if is_json:
        output.json({"services": status["services"], "workers": workers})
        return
    services = [shown_row(SERVICE_CELLS, row) for row in status["services"]]
    rows = [shown_row(WORKER_CELLS, row) for row in workers]
    if not sys.stdout.isatty():
        show_rows((), [["service", *row] for row in services] + [["worker", *row] for row in rows])
        return
    show_rows(SERVICE_COLUMNS, services, right=SERVICE_COLUMNS[1:-1], spare=SERVICE_SPARE)
    show_rows(WORKER_COLUMNS, rows, right=WORKER_COLUMNS[2:10], spare=WORKER_SPARE)


def _workers(control: Control) -> list[Fields]:
    found: list[Fields] = []
    while True:
        page = control.ask(LIST_WORKERS, limit=LISTED_MAX, offset=len(found))["workers"]
        found += page
        if len(page) < LISTED_MAX:
            return found


def _at(request: str, time: str) -> str:
    """What a worker is at, and for how long; lines for programs are in English."""
    text = word(AT, "table") if sys.stdout.isatty() else AT
    return text.format(request=request, time=time)


def shown_row(cells: Sequence[Cell], row: Fields) -> list[str]:
    """What ``cells`` show of ``row``, a service or a worker as the broker tells of it."""
    return [cell_text(show, row) for _, show in cells]
