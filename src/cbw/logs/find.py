"""Finding the records of one request in a log of any size: from the end backwards, and no further than to its beginning."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import re
from collections.abc import Iterable, Sequence

import msgspec

from cbw.core.events import Record
from cbw.logs.files import Part, newest_in
from cbw.logs.search import record_of
from cbw.logs.story import BEGINNINGS, Attempt, tell

SLACK_S = 5.0
"""Records of a request may stand before its first one by so much: another sender's batch came earlier."""
SLACK_BYTES = 8 << 20
"""And behind as many bytes of records that came late: no batch of a sender is larger."""
NEAR_BYTES = 64 << 20
"""So far back is looked for names that resemble one that is not there."""
NEAR_MAX = 5
_JOIN_S = 86400.0
"""Task numbers are a broker's own, by chance like another's: a worker's record of another day is of another task."""

_encode = msgspec.json.Encoder().encode


def records_of(parts: Sequence[Part], request: str) -> list[Record]:
    """All records of ``request``, in the order of the file; none if it is not there.

    Workers' and ``fenced`` records that name only the task are joined by what the broker handed out.
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
                older = older + len(block) if newest is not None and newest < began_at - SLACK_S else 0
                if older > SLACK_BYTES:
                    break
        if older > SLACK_BYTES:
            break
    found = [record for hits in reversed(blocks) for record in hits]
    return _joined(found, passed, request) if found else []


def near(parts: Sequence[Part], request: str) -> list[str]:
    """Names of requests late in the log that resemble ``request``: of its client if there are any."""
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
    return difflib.get_close_matches(request, [*names, *others][:10_000], NEAR_MAX, 0.5)


def _with(block: bytes, literal: bytes) -> Iterable[Record]:
    at = block.find(literal)
    while at >= 0:
        end = block.find(b"\n", at)
        record = record_of(block[block.rfind(b"\n", 0, at) + 1 : end])
        if record is not None:
            yield record
        at = block.find(literal, end)


def _joined(found: list[Record], passed: list[tuple[Part, int]], request: str) -> list[Record]:
    """``found`` and the records that know only the task. Who needs none pays nothing: a second look is as long as the first."""
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


def _is_of(record: Record, attempt: Attempt) -> bool:
    return record.task == attempt.task and not record.request and record.worker == attempt.worker


def _is_incomplete(attempt: Attempt) -> bool:
    """Whether records of it may lack the request's name."""
    return attempt.outcome != "answered" or attempt.begun_s is None or attempt.done_s is None
