"""What keys cost: throughput and the time of a lone call with them, against the same without."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.figure import Row, in_turns, print_rows
from cbw.bench import Load, Measured, measure
from cbw.core.key import ROLES, Key
from cbw.keys.allowed import ALLOWED, write
from cbw.keys.key_file import write_pair
from cbw.settings import KEYS
from cbw.transport.curve import new_pair

ROUNDS = 5
SECONDS = 3.0
WINDOW = 256
LEAST_RATIO = 0.85
MOST_RATIO = 1.15
FIGURES = (f"with keys: throughput, 1 client, 1 worker, window {WINDOW}", "with keys: one request at a time, p50")


def rows() -> Iterator[Row]:
    """With and without, in turns; the best of each, as others use the machine too."""
    with tempfile.TemporaryDirectory(prefix="cbw-keys-") as folder:
        make_keys(Path(folder))
        flood, lone = Load(window=WINDOW, seconds=SECONDS), Load(window=1, seconds=SECONDS)
        rates = in_turns(ROUNDS, _both(folder, lambda: measure(flood), lambda found: found.requests_per_s))
        best = {keys: max(found) for keys, found in rates.items()}
        said = f"without: {best['']:,.0f}/s; at least {LEAST_RATIO}"
        yield Row(FIGURES[0], f"{best[folder]:,.0f} requests/s", said, f"{best[folder] / best['']:.2f}")
        times = in_turns(ROUNDS, _both(folder, lambda: measure(lone), lambda found: found.p50_s))
        p50 = {keys: min(found) * 1e6 for keys, found in times.items()}
        said = f"without: {p50['']:.0f} µs; at most {MOST_RATIO}"
        yield Row(FIGURES[1], f"{p50[folder]:.0f} µs", said, f"{p50[folder] / p50['']:.2f}")


def make_keys(folder: Path) -> None:
    """A key for each role, as ``cbw keys new`` makes them."""
    pairs = {role: new_pair() for role in ROLES}
    for role, pair in pairs.items():
        write_pair(folder, role, pair)
    write(folder / ALLOWED, [Key(role, pair.public, role) for role, pair in pairs.items()])


def _both(
    folder: str, take: Callable[[], Measured], value: Callable[[Measured], float]
) -> dict[str, Callable[[], float]]:
    def measured(keys: str) -> float:
        os.environ[KEYS.environment] = keys
        try:
            return value(take())
        finally:
            del os.environ[KEYS.environment]

    return {keys: partial(measured, keys) for keys in ("", folder)}


if __name__ == "__main__":
    print_rows(rows())
