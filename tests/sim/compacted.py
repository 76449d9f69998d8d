"""``cbw journal compact`` changes nothing: a journal that it has written says what the one before said."""

from __future__ import annotations

from cbw.core.broker.replay import Replay
from cbw.core.journal_records import Batch
from cbw.wire.journal import encode_batch

from .world import ViolationError

TABLES = ("accepted", "begun", "failures", "delayed", "answers", "dead", "workers")


def need_same_compacted(replay: Replay) -> None:
    """
    Raises:
        ViolationError: something else would be read in what is still needed of ``replay``, if that alone was written again.
    """
    copy = Replay()
    copy.read(replay.position + 1, encode_batch(Batch(replay.at, list(replay.records()))))
    for table in TABLES:
        before, after = getattr(replay, table), getattr(copy, table)
        if before != after:
            raise ViolationError(f"journal: compacted, it has other {table}: {after}, not {before}")
    if [*copy.written] != [*replay.written]:
        raise ViolationError("journal: compacted, it has another order")
