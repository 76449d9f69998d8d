"""Find the records of one request in a log of any size: from its end backwards, no further than to the first of them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Sequence

import msgspec

from cbw.core.record import Record
from cbw.logs.files import Part, newest_in
from cbw.logs.search import record_of
from cbw.logs.story import BEGINNINGS, StoryAttempt, tell

BEFORE_S = 5.0
"""How much earlier in the log than its first record, by time, a request may have others: another sender's batch overtook."""
BEFORE_BYTES = 8 << 20
"""Bytes of such earlier records after which the search ends: no batch of a sender is larger."""
NEAR_BYTES = 64 << 20
"""Bytes at the end of the log in which names are looked for that resemble one that is not there."""
NEAR_MAX = 5
"""Names that are suggested."""
_JOIN_S = 86400.0
"""A worker's record that is older or younger by this is of another task: brokers may use the same numbers by chance."""

_encode = msgspec.json.Encoder().encode


def records_of(parts: Sequence[Part], request: str) -> list[Record]:
    """All records of ``request``, in the order of the file.

    Records of workers, and ``fenced``, may name only a task: they are found by the tasks that the broker handed out.
    """
    blocks: list[list[Record]] = []
    began_at: float | None = None
    older = 0
    passed: list[tuple[Part, int]] = []
    for part in reversed(parts):
        passed.append((part, 0))
        for block in part.blocks_backward():
            passed[-1] = (part, passed[-1][1] + 1)
            hits = [record for record in _with(block, b'"request":' + _encode(request)) if record.request == request]
            blocks.append(hits)
            began_at = next((record.at for record in hits if record.event in BEGINNINGS), began_at)
            if began_at is not None:
                newest = newest_in(block)
                older = older + len(block) if newest is not None and newest < began_at - BEFORE_S else 0
                if older > BEFORE_BYTES:
                    break
        if older > BEFORE_BYTES:
            break
    found = [record for hits in reversed(blocks) for record in hits]
    return _joined(found, passed, request) if found else []


def near(parts: Sequence[Part], request: str) -> list[str]:
    """Names of recent requests that may be meant by ``request``: of its client those with the nearest numbers, or else those of
    other clients with its number.
    """
    client, _, number = request.rpartition("/")
    names: dict[str, None] = {}
    others: dict[str, None] = {}
    seen = 0
    pattern = re.compile(rb'"request":"((?:[^"\\]|\\.)+)"')
    for block in itertools.chain.from_iterable(part.blocks_backward() for part in reversed(parts)):
        if seen >= NEAR_BYTES:
            break
        seen += len(block)
        for name in dict.fromkeys(pattern.findall(block)):
            with contextlib.suppress(msgspec.DecodeError):  # a line of text that only looks like a record
                text = msgspec.json.decode(b'"' + name + b'"', type=str)
                (names if text.rpartition("/")[0] == client else others)[text] = None
    if number.isdigit() and names:
        by_number = [name for name in names if name.rpartition("/")[2].isdigit()]
        return sorted(by_number, key=lambda name: abs(int(name.rpartition("/")[2]) - int(number)))[:NEAR_MAX]
    return [name for name in others if number and name.rpartition("/")[2] == number][:NEAR_MAX]


def _with(block: bytes, literal: bytes) -> Iterable[Record]:
    at = block.find(literal)
    while at >= 0:
        end = block.find(b"\n", at)
        record = record_of(block[block.rfind(b"\n", 0, at) + 1 : end])
        if record is not None:
            yield record
        at = block.find(literal, end)


def _joined(found: list[Record], passed: list[tuple[Part, int]], request: str) -> list[Record]:
    """``found`` and the records that name only the task. They are looked for only if there must be some."""
    wanted = {attempt.task: attempt for attempt in tell(request, found).attempts if _is_incomplete(attempt)}
    if not wanted:
        return found
    more: list[Record] = []
    for part, count in passed:
        for _, block in zip(range(count), part.blocks_backward(), strict=False):
            for task, attempt in wanted.items():
                more += [record for record in _with(block, b'"task":%d' % task) if _is_of(record, attempt)]
    more = [record for record in more if abs(record.at - found[0].at) < _JOIN_S]
    for record in more:
        record.request = request
    return sorted(found + more, key=lambda record: record.at)  # each sender has one clock


def _is_of(record: Record, attempt: StoryAttempt) -> bool:
    return record.task == attempt.task and not record.request and record.worker == attempt.worker


def _is_incomplete(attempt: StoryAttempt) -> bool:
    """Whether some records of ``attempt`` may lack the name of the request."""
    return attempt.outcome != "answered" or attempt.begun_s is None or attempt.done_s is None
