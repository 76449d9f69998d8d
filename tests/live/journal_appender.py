"""Appends to the journal in a folder: ``python -m tests.live.journal_appender FOLDER KEPT [APPENDS]``.

Goes on until it is killed, or has appended so often. The newest ``KEPT`` batches are never dropped. Prints the position of
each batch that is durable. Batches are large and small, and old ones are dropped now and then, so that a kill also comes in
the middle of a checkpoint, of a compaction and of giving space back.
"""

from __future__ import annotations

import functools
import itertools
import random
import sys
from pathlib import Path

from cbw.journal import file
from cbw.journal.backend import Append
from cbw.journal.file import FileJournal


@functools.cache
def batch(position: int) -> bytes:
    """The batch at a position: its bytes follow from that."""
    draw = random.Random(position)
    return draw.randbytes(draw.choice([20, 400, 6000, 50_000]))


def append(folder: Path, kept: int, appends: int | None) -> None:
    """Append one to five batches at a time."""
    file.CHECKPOINT_BYTES = 200_000
    file.SPARE_PAGES = 10
    journal = FileJournal(folder)
    for _ in journal.open():
        pass
    for _ in itertools.count() if appends is None else range(appends):
        position = journal.next_position
        count = random.Random(position).randrange(1, 6)
        if journal.append(position, [batch(position + step) for step in range(count)]) is not Append.DURABLE:
            raise AssertionError(f"position {position} was refused")
        print(position + count - 1, flush=True)
        while journal.compact(position - kept) and appends is not None:
            pass
    journal.close()


if __name__ == "__main__":
    append(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
