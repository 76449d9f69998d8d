"""One figure of the README, and what all benchmarks do with figures: measure by turns, take quantiles, print."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from cbw.core.histogram import Histogram, exactly

Key = TypeVar("Key")


class Row(NamedTuple):
    """A row of the table: what is measured, the result, the peer or limit it is compared with, and the ratio of the two."""

    figure: str
    measured: str
    compared_with: str = "-"
    ratio: str = "-"


def print_rows(rows: Iterable[Row]) -> None:
    """Print a Markdown table, each row as soon as it is measured."""
    print("| figure | measured | peer or limit in the same run | ratio |")
    print("|---|---|---|---|", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def in_turns(rounds: int, measures: Mapping[Key, Callable[[], float]]) -> dict[Key, list[float]]:
    """The results of ``rounds`` rounds in which every measure has its turn, so that all see the same moods of the machine."""
    results: dict[Key, list[float]] = {key: [] for key in measures}
    for _ in range(rounds):
        for key, measure in measures.items():
            results[key].append(measure())
    return results


def fastest_s(work: Callable[[], object], repeats: int) -> float:
    """Seconds that ``work`` takes, the best of so many tries."""
    spent = []
    for _ in range(repeats):
        began_at = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began_at)
    return min(spent)


def median(values: Iterable[float]) -> float:
    """The value in the middle."""
    counted = Histogram(exactly)
    for value in values:
        counted.add(value)
    middle = counted.quantile(0.5)
    assert middle is not None, "nothing was measured"
    return middle


def milliseconds(seconds: Sequence[float]) -> str:
    """The median and the longest of these times, for people."""
    return f"p50 {median(seconds) * 1e3:.1f} ms, max {max(seconds) * 1e3:.1f} ms"
