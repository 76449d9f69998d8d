"""``cbw services``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from cbw import settings
from cbw.cli import output
from cbw.cli.call import asking, broker_option
from cbw.cli.control import Fields, show_rows
from cbw.cli.options import keys_option, setting_options
from cbw.cli.ps import DONE_CELLS, Cell, shown_row
from cbw.core.broker.service_list import SERVICES

LISTED_CELLS: Sequence[Cell] = (
    ("service", lambda row: output.called(row["service"]) + _signature(row).get("signature", "")),
    ("workers", lambda row: str(row["workers"])),
    ("waiting", lambda row: str(row["waiting"])),
    *DONE_CELLS,
)
LISTED_COLUMNS = tuple(name for name, _ in LISTED_CELLS)
LISTED_SPARE = ("since", "answered")
"""What a narrow terminal leaves out."""
_COUNTED = ("running", "answered", "failed", "rate", "p50_s", "p99_s", "age_s")
_DESCRIBED = ("signature", "doc", "arguments", "result")


@click.command("services", context_settings={"max_content_width": 110})
@broker_option
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print one JSON array, with a JSON Schema of the arguments and of the result of each service.",
)
@setting_options(*settings.CLIENT)
@keys_option
def command(broker: str | None, is_json: bool, timeout_s: float) -> None:
    """List the services of a broker, with what their functions take and return. With keys, it needs that of an admin.

    A table on a terminal; otherwise lines with tabs between the columns: the service with its signature, how many workers serve
    it and how many requests wait, and what it has done, as in cbw ps: its answers a second, how long half of its last requests
    took (p50) and 99 % of them (p99), how many were answered and how many failed, and since when it is known.

    A terminal that is too narrow shows the most important columns.
    """
    with asking(broker, timeout_s) as client:
        found = msgspec.json.decode(client.call(b"", SERVICES), type=list[Fields])
    if is_json:
        output.data(msgspec.json.encode([_as_json(service) for service in found]) + b"\n")
        return
    rows = [shown_row(LISTED_CELLS, service) for service in found]
    show_rows(LISTED_COLUMNS, rows, right=LISTED_COLUMNS[1:], spare=LISTED_SPARE)


def _signature(service: Fields) -> dict[str, Any]:
    try:
        return msgspec.json.decode(service.get("signature") or "{}", type=dict[str, Any])
    except msgspec.DecodeError:  # of a worker of another make
        return {}


def _as_json(service: Fields) -> dict[str, Any]:
    """What is printed of ``service``; null for what a broker of an earlier version does not tell."""
    counts = {name: service[name] for name in ("service", "workers", "waiting")}
    told = _signature(service)
    return counts | {name: service.get(name) for name in _COUNTED} | {name: told.get(name) for name in _DESCRIBED}
