"""Requests per second with the whole trace of all roles going to a logger, against the same without, in turns."""

from __future__ import annotations

from collections.abc import Iterator

from cbw.bench import Load, measure

ROUNDS = 3


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The best of each."""
    best = {False: 0.0, True: 0.0}
    for _ in range(ROUNDS):
        for is_logged in best:
            best[is_logged] = max(best[is_logged], measure(Load(is_logged=is_logged, seconds=4.0)).requests_per_s)
    on, off = best[True], best[False]
    yield "throughput with every trace on", f"{on:,.0f} requests/s", f"off: {off:,.0f}/s", f"{on / off:.2f}"


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
