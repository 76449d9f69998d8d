"""The table of workers: their places, whatever they speak, and the names of those that are gone."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import WorkerRow
from cbw.core.port import printable

RECENTLY_LOST_MAX = 1000
"""Names of lost workers that are remembered, so that the trace can tell whose late answer was fenced off."""
DRAINED_MAX = 10_000
"""Workers that are remembered as drained, also while they are away. Anybody may use up names (G9)."""
SERVICES_CHARS_MAX = 1000
"""Characters of the names of a worker's services that are recorded when it registers: all of them may be 200,000."""
RATE_MARK_S = 5.0
"""Interval in seconds at which it is marked how much each worker has answered: 0.2 ms for a thousand of them."""
RATE_MARKS_MAX = 3
"""Marks of a worker. From the oldest its rate is reckoned: that of the last 10 to 15 s, or of its life if that is shorter."""


class WorkerTable:
    """All workers by their connections."""

    def __init__(self, outbox: Outbox, requests: Requests, agenda: Agenda) -> None:
        self.by_peer: dict[bytes, WorkerRow] = {}
        self.drained: dict[str, str] = {}
        """Workers that get nothing more as somebody has asked for that, also if they come back: their boots, by their names."""
        self._recently_lost: dict[bytes, str] = {}  # their names
        self._mark_timer = agenda.timer(self._mark)
        self._outbox = outbox
        self._requests = requests

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it, also if it is lost."""
        worker = self.by_peer.get(peer)
        return worker.name if worker else self._recently_lost.get(peer) or printable(peer)

    def add(self, worker: WorkerRow) -> None:
        """Register a worker."""
        outbox = self._outbox
        worker.heard_at = worker.since = outbox.now
        if worker.name in self.drained:
            worker.is_drained = self.drained[worker.name] == worker.boot
            if not worker.is_drained:  # another process has this name now
                del self.drained[worker.name]
        self.by_peer[worker.peer] = worker
        worker.rate_marks = ((outbox.now, worker.answered),)
        self._mark_timer.set_by(outbox.now + RATE_MARK_S)
        self._requests.dispatcher.add_worker(worker)
        outbox.counts["workers_registered"] += 1
        names = ",".join(service.name for service in worker.services)
        outbox.trace(
            catalogue.WORKER_READY, worker=worker.name, text=names[:SERVICES_CHARS_MAX], fields=worker.key.fields
        )
        if worker.credit == 0 and outbox.is_tracing:
            outbox.trace(catalogue.CREDIT_CHANGED, worker=worker.name, text="0")

    def drain(self, worker: WorkerRow) -> None:
        """Give it nothing more, until :meth:`undrain`."""
        self.drained.pop(worker.name, None)
        self.drained[worker.name] = worker.boot
        if len(self.drained) > DRAINED_MAX:
            here = {other.name for other in self.by_peer.values()}
            gone = next((name for name in self.drained if name not in here), worker.name)
            del self.drained[gone]
        worker.is_drained = True
        self._requests.dispatcher.place(worker)

    def undrain(self, name: str) -> bool:
        """Give the worker of that name work again, also when it is back only later. Returns whether it was drained."""
        was_drained = self.drained.pop(name, None) is not None
        for worker in self.by_peer.values():
            if worker.name == name and worker.is_drained:
                worker.is_drained, was_drained = False, True
                self._requests.dispatcher.place(worker)
        return was_drained

    def remove(self, worker: WorkerRow, why: str, *, is_blamed: bool = True) -> None:
        """Take a worker out that is gone. Unless it ``is_blamed``, what it had in hand cannot have begun."""
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

    def _mark(self, now: float) -> None:
        for worker in self.by_peer.values():
            worker.rate_marks = (*worker.rate_marks[1 - RATE_MARKS_MAX :], (now, worker.answered))
        if self.by_peer:
            self._mark_timer.set(now + RATE_MARK_S)
