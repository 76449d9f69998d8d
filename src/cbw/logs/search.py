"""Find the lines of a log that meet a query. Bytes are compared first, and only lines that may meet it are decoded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from cbw.core.catalogue import EVENTS, LEVELS
from cbw.core.record import Record, level_of
from cbw.errors import UsageError
from cbw.logs.files import SLACK_S, Part, newest_in, time_at

FIELDS = ("request", "client", "worker", "sender", "service", "event", "role")
"""Fields that a query may name, the most selective first: lines are searched for by the first one that the query names."""
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")

_ABOUT_ENDS = re.compile(r"\\[AZ]")
"""Patterns that would match at the ends of a block of lines instead of a line."""

_decode = msgspec.json.Decoder(Record).decode
_encode = msgspec.json.Encoder().encode


def record_of(line: bytes) -> Record | None:
    """The record in ``line``; None if it is a line of text."""
    if not line.startswith(b"{"):
        return None
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Query(msgspec.Struct, frozen=True):
    """Conditions for a line: all of them must hold; one with several values holds if any of these fits.

    ``since`` and ``until`` are seconds since 1970. ``fields`` have names of :data:`FIELDS`; lines of text have no fields, and the
    empty service is that of requests without one. ``level`` is the lowest level, one of :data:`LEVELS`; lines of text have none.
    ``patterns`` are regular expressions, each of which must match somewhere in the line as it stands in the file.
    """

    since: float = 0.0
    until: float = math.inf
    fields: dict[str, tuple[str, ...]] = {}
    patterns: tuple[str, ...] = ()
    level: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether it is about a period, and not about the whole log."""
        return self.since > 0 or self.until < math.inf


class Search:
    """A query that has been compiled.

    Raises:
        UsageError: a pattern is not a regular expression.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self._is_timed = query.is_timed
        self._fields = {name: query.fields[name] for name in FIELDS if query.fields.get(name)}
        self._tests: list[Callable[[bytes], object]] = []
        self._candidates: Callable[[bytes], Iterator[tuple[int, int]]] = _every_line
        has_candidates = False
        for name, values in self._fields.items():
            if name == "service" and "" in values:  # a record does not tell that it has none
                continue
            literals = _literals(name, values)
            if not has_candidates:
                self._candidates = _lines_with(literals)
                has_candidates = True
            else:
                self._tests.append(re.compile(b"|".join(map(re.escape, literals))).search)
        self._levels = frozenset(LEVELS[LEVELS.index(query.level) :]) if query.level else frozenset()
        if self._levels:
            may_be = _level_pattern(self._levels)
            if not has_candidates:
                self._candidates = _lines_matching(may_be)
                has_candidates = True
            else:
                self._tests.append(may_be.search)
        for pattern in query.patterns:
            if not has_candidates and not _ABOUT_ENDS.search(pattern):
                is_literal = pattern and not _SPECIAL.search(pattern)
                self._candidates = (
                    _lines_with([pattern.encode()]) if is_literal else _lines_matching(_compiled(pattern))
                )
                has_candidates = True
            self._tests.append(_compiled(pattern).search)

    def lines(self, block: bytes) -> Iterator[bytes]:
        """The lines of ``block`` that meet the query, without their newlines."""
        if self._candidates is _every_line and not (self._is_timed or self._tests or self._fields):
            yield from block.split(b"\n")[:-1]
            return
        since, until = self.query.since, self.query.until
        for start, end in self._candidates(block):
            line = block[start:end]
            if not all(test(line) for test in self._tests):
                continue
            if self._is_timed and (at := time_at(block, start)) is not None and not since <= at <= until:
                continue
            if (self._fields or self._levels) and not self._is_meant(record_of(line)):
                continue
            yield line

    def _is_meant(self, record: Record | None) -> bool:
        if record is None or not all(_has(record, name, values) for name, values in self._fields.items()):
            return False
        return not self._levels or level_of(record) in self._levels


def found(parts: Iterable[Part], search: Search) -> Iterator[list[bytes]]:
    """The lines that meet the query, oldest first, a list for each block."""
    query = search.query
    for part in parts:
        if not part.covers(query.since, query.until):
            continue
        for block in part.blocks(query.since):
            yield list(search.lines(block))
            if query.until < math.inf and (newest := newest_in(block)) and newest > query.until + SLACK_S:
                break


def last_found(parts: list[Part], search: Search, count: int) -> list[bytes]:
    """The last ``count`` lines that meet the query, oldest first. The log is read from its end, no further than needed."""
    query = search.query
    lines: list[list[bytes]] = []
    left = count
    for part in reversed(parts):
        if left <= 0:
            break
        if not part.covers(query.since, query.until):
            continue
        for block in part.blocks_backward():
            if left <= 0:
                break
            hits = list(search.lines(block))[-left:]
            left -= len(hits)
            lines.append(hits)
            if (newest := newest_in(block)) is not None and newest < query.since - SLACK_S:
                break
    return [line for hits in reversed(lines) for line in hits]


def _has(record: Record, name: str, values: tuple[str, ...]) -> bool:
    if name == "client" and record.request.rpartition("/")[0] in values:
        return True
    if name == "service" and not record.service:  # of the nameless service, or about no request
        return "" in values and bool(record.request)
    return getattr(record, name) in values


def _literals(name: str, values: tuple[str, ...]) -> list[bytes]:
    """The bytes of a line whose field ``name`` has one of ``values``."""
    found = [b'"%b":%b' % (name.encode(), _encode(value)) for value in values]
    if name == "client":  # workers know a request, whose name begins with its client's
        found += [b'"request":' + _encode(value)[:-1] + b"/" for value in values]
    return found


def _level_pattern(levels: frozenset[str]) -> re.Pattern[bytes]:
    """What stands in every record of these levels: its level, or an event that is not of another level."""
    others = [re.escape(name.encode()) for name, meaning in EVENTS.items() if meaning.level not in levels]
    named = b"|".join(level.encode() for level in sorted(levels))
    an_event = rb'"event":"(?!(?:%b)")' % b"|".join(others) if others else b'"event":"'
    return re.compile(b'"level":"(?:%b)"|%b' % (named, an_event))


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        return re.compile(pattern.encode(), re.MULTILINE)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}", advice="Put \\ before ( [ * + ?") from None


# --- the lines of a block that may meet a query, each as (start, end)


def _every_line(block: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    while (end := block.find(b"\n", start)) >= 0:
        yield start, end
        start = end + 1


def _lines_with(literals: list[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    if len(literals) > 1:
        return _lines_matching(re.compile(b"|".join(map(re.escape, literals))))
    literal = literals[0]

    def lines(block: bytes) -> Iterator[tuple[int, int]]:
        at = block.find(literal)
        while at >= 0:
            end = block.find(b"\n", at)
            yield block.rfind(b"\n", 0, at) + 1, end
            at = block.find(literal, end)

    return lines


def _lines_matching(pattern: re.Pattern[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    def lines(block: bytes) -> Iterator[tuple[int, int]]:
        at = 0
        while hit := pattern.search(block, at):
            start = block.rfind(b"\n", 0, hit.start()) + 1
            end = block.find(b"\n", hit.start())
            if end < 0:  # the end of the block
                return
            at = end + 1
            yield start, end

    return lines
