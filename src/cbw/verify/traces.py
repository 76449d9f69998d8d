"""Traces and logs of any length in the order of time, in bounded memory.

A log is only roughly ordered: senders' batches overtake each other, and what was recorded while the logger was away comes
long after. So a trace is read twice. The first time finds what comes too late to be sorted in passing, and keeps it apart,
on disk if it is much; the second time puts it where it belongs.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import msgspec

from cbw.core.events import Record
from cbw.errors import UsageError
from cbw.logs.files import Part, opened
from cbw.logs.search import record_of

UNORDERED_MAX = 20_000
"""Records that may be out of order in passing: seconds of a busy system. They take about 10 MB."""
LATE_MAX = 50_000
"""More late records than these are sorted by parts, on disk."""

_decode_lines = msgspec.json.Decoder(Record).decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines


def ordered(path: str) -> Iterator[Record]:
    """The records of the trace or log at ``path``, with its rotated files, in the order of time. Lines of text are left out.

    Raises:
        UsageError: it cannot be read to its end, or holds lines, but no record.
    """
    with opened(path) as parts, contextlib.ExitStack() as stack:
        late = _Late(stack)
        count = 0
        for _ in _in_window(_records(parts), late.add):
            count += 1
        if not count and any(
            _is_foreign(line) for part in parts for block in part.blocks() for line in block.split(b"\n") if line
        ):
            raise UsageError(
                f"{path} is no trace: no line of it is a record", advice="Run the roles with --trace FILE."
            )
        for part in parts:
            if part.damage:
                raise UsageError(f"{part.path} is damaged: {part.damage}", advice="What it says cannot be judged.")
        again = itertools.islice(_records(parts), count + late.count)  # a log may have grown meanwhile
        yield from heapq.merge(_in_window(again, lambda _: None), late.in_order(), key=_at)


def _in_window(records: Iterable[Record], put_late: Callable[[Record], None]) -> Iterator[Record]:
    """``records`` in the order of time, but for those that come too late for it."""
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


class _Late:
    """Records kept apart until all of them are known."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.count = 0
        self._stack = stack
        self._records: list[Record] = []
        self._files: list[IO[bytes]] = []

    def add(self, record: Record) -> None:
        self.count += 1
        self._records.append(record)
        if len(self._records) >= LATE_MAX:
            self._records.sort(key=_at)
            file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            file.write(_encode_lines(self._records))
            self._files.append(file)
            self._records.clear()

    def in_order(self) -> Iterator[Record]:
        return heapq.merge(*map(_read, self._files), sorted(self._records, key=_at), key=_at)


def _read(file: IO[bytes]) -> Iterator[Record]:
    file.seek(0)
    for line in file:
        record = record_of(line)
        assert record is not None, "we wrote it"
        yield record


def _records(parts: Iterable[Part]) -> Iterator[Record]:
    for part in parts:
        for block in part.blocks():
            try:
                yield from _decode_lines(block)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # text, or somebody else's JSON
                yield from filter(None, map(record_of, block.split(b"\n")))


def _is_foreign(line: bytes) -> bool:
    """Whether it does not even begin as a record; one that does is torn: its role was killed while it wrote."""
    return not line.startswith(b'{"at":')


def _at(record: Record) -> float:
    return record.at
