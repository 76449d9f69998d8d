"""Requests per second with the whole trace going to a logger, of the broker or of all roles, against the same without."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

from benchmarks.figure import Row, in_turns, print_rows
from benchmarks.throughput import rate
from cbw.bench import Load

ROUNDS = 3
SECONDS = 4.0
WHOSE: dict[Literal["", "broker", "all"], str] = {
    "broker": "throughput with the broker's three records a request logged",
    "all": "throughput with all roles' seven records a request logged",
}
FIGURES = tuple(WHOSE.values())


def rows() -> Iterator[Row]:
    """With and without, in turns; the best of each."""
    loads = {"": Load(seconds=SECONDS), **{logged: Load(logged=logged, seconds=SECONDS) for logged in WHOSE}}
    results = in_turns(ROUNDS, {logged: partial(rate, load) for logged, load in loads.items()})
    without = max(results[""])
    for logged, name in WHOSE.items():
        best = max(results[logged])
        yield Row(name, f"{best:,.0f} requests/s", f"without: {without:,.0f}/s", f"{best / without:.2f}")


if __name__ == "__main__":
    print_rows(rows())
