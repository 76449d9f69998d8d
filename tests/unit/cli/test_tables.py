"""Which columns of a table a terminal has room for."""

from __future__ import annotations

import pytest

from cbw.cli.control import TEXT_CELLS_MIN, columns_within, per_second
from cbw.cli.ps import SERVICE_COLUMNS, SERVICE_SPARE, WORKER_COLUMNS, WORKER_SPARE
from cbw.language import word

COLUMNS = ("name", "waiting", "spare", "state")
ROWS = [["a-long-name-of-a-service", "123", "4", "busy"]]
RIGHT, SPARE = ("waiting", "spare"), ("spare",)


def test_a_narrow_terminal_loses_lines_first_then_spare_columns() -> None:
    assert columns_within(COLUMNS, ROWS, RIGHT, SPARE, 80) == ([0, 1, 2, 3], False)
    assert columns_within(COLUMNS, ROWS, RIGHT, SPARE, 32) == ([0, 1, 2, 3], True)
    assert columns_within(COLUMNS, ROWS, RIGHT, SPARE, 28) == ([0, 1, 3], True)
    assert columns_within(COLUMNS, ROWS, RIGHT, SPARE, 5) == ([0, 1, 3], True), "there is no more to leave out"


@pytest.mark.parametrize("language", ["en", "es"])
def test_rates_and_times_are_seen_on_80_cells(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CBW_LANG", language)
    service = [
        "render",
        "12345",
        "100",
        "0",
        "100",
        "10",
        "59.9 min",
        "1234/s",
        "12.3 ms",
        "99.9 s",
        "123456",
        "12",
        "23.9 h",
        "nobody serves it",
    ]
    worker = [
        "worker-1",
        "draining",
        "10/10",
        "123.4/s",
        "12.3 ms",
        "99.9 s",
        "123456",
        "12",
        "23.9 h",
        "100%",
        "client/123456 for 12.3 s",
        "render",
    ]
    for columns, row, right, spare in (
        (SERVICE_COLUMNS, service, SERVICE_COLUMNS[1:-1], SERVICE_SPARE),
        (WORKER_COLUMNS, worker, WORKER_COLUMNS[2:10], WORKER_SPARE),
    ):
        headings, figures, left_out = ([word(name, "table") for name in names] for names in (columns, right, spare))
        kept, _ = columns_within(headings, [row], figures, left_out, 80)
        shown = [columns[number] for number in kept]
        needed = (max(len(headings[number]), min(len(row[number]), TEXT_CELLS_MIN)) + 1 for number in kept)
        assert sum(needed) <= 84, "texts are narrower by four cells at most than they should be"
        assert {"rate", "p50", "p99", "failed", "state"} <= set(shown)
        assert sum(min(len(row[number]), 10) + 1 for number in kept) <= 80


def test_rates_are_short() -> None:
    assert [per_second(rate) for rate in (None, 0.0, 0.25, 99.94, 12345.6)] == [
        "",
        "0.0/s",
        "0.2/s",
        "99.9/s",
        "12346/s",
    ]
