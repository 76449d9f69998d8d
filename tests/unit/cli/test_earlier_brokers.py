"""What the commands that look into a broker show if it is of an earlier version, and does not tell all that they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from cbw.cli import ps, requests
from cbw.cli.control import UNKNOWN, Fields
from cbw.cli.top_view import TopView
from cbw.core.broker import looks
from cbw.core.broker.service_list import ListedService
from tests.unit.core.broker.control import Control
from tests.unit.core.broker.system import CoreSystem

LATER = {"rate", "p50_s", "p99_s", "answered", "failed", "age_s", "oldest_s"}
"""Fields of a service that the first brokers with ``cbw.status`` did not tell; of a worker, the first three of them."""


@pytest.fixture
def control() -> Control:
    system = CoreSystem()
    system.client("C1")
    system.client("ADMIN")
    system.worker("W1")
    system.ask(1, 2)
    return Control(system)


def earlier(row: Fields, *missing: str) -> Fields:
    return {name: value for name, value in row.items() if name not in missing}


def test_ps_shows_what_an_earlier_broker_tells(control: Control) -> None:
    service, worker = control.ask(looks.SHOW_STATUS)["services"][0], control.ask(looks.LIST_WORKERS)["workers"][0]
    old = ps.shown_row(ps.SERVICE_CELLS, earlier(service, *LATER))
    assert old == ["s", "1", "1", "0", "1", "0", *[UNKNOWN] * 7, ""]
    old = ps.shown_row(ps.WORKER_CELLS, earlier(worker, "rate", "p50_s", "p99_s"))
    assert old == ["W1", "busy", "1/1", *[UNKNOWN] * 3, "0", "0", "0 ms", "0%", "C1/1 for 0 ms", "s"]


@pytest.mark.parametrize(
    ("asked", "table", "cells"),
    [
        (looks.SHOW_STATUS, "services", ps.SERVICE_CELLS),
        (looks.LIST_WORKERS, "workers", ps.WORKER_CELLS),
        (looks.LIST_REQUESTS, "requests", requests.CELLS),
    ],
)
def test_each_cell_is_shown_unless_a_field_of_its_own_is_missing(
    control: Control, asked: str, table: str, cells: Sequence[Any]
) -> None:
    row = control.ask(asked)[table][0]
    assert UNKNOWN not in ps.shown_row(cells, row)
    unknown = [ps.shown_row(cells, earlier(row, name)).count(UNKNOWN) for name in row]
    assert sum(unknown) >= len(cells) and max(unknown) <= 2


def test_top_shows_what_an_earlier_broker_tells(control: Control) -> None:
    """Whatever it does not tell, by whatever column it is sorted."""
    status, page = control.ask(looks.SHOW_STATUS), control.ask(looks.LIST_REQUESTS)
    names = {"workers": "worker", "services": "service"}
    for missing in [*status, *(f"{table}.{name}" for table in names for name in status[table][0])]:
        if missing in names or missing.partition(".")[2] in names.values():
            continue  # a row of a table is its name
        table, _, field = missing.rpartition(".")
        told = earlier(status, missing) | {
            one: [earlier(row, field) for row in status[one]] for one in names if one == table
        }
        view = TopView()
        view.look(told, page["requests"], 1.0)
        for _ in range(3):
            for _ in range(12):
                assert len(view.lines(120, 24)) == 24, missing
                view.key(">")
            view.key("tab")
    old = earlier(status, "verdict", "latency") | {
        "workers": [earlier(row, "rate", "p50_s") for row in status["workers"]]
    }
    view.look(old, page["requests"], 2.0)
    lines = [text for _, text in view.lines(80, 24)]
    assert lines[0].startswith("1 waiting  1 running") and lines[1] == UNKNOWN
    assert lines[4].split()[:5] == ["W1", "busy", "1", UNKNOWN, UNKNOWN]


def test_services_of_an_earlier_broker_are_listed() -> None:
    found = msgspec.json.decode(b'[{"service":"s","workers":1,"waiting":2}]', type=list[ListedService])
    assert found == [ListedService("s", 1, 2)]
