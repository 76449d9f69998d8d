"""The journal against a bare file with fdatasync on the same disk. ``python -m benchmarks.journal [FOLDER]``."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.figure import Row, in_turns, median, print_rows
from cbw.journal.file import FileJournal
from cbw.journal.mounts import file_system_of
from cbw.journal.writer import Writer

BATCH = os.urandom(256 * 200)
"""A turn of 256 records of 200 bytes."""
BATCHES = 500
"""Of one round: 25 MB, so that the log is copied into the database six times."""
ROUNDS = 5
AHEAD = 16
"""Batches that the loop hands over before it waits: what gathers is appended together."""
REPLAYED = 4000
"""Batches that are read again: 1,024,000 records."""
FIGURES = ("journal, one batch of 51 kB at a time", "journal, 16 such batches ahead", "journal, reading it again")


def rows() -> Iterator[Row]:
    """Lone batches, batches that gather, and a start."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        lone = partial(appended_s, folder, 1)
        ahead = partial(appended_s, folder, AHEAD)
        bare = partial(bare_s, folder)
        bare_ahead = partial(bare_s, folder, AHEAD)
        results = in_turns(ROUNDS, {"lone": lone, "bare": bare, "ahead": ahead, "bare ahead": bare_ahead})
        for figure, ours, theirs in ((FIGURES[0], "lone", "bare"), (FIGURES[1], "ahead", "bare ahead")):
            seconds, peer = median(results[ours]), median(results[theirs])
            said = f"bare file on {file_system_of(folder)}: {_rates(peer)}"
            yield Row(figure, _rates(seconds), said, f"{peer / seconds:.2f}")
        seconds = read_s(folder)
        rate = f"{REPLAYED * 256 / seconds / 1e6:.1f} M records/s, {REPLAYED * len(BATCH) / seconds / 1e6:,.0f} MB/s"
        yield Row(FIGURES[2], rate)


def _rates(seconds: float) -> str:
    """Of a round that took so long."""
    return f"{BATCHES / seconds:,.0f} batches/s, {BATCHES * len(BATCH) / seconds / 1e6:,.0f} MB/s"


def appended_s(folder: Path, ahead: int) -> float:
    """Seconds until a writer has stored the batches, with so many handed over at a time."""
    journal = FileJournal(folder / "journal")
    for _ in journal.open():
        pass
    woken = threading.Semaphore(0)
    writer = Writer(journal, woken.release)
    first = journal.next_position
    began_at = time.perf_counter()
    for position in range(first, first + BATCHES):
        writer.put(position, BATCH)
        while writer.stored <= position - ahead:
            woken.acquire()
    while writer.stored < first + BATCHES - 1:
        woken.acquire()
    seconds = time.perf_counter() - began_at
    writer.compact(first + BATCHES)
    writer.close()
    return seconds


def bare_s(folder: Path, together: int = 1) -> float:
    """Seconds to write the batches to a file, with fdatasync after every ``together`` of them."""
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    try:
        began_at = time.perf_counter()
        for number in range(BATCHES):
            os.write(descriptor, BATCH)
            if (number + 1) % together == 0:
                os.fdatasync(descriptor)
        os.fdatasync(descriptor)
        return time.perf_counter() - began_at
    finally:
        os.close(descriptor)


def read_s(folder: Path) -> float:
    """Seconds to open a journal and to read all of it, as a broker does that starts; from the cache of the system."""
    journal = FileJournal(folder / "long")
    list(journal.open())
    for position in range(1, REPLAYED + 1, 8):
        journal.append(position, [BATCH] * 8)
    journal.close()
    journal = FileJournal(folder / "long")
    began_at = time.perf_counter()
    assert sum(1 for _ in journal.open()) == REPLAYED
    seconds = time.perf_counter() - began_at
    journal.close()
    return seconds


if __name__ == "__main__":
    print_rows(rows())
