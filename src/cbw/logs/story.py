"""The story of one request: all that client, broker and workers recorded of it, put in the order in which it happened.

Clocks of different hosts differ, so time alone does not order it: what one sender recorded stays in its order, and no effect
stands before its cause (a task is handed out before it is begun, and done before it is answered).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

import msgspec

from cbw.core.events import Record
from cbw.vocabulary import REQUEST_ENDS

BEGINNINGS = ("sent", "accepted")
ENDS = (*REQUEST_ENDS, "refused", "answer_dropped")
"""The broker's last words on a request."""
_TASK_ENDS = {
    "answered": "answered",
    "failed": "failed",
    "attempt_failed": "lost",
    "returned": "returned",
    "gave_up": "lost",
    "expired": "expired",
    "cancelled": "cancelled",
    "stopped": "stopped",
}
_SKEW_S = 0.001


class Attempt(msgspec.Struct, omit_defaults=True):
    """One handing out. Times are seconds since the story's first record; None is what nobody recorded."""

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
    """``outcome`` is the broker's last word, else the client's. ``records`` are in the order in which things happened.

    ``took_s`` is from the first record to the last of client or broker that ends the request; ``skew_s`` how far clocks
    differ at least, 0 if there is no sign of it.
    """

    request: str
    client: str
    service: str
    outcome: str
    worker: str
    took_s: float | None
    attempts: list[Attempt]
    fenced: list[str]
    skew_s: float
    earlier: int
    records: list[Record]


def tell(request: str, records: Sequence[Record]) -> Story:
    """The story of ``request`` from its records, which are not empty and of each sender in their order.

    A client that starts anew numbers its requests from 1 again: then the last of that name is told, and ``earlier`` counts
    the others.
    """
    lives = _lives(in_order(records))
    records = lives[-1]
    start = records[0].at
    attempts: dict[int, Attempt] = {}
    fenced: dict[str, None] = {}
    outcome = worker = service = client = ""
    ended_at = None
    for record in records:
        service, client = service or record.service, client or record.client
        since = round(record.at - start, 6)
        if record.task and record.event != "fenced":
            attempt = attempts.setdefault(record.task, Attempt(record.task, record.attempt, record.worker))
            attempt.attempt = attempt.attempt or record.attempt
            _note(attempt, record, since)
        if record.event == "fenced":
            fenced[record.worker] = None
            if record.task in attempts:
                attempts[record.task].is_fenced = True
        elif record.role == "broker" and record.event in ENDS and outcome not in ENDS:
            outcome, worker, ended_at = record.event, record.worker, record.at
        elif record.role == "client" and record.event in ("got", "failed"):
            outcome, ended_at = outcome or record.event, record.at
    for number, attempt in enumerate(attempts.values(), 1):
        attempt.attempt = attempt.attempt or number
    return Story(
        request,
        client or request.rpartition("/")[0],
        service,
        outcome or "open",
        worker if outcome in ("answered", "failed") else "",
        None if ended_at is None else round(ended_at - start, 6),
        list(attempts.values()),
        list(fenced),
        round(_skew(records), 6),
        len(lives) - 1,
        list(records),
    )


def in_order(records: Sequence[Record]) -> list[Record]:
    """``records`` so that no effect stands before its cause; where causes do not tell, by the time."""
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
            if others := causes.get(cause):  # a name that was used twice has several: the nearest is it
                found.append(min(others, key=lambda other: abs(records[other].at - record.at)))
        for other in found:
            after[other].append(number)
            waits[number] += 1

    ready = [(record.at, number) for number, record in enumerate(records) if not waits[number]]
    heapq.heapify(ready)
    ordered: list[int] = []
    left = dict.fromkeys(range(len(records)))
    while left:
        if not ready:  # a circle, from numbers that were used twice: then the time must do
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
        case "client", "sent":
            return ("sent", 0)
        case "broker", "handed_out":
            return ("handed_out", record.task)
        case "worker", "begun":
            return ("begun", record.task)
        case "worker", "done" | "error":
            return ("ended", record.task)
        case "broker", "answered":
            return ("answered", 0)
        case _:
            return None


def _causes_of(record: Record) -> tuple[_Cause, ...]:
    task = record.task
    match record.role, record.event:
        case "broker", "accepted":
            return (("sent", 0),)
        case "worker", "begun":
            return (("handed_out", task),)
        case "worker", "done" | "error":
            return (("handed_out", task), ("begun", task))
        case "broker", "answered" | "failed" | "fenced":
            return (("ended", task),)
        case "client", "got":
            return (("answered", 0),)
        case _:
            return ()


def _lives(records: list[Record]) -> list[list[Record]]:
    """The records of each request of that name, oldest first."""
    lives: list[list[Record]] = [[]]
    is_over = False
    for record in records:
        is_new = record.event == "sent" or (record.event == "accepted" and lives[-1] and lives[-1][-1].event != "sent")
        if is_new and is_over:
            lives.append([])
            is_over = False
        is_over |= record.event == "got" or (record.role == "broker" and record.event in ENDS)
        lives[-1].append(record)
    return lives


def _note(attempt: Attempt, record: Record, since: float) -> None:
    match record.role, record.event:
        case "broker", "handed_out":
            attempt.handed_out_s = since
            attempt.worker = record.worker
        case "worker", "begun":
            attempt.begun_s = since
        case "worker", "done" | "error":
            attempt.done_s = since
        case "broker", event if event in _TASK_ENDS:
            attempt.outcome = _TASK_ENDS[event]
            attempt.reason = record.text
        case _:
            pass


def _skew(records: Iterable[Record]) -> float:
    """How far, at least, the clocks of two senders differ, if an effect has an earlier time than its cause."""
    latest = most = 0.0
    for record in records:
        most = max(most, latest - record.at)
        latest = max(latest, record.at)
    return most if most > _SKEW_S else 0.0
