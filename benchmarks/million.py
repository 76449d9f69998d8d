"""``python -m benchmarks.million``: a million requests wait in a broker with a journal, which is killed: time and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.durable import WAITING_MANY, restart
from benchmarks.figure import Row, print_rows

FIGURES = (
    f"broker SIGKILLed to the first answer of its successor, {WAITING_MANY:,} requests waiting",
    f"memory of the broker for each of {WAITING_MANY:,} requests that wait, and of its successor",
)


def rows() -> Iterator[Row]:
    """One restart."""
    with tempfile.TemporaryDirectory(prefix="cbw-million-") as folder:
        done = restart(Path(folder, "journal"), WAITING_MANY)
    yield Row(FIGURES[0], f"{done.seconds:.1f} s")
    before, after = done.before_bytes / WAITING_MANY, done.after_bytes / WAITING_MANY
    yield Row(FIGURES[1], f"{before:.0f} bytes, {after:.0f} bytes")


if __name__ == "__main__":
    print_rows(rows())
