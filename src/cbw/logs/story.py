"""The story of one request: what client, broker and workers recorded of it, in the order in which it happened.

The clocks of different hosts differ, so time alone does not give that order. Two rules do: the records of one sender keep
their order, and no effect stands before its cause (a task is handed out before it is begun, and done before it is answered).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec

from cbw.core import catalogue
from cbw.core.record import Record

BEGINNINGS = (catalogue.SENT, catalogue.ACCEPTED)
ENDS = (*catalogue.REQUEST_ENDS, catalogue.REFUSED, catalogue.ANSWER_DROPPED)
"""Events with which a broker records that it has nothing more to do for a request."""
_TASK_ENDS = {
    catalogue.ANSWERED: "answered",
    catalogue.FAILED: "failed",
    catalogue.ATTEMPT_FAILED: "lost",
    catalogue.RETURNED: "returned",
    catalogue.RETRIED: "retried",
    catalogue.GAVE_UP: "lost",
    catalogue.EXPIRED: "expired",
    catalogue.CANCELLED: "cancelled",
    catalogue.STOPPED: "stopped",
}
_SKEW_S = 0.001
"""Smallest difference of clocks that is told: below it an effect may well be recorded before its cause on one host."""


class StoryAttempt(msgspec.Struct, omit_defaults=True):
    """One attempt at the request. Times are seconds since the story's first record; None: nobody recorded it."""

    task: int
    attempt: int
    worker: str
    handed_out_s: float | None = None
    begun_s: float | None = None
    done_s: float | None = None
    outcome: str = "open"
    reason: str = ""
    is_fenced: bool = False


class Story(msgspec.Struct):
    """What happened to a request. ``records`` are in the order in which it happened.

    ``outcome`` is how the broker ended the request, or else what the client got. ``took_s`` is the time from the first record
    to the one that ends the request. ``skew_s`` is how far clocks differ at least; 0: there is no sign that they do.
    """

    request: str
    client: str
    service: str
    outcome: str
    worker: str
    took_s: float | None
    attempts: list[StoryAttempt]
    fenced: list[str]
    skew_s: float
    earlier: int
    records: list[Record]


def tell(request: str, records: Sequence[Record]) -> Story:
    """The story of ``request`` from ``records``, at least one; those of each sender must be in their order.

    A client that starts again numbers its requests from 1 again. Then the story is that of the last request with this name,
    and ``earlier`` counts the others.
    """
    lives = _lives(in_order(records))
    records = lives[-1]
    start = records[0].at
    attempts: dict[int, StoryAttempt] = {}
    fenced: dict[str, None] = {}
    outcome = worker = service = client = ""
    ended_at = None
    for record in records:
        service, client = service or record.service, client or record.client
        since = round(record.at - start, 6)
        if record.task and record.event != catalogue.FENCED:
            attempt = attempts.setdefault(record.task, StoryAttempt(record.task, record.attempt, record.worker))
            attempt.attempt = attempt.attempt or record.attempt
            _note(attempt, record, since)
        if record.event == catalogue.FENCED:
            fenced[record.worker] = None
            if record.task in attempts:
                attempts[record.task].is_fenced = True
        elif record.event == catalogue.ACCEPTED and outcome == catalogue.REFUSED:  # it was sent again
            outcome, ended_at = "", None
        elif record.role == "broker" and record.event in ENDS and (outcome not in ENDS or outcome == catalogue.REFUSED):
            outcome, worker, ended_at = record.event, record.worker, record.at
        elif record.role == "client" and record.event in (catalogue.GOT, catalogue.FAILED):
            outcome, ended_at = outcome or record.event, record.at
    for number, attempt in enumerate(attempts.values(), 1):
        attempt.attempt = attempt.attempt or number
    return Story(
        request,
        client or request.rpartition("/")[0],
        service,
        outcome or "open",
        worker if outcome in (catalogue.ANSWERED, catalogue.FAILED) else "",
        None if ended_at is None else round(ended_at - start, 6),
        list(attempts.values()),
        list(fenced),
        round(_skew(records), 6),
        len(lives) - 1,
        list(records),
    )


