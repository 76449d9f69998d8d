"""Requests per second with the whole trace going to a logger, of the broker or of all roles, against the same without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from cbw.bench import Load, measure

ROUNDS = 3
Who = Literal["", "broker", "all"]


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The best of each, in turns."""
    best: dict[Who, float] = {"": 0.0, "broker": 0.0, "all": 0.0}
    for _ in range(ROUNDS):
        for logged in best:
            best[logged] = max(best[logged], measure(Load(logged=logged, seconds=4.0)).requests_per_s)
    off = best[""]
    whose: dict[Who, str] = {
        "broker": "the broker's three records a request",
        "all": "all roles' seven records a request",
    }
    for logged, name in whose.items():
        on = best[logged]
        yield f"throughput with {name} logged", f"{on:,.0f} requests/s", f"without: {off:,.0f}/s", f"{on / off:.2f}"


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
