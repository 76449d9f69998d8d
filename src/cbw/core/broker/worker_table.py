"""The table of workers: their places, whatever they speak, and the names of those that are gone."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import WorkerRow
from cbw.core.port import printable

RECENTLY_LOST_MAX = 1000
"""Names of lost workers that are remembered, so that the trace can tell whose late answer was fenced off."""
SERVICES_CHARS_MAX = 1000
"""Characters of the names of a worker's services that are recorded when it registers: all of them may be 200,000."""


class WorkerTable:
    """All workers by their connections."""

    def __init__(self, outbox: Outbox, requests: Requests) -> None:
        self.by_peer: dict[bytes, WorkerRow] = {}
        self._recently_lost: dict[bytes, str] = {}  # their names
        self._outbox = outbox
        self._requests = requests

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it, also if it is lost."""
        worker = self.by_peer.get(peer)
        return worker.name if worker else self._recently_lost.get(peer) or printable(peer)

    def add(self, worker: WorkerRow) -> None:
        """It is registered."""
        outbox = self._outbox
        worker.heard_at = worker.since = outbox.now
        self.by_peer[worker.peer] = worker
        self._requests.dispatcher.add_worker(worker)
        outbox.counts["workers_registered"] += 1
        names = ",".join(service.name for service in worker.services)
        outbox.trace(
            catalogue.WORKER_READY, worker=worker.name, text=names[:SERVICES_CHARS_MAX], fields=worker.key.fields
        )
        if worker.credit == 0 and outbox.is_tracing:
            outbox.trace(catalogue.CREDIT_CHANGED, worker=worker.name, text="0")

    def remove(self, worker: WorkerRow, why: str, *, is_blamed: bool = True) -> None:
        """It is gone. Unless it ``is_blamed``, what it had in hand cannot have begun."""
        del self.by_peer[worker.peer]
        self._requests.dispatcher.remove_worker(worker)
        self._recently_lost[worker.peer] = worker.name
        if len(self._recently_lost) > RECENTLY_LOST_MAX:
            del self._recently_lost[next(iter(self._recently_lost))]
        self._outbox.counts["workers_lost"] += 1
        self._outbox.trace(catalogue.WORKER_LOST if is_blamed else catalogue.WORKER_LEFT, worker=worker.name, text=why)
        if is_blamed:
            self._requests.fail_all(worker, why)
        else:
            self._requests.return_all(worker, why)