def in_order(records: Sequence[Record]) -> list[Record]:
    """``records`` so that no effect stands before its cause, and otherwise in the order of time."""
    after: list[list[int]] = [[] for _ in records]
    waits = [0] * len(records)
    last: dict[tuple[str, str, str], int] = {}
    causes: dict[_Cause, list[int]] = {}
    for number, record in enumerate(records):
        if (cause := _is_cause(record)) is not None:
            causes.setdefault(cause, []).append(number)
    for number, record in enumerate(records):
        sender = (record.role, record.sender, record.boot)
        found = [last[sender]] if sender in last else []
        last[sender] = number
        for cause in _causes_of(record):
            if others := causes.get(cause):  # a name that was used twice has several: it is the nearest
                found.append(min(others, key=lambda other: abs(records[other].at - record.at)))
        for other in found:
            after[other].append(number)
            waits[number] += 1

    ready = [(record.at, number) for number, record in enumerate(records) if not waits[number]]
    heapq.heapify(ready)
    ordered: list[int] = []
    left = dict.fromkeys(range(len(records)))
    while left:
        if not ready:  # a circle, made by numbers that were used twice: then time must decide
            ready = [min((records[number].at, number) for number in left)]
        _, number = heapq.heappop(ready)
        if number not in left:
            continue
        del left[number]
        ordered.append(number)
        for other in after[number]:
            waits[other] -= 1
            if not waits[other] and other in left:
                heapq.heappush(ready, (records[other].at, other))
    return [records[number] for number in ordered]


_Cause = tuple[str, int]


def _is_cause(record: Record) -> _Cause | None:
    match record.role, record.event:
        case "client", catalogue.SENT:
            return (catalogue.SENT, 0)
        case "broker", catalogue.HANDED_OUT:
            return (catalogue.HANDED_OUT, record.task)
        case "worker", catalogue.BEGUN:
            return (catalogue.BEGUN, record.task)
        case "worker", catalogue.DONE | catalogue.ERROR:
            return ("ended", record.task)
        case "broker", catalogue.ANSWERED:
            return (catalogue.ANSWERED, 0)
        case _:
            return None


def _causes_of(record: Record) -> tuple[_Cause, ...]:
    task = record.task
    match record.role, record.event:
        case "broker", catalogue.ACCEPTED:
            return ((catalogue.SENT, 0),)
        case "worker", catalogue.BEGUN:
            return ((catalogue.HANDED_OUT, task),)
        case "worker", catalogue.DONE | catalogue.ERROR:
            return ((catalogue.HANDED_OUT, task), (catalogue.BEGUN, task))
        case "broker", catalogue.ANSWERED | catalogue.FAILED | catalogue.RETRIED | catalogue.FENCED:
            return (("ended", task),)
        case "client", catalogue.GOT:
            return ((catalogue.ANSWERED, 0),)
        case _:
            return ()


def _lives(records: list[Record]) -> list[list[Record]]:
    """The records of each request with this name, oldest request first."""
    lives: list[list[Record]] = [[]]
    is_over = is_refused = False
    for record in records:
        is_unsent = record.event == catalogue.ACCEPTED and lives[-1] and lives[-1][-1].event != catalogue.SENT
        is_sent = record.event == catalogue.SENT
        # What was refused may be sent again under the same name, without another "sent".
        if (is_over and (is_sent or is_unsent)) or (is_refused and is_sent):
            lives.append([])
            is_over = is_refused = False
        is_refused |= record.event == catalogue.REFUSED
        is_end = record.role == "broker" and record.event in ENDS and record.event != catalogue.REFUSED
        is_over |= record.event == catalogue.GOT or is_end
        lives[-1].append(record)
    return lives


def _note(attempt: StoryAttempt, record: Record, since: float) -> None:
    match record.role, record.event:
        case "broker", catalogue.HANDED_OUT:
            attempt.handed_out_s = since
            attempt.worker = record.worker
        case "worker", catalogue.BEGUN:
            attempt.begun_s = since
        case "worker", catalogue.DONE | catalogue.ERROR:
            attempt.done_s = since
        case "broker", event if event in _TASK_ENDS:
            attempt.outcome = _TASK_ENDS[event]
            attempt.reason = record.text
        case _:
            pass


def _skew(records: Iterable[Record]) -> float:
    """How far the clocks of two senders differ at least, by the effects that have an earlier time than their cause."""
    latest = most = 0.0
    for record in records:
        most = max(most, latest - record.at)
        latest = max(latest, record.at)
    return most if most > _SKEW_S else 0.0
