"""The broker's own services by which people steer it: cancel requests, drain workers, pause services, purge what waits.

What goes in and out is JSON, described in ``docs/reference/control.md``. Each act is recorded with who asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from cbw.core import catalogue
from cbw.core.broker.finding import RequestFilter, entry_of, find
from cbw.core.broker.looks import LISTED_MAX, Rows
from cbw.core.broker.own_services import Serve, bad_request, json_answer, reading
from cbw.core.broker.snapshot import Rooms
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.catalogue import EventName
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import Answer, Recall

CANCEL, DRAIN, UNDRAIN, PAUSE, RESUME, PURGE = (
    f"cbw.{name}" for name in ("cancel", "drain", "undrain", "pause", "resume", "purge")
)
PAUSED_MAX = 1000
"""Services that may be paused at a time: a paused one is remembered even if nobody asks for it or serves it."""
TOLD_CHARS_MAX = 300
"""Characters of what an act was about that are recorded."""

Names = Annotated[list[str], msgspec.Meta(min_length=1, max_length=LISTED_MAX)]


class CancelQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.cancel``: to end these requests, by the names that they have in the trace."""

    requests: Names


class DrainQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.drain``: to give these workers nothing more; and ``cbw.undrain``: to give them work again."""

    workers: Names


class PauseQuery(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks ``cbw.pause``: to let the requests of these services wait; and ``cbw.resume``: to go on."""

    services: Names


class PurgeQuery(RequestFilter, kw_only=True, forbid_unknown_fields=True):
    """What a client asks ``cbw.purge``: to end requests that no worker has, at most ``limit``. ``all`` has to be said where
    nothing else says which.
    """

    all: bool = False
    limit: Rows = LISTED_MAX


class CancelledRequests(msgspec.Struct):
    """What ``cbw.cancel`` answers: how many requests it has ended, and the names of those that are not here or have ended."""

    cancelled: int
    missing: list[str]


class Purged(msgspec.Struct):
    """What ``cbw.purge`` answers: how many requests it has ended, and whether all were looked at. If not, ask again."""

    purged: int
    is_complete: bool


class Drained(msgspec.Struct):
    """What ``cbw.drain`` answers: how many workers get nothing more now, and the names of those that are not here."""

    drained: int
    missing: list[str]


class Undrained(msgspec.Struct):
    """What ``cbw.undrain`` answers: how many workers get work again, and the names of those that were not drained."""

    undrained: int
    missing: list[str]


class Paused(msgspec.Struct):
    """What ``cbw.pause`` answers: how many services it has paused, and all that are paused now."""

    paused: int
    all_paused: list[str]


class Resumed(msgspec.Struct):
    """What ``cbw.resume`` answers: how many services go on, the names of those that were not paused, and all that still are."""

    resumed: int
    missing: list[str]
    all_paused: list[str]


class Acts:
    """Does these things to what is in ``rooms``."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    @property
    def all(self) -> dict[str, Serve]:
        """The services, by name."""
        return {
            CANCEL: reading(CANCEL, CancelQuery, self._cancel),
            DRAIN: reading(DRAIN, DrainQuery, self._drain),
            UNDRAIN: reading(UNDRAIN, DrainQuery, self._undrain),
            PAUSE: reading(PAUSE, PauseQuery, self._pause),
            RESUME: reading(RESUME, PauseQuery, self._resume),
            PURGE: reading(PURGE, PurgeQuery, self._purge),
        }

    # --- requests

    def _cancel(self, client: ClientRow, query: CancelQuery) -> Answer:
        found = {name: entry_of(self._rooms, name) for name in query.requests}
        entries = [entry for entry in found.values() if entry is not None]
        self._tell(catalogue.CANCEL_ASKED, client, ", ".join(query.requests), count=len(entries))
        self._end(entries, f"cancelled by {client.name} (cbw cancel)")
        missing = [name for name, entry in found.items() if entry is None]
        return json_answer(CancelledRequests(len(entries), missing))

    def _purge(self, client: ClientRow, query: PurgeQuery) -> Answer:
        chosen = {
            name: value for name in RequestFilter.__struct_fields__ if (value := getattr(query, name)) is not None
        }
        if not chosen and not query.all:
            return bad_request('say which requests: service, client, older_than_s, or "all": true')
        entries, is_complete = find(self._rooms, query, ("waiting", "delayed"), self._rooms.outbox.now, query.limit)
        text = ", ".join(f"{name} {value}" for name, value in chosen.items()) or "all"
        self._tell(catalogue.PURGE_ASKED, client, text, count=len(entries))
        self._end(entries, f"cancelled by {client.name} (cbw purge)")
        return json_answer(Purged(len(entries), is_complete))

    def _end(self, entries: Iterable[Entry], why: str) -> None:
        for entry in entries:
            self._rooms.requests.cancel(entry, why, is_told=True)

    # --- workers

    def _drain(self, client: ClientRow, query: DrainQuery) -> Answer:
        table = self._rooms.workers.table
        by_name = {worker.name: worker for worker in table.by_peer.values()}
        found = [by_name[name] for name in dict.fromkeys(query.workers) if name in by_name]
        for worker in found:
            table.drain(worker)
            tasks = [*worker.in_hand][worker.concurrency :]
            if tasks and worker.dialect.returns_tasks:  # what it has not begun goes to others
                self._rooms.outbox.tell_worker(worker, Recall(tasks))
            text = f"{len(worker.in_hand)} in hand"
            self._tell(catalogue.WORKER_DRAINED, client, text, worker=worker.name)
        return json_answer(Drained(len(found), [name for name in query.workers if name not in by_name]))

    def _undrain(self, client: ClientRow, query: DrainQuery) -> Answer:
        names = dict.fromkeys(query.workers)
        done = [name for name in names if self._rooms.workers.table.undrain(name)]
        for name in done:
            self._tell(catalogue.WORKER_UNDRAINED, client, "", worker=name)
        return json_answer(Undrained(len(done), [name for name in names if name not in done]))

    # --- services

    def _pause(self, client: ClientRow, query: PauseQuery) -> Answer:
        dispatcher = self._rooms.requests.dispatcher
        new = [name for name in dict.fromkeys(query.services) if name not in dispatcher.paused]
        if any(len(name) > NAME_CHARS_MAX for name in new):
            return bad_request(f"a service has at most {NAME_CHARS_MAX} characters")
        if len(dispatcher.paused) + len(new) > PAUSED_MAX:
            return bad_request(f"{len(dispatcher.paused)} services are paused already; at most {PAUSED_MAX} can be")
        for name in new:
            dispatcher.pause(name)
            self._tell(catalogue.SERVICE_PAUSED, client, "", service=name)
        return json_answer(Paused(len(new), [*dispatcher.paused]))

    def _resume(self, client: ClientRow, query: PauseQuery) -> Answer:
        dispatcher = self._rooms.requests.dispatcher
        known = [name for name in dict.fromkeys(query.services) if name in dispatcher.paused]
        for name in known:
            dispatcher.resume(name)
            self._tell(catalogue.SERVICE_RESUMED, client, "", service=name)
        missing = [name for name in query.services if name not in known]
        return json_answer(Resumed(len(known), missing, [*dispatcher.paused]))

    def _tell(self, event: EventName, client: ClientRow, text: str, **fields: Any) -> None:
        self._rooms.outbox.trace(
            event, client=client.name, text=text[:TOLD_CHARS_MAX], fields=client.key.fields, **fields
        )
