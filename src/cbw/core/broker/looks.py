"""The broker's own services that tell of it and change nothing: ``cbw.status``, ``cbw.workers``, ``cbw.requests``, ``cbw.why``.

What goes in and out is JSON, described in ``docs/reference/control.md``. Times are ages in seconds, as a broker's core knows no
time of day.
"""

from __future__ import annotations

from heapq import nsmallest
from typing import Annotated, Any

import msgspec

from cbw.core.broker.finding import RequestFilter, State, find
from cbw.core.broker.own_services import Serve, json_answer, not_found, reading
from cbw.core.broker.reasons import Clause, in_english
from cbw.core.broker.snapshot import Rooms, shown_worker, snapshot, state_of
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry, WorkerRow, request_name
from cbw.core.broker.why import Reasons
from cbw.core.messages import Answer

LISTED_MAX = 1000
"""Most rows of one answer. More are asked for page by page."""
SHOW_STATUS, LIST_WORKERS, LIST_REQUESTS, TELL_WHY = (
    f"cbw.{name}" for name in ("status", "workers", "requests", "why")
)
REASONS_MAX = 20
"""Requests of one answer that are listed with their reasons: each takes up to 0.1 ms."""
TAKING = ("free", "busy")
"""States of workers that are given requests, as far as they want any."""
LIVING_STATES: tuple[State, ...] = ("running", "waiting", "delayed")

Rows = Annotated[int, msgspec.Meta(ge=1, le=LISTED_MAX)]
Offset = Annotated[int, msgspec.Meta(ge=0)]


class StatusQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.status``: nothing else."""


class WorkersQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.workers``: those of a ``service``, of a ``state``, or called ``worker``; with ``takes_requests``
    only those that take requests now, or will when they have answered one.
    """

    service: str | None = None
    state: str | None = None
    worker: str | None = None
    takes_requests: bool = False
    limit: Rows = 100
    offset: Offset = 0


class RequestsQuery(RequestFilter, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.requests``: those in a ``state``, or in any; ``why``: with the reasons of the first
    :data:`REASONS_MAX`.
    """

    state: State | None = None
    why: bool = False
    limit: Rows = 100
    offset: Offset = 0


class WhyQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.why``: of a request, by the name that it has in the trace."""

    request: str


class ShownRequest(msgspec.Struct):
    """A request that has not ended. It has been in its state for ``in_state_s``; one that is ``delayed`` is due in ``due_s``.
    ``why`` it has not ended, in words and as ``clauses``, is told if that was asked for.
    """

    request: str
    client: str
    service: str
    state: State
    attempt: int
    priority: int
    body_bytes: int
    age_s: float
    in_state_s: float
    worker: str | None = None
    task: int | None = None
    due_s: float | None = None
    deadline_s: float | None = None
    why: str | None = None
    clauses: list[Clause] | None = None


class WorkerPage(msgspec.Struct):
    """Workers, as the status page shows them."""

    matching: int
    offset: int
    workers: list[dict[str, Any]]


class RequestPage(msgspec.Struct):
    """Requests, those that have been in their state for longest first. ``is_complete``: all were looked at, and not only
    some of very many.
    """

    matching: int
    offset: int
    is_complete: bool
    requests: list[ShownRequest]


class Looks:
    """Answers of what is in ``rooms``."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._reasons = Reasons(rooms)

    @property
    def all(self) -> dict[str, Serve]:
        """The services, by name."""
        return {
            SHOW_STATUS: reading(SHOW_STATUS, StatusQuery, self._status),
            LIST_WORKERS: reading(LIST_WORKERS, WorkersQuery, self._workers),
            LIST_REQUESTS: reading(LIST_REQUESTS, RequestsQuery, self._requests),
            TELL_WHY: reading(TELL_WHY, WhyQuery, self._why),
        }

    def _status(self, client: ClientRow, _query: StatusQuery) -> Answer:
        questions = sum(
            entry.state is not RequestState.ENDED and entry.request.service == SHOW_STATUS
            for entry in client.entries.values()
        )
        return json_answer(snapshot(self._rooms, self._rooms.outbox.now, questions))

    def _workers(self, _client: ClientRow, query: WorkersQuery) -> Answer:
        now, rows = self._rooms.outbox.now, list(self._rooms.workers.by_peer.values())
        self._rooms.requests.durations.count()
        if query.worker is not None:
            rows = [row for row in rows if row.name == query.worker]
        if query.service is not None:
            rows = [row for row in rows if any(service.name == query.service for service in row.services)]
        if query.takes_requests:
            rows = [row for row in rows if _takes_requests(row)]
        found = [shown_worker(row, now) for row in rows]
        if query.state is not None:
            found = [row for row in found if row["state"] == query.state]
        page = found[query.offset : query.offset + query.limit]
        return json_answer(WorkerPage(len(found), query.offset, page))

    def _requests(self, _client: ClientRow, query: RequestsQuery) -> Answer:
        now = self._rooms.outbox.now
        found, is_complete = find(self._rooms, query, LIVING_STATES if query.state is None else [query.state], now)
        oldest = nsmallest(query.offset + query.limit, found, key=_since)
        page = [_shown(entry, now) for entry in oldest[query.offset :]]
        if query.why:
            told = self._reasons.of_rows(oldest[query.offset :][:REASONS_MAX], now)
            for row, clauses in zip(page, told, strict=False):
                row.why, row.clauses = in_english(clauses), clauses
        return json_answer(RequestPage(len(found), query.offset, is_complete, page))

    def _why(self, _client: ClientRow, query: WhyQuery) -> Answer:
        told = self._reasons.of_name(query.request, self._rooms.outbox.now)
        if told is None:
            text = f"no request {query.request!r} is here: it has ended and its answer is delivered, or it never came"
            return not_found(text)
        return json_answer(told)


def _takes_requests(worker: WorkerRow) -> bool:
    """Now, or when it has answered one; a worker that is elsewhere gives its next slot to a broker whose requests wait."""
    state = state_of(worker)
    return state == "elsewhere" or (state in TAKING and worker.credit > 0)


def _since(entry: Entry) -> float:
    """Since when it is in its state."""
    if entry.worker is not None:
        return entry.handed_out_at
    return entry.accepted_at if entry.state is RequestState.DELAYED else entry.waits_since


def _shown(entry: Entry, now: float) -> ShownRequest:
    request, worker = entry.request, entry.worker
    is_delayed = entry.state is RequestState.DELAYED and entry.delay is not None
    return ShownRequest(
        request_name(entry),
        entry.client.name,
        request.service,
        "running" if worker is not None else "delayed" if is_delayed else "waiting",
        entry.attempt,
        request.priority,
        len(request.body),
        round(now - entry.accepted_at, 3),
        round(now - _since(entry), 3),
        worker.name if worker is not None else None,
        entry.task if worker is not None else None,
        round(entry.delay.until - now, 3) if is_delayed and entry.delay is not None else None,
        round(entry.deadline_at - now, 3) if entry.deadline_at is not None else None,
    )
