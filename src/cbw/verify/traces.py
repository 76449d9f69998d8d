"""Traces and logs of any length in the order of time, in memory that does not grow with their length.

A log is only roughly ordered: senders' batches overtake each other, and what was recorded while the logger was away comes
long after. So a trace is read twice. The first pass finds the records that come too late to be sorted in passing, and keeps
them in memory; they are many only if a logger was away for minutes, or a host's clock is wrong. The second pass merges them in.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.logs.files import Part, opened
from cbw.logs.search import record_of

UNORDERED_MAX = 20_000
"""Records within which disorder is sorted in passing: a few seconds of a busy system, in about 10 MB."""


def ordered(path: str) -> Iterator[Record]:
    """The records of the trace or log at ``path``, with its rotated files, in the order of time. Lines of text are left out.

    Raises:
        UsageError: it cannot be read to its end, or holds lines but no record.
    """
    with opened(path) as parts:
        late: list[Record] = []
        count = sum(1 for _ in _in_window(_records(parts), late.append))
        if not count and any(
            _is_foreign(line) for part in parts for block in part.blocks() for line in block.split(b"\n") if line
        ):
            raise UsageError(
                f"{path} is no trace: no line of it is a record", advice="Run the roles with --trace FILE."
            )
        for part in parts:
            if part.damage:
                raise UsageError(f"{part.path} is damaged: {part.damage}", advice="What it says cannot be judged.")
        again = itertools.islice(_records(parts), count + len(late))  # a log may have grown meanwhile
        yield from heapq.merge(_in_window(again, lambda _: None), sorted(late, key=_at), key=_at)


def _in_window(records: Iterable[Record], put_late: Callable[[Record], None]) -> Iterator[Record]:
    """``records`` in the order of time; ``put_late`` gets those that come too late for that."""
    window: list[Record] = []
    passed_at = -math.inf
    for record in records:
        if record.at < passed_at:
            put_late(record)
            continue
        window.append(record)
        if len(window) >= 2 * UNORDERED_MAX:
            window.sort(key=_at)
            passed_at = window[UNORDERED_MAX - 1].at
            yield from window[:UNORDERED_MAX]
            del window[:UNORDERED_MAX]
    window.sort(key=_at)
    yield from window


def _records(parts: Iterable[Part]) -> Iterator[Record]:
    for part in parts:
        for block in part.blocks():
            # Line by line: the JSON of a whole block may have records that go over two lines of text, which nobody recorded.
            yield from filter(None, map(record_of, block.split(b"\n")))


def _is_foreign(line: bytes) -> bool:
    """Whether ``line`` does not begin like a record. One that does is incomplete: its role was killed while it wrote."""
    return not line.startswith(b'{"at":')


def _at(record: Record) -> float:
    return record.at
