"""Requests that wait here, and workers whose slots are with other brokers: asking for some of them.

A worker that serves several brokers and has something to do offers each slot to one of them only. So a broker without a slot for
a request demands one, of few workers at first and of more while the request waits, and takes its demands back when nothing waits.
"""

from __future__ import annotations

from itertools import islice

from cbw.core.agenda import Agenda
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import Entry, ServiceRow, WorkerRow
from cbw.core.messages import Demand

ASK_MORE_S = 0.005
"""Seconds after which twice as many workers are asked, as those that were are busy; then after twice that time, and so on. Also
the least time between two demands of one service."""
ROUNDS_MAX = 7
"""After so many rounds the time does not double any more: 0.64 s."""
WORKERS_PER_REQUEST = 2
"""Workers that are asked first, for each request that waits: the least busy of two is nearly as good as the least busy of all
(Ousterhout et al., Sparrow, SOSP 2013)."""


class _Asked:
    """What was demanded for one service."""

    def __init__(self) -> None:
        self.rounds = 0
        self.at = 0.0  # for the last time
        self.more_at = 0.0  # when to ask more workers
        self.of: dict[WorkerRow, int] = {}  # the requests that are still to be served by it


class Demands:
    """Demands of the workers that serve other brokers too."""

    def __init__(self, outbox: Outbox, agenda: Agenda) -> None:
        self.sharing: dict[WorkerRow, None] = {}
        """The workers that serve several brokers; who was asked last is behind the others."""
        self._asked: dict[ServiceRow, _Asked] = {}
        self._outbox = outbox
        self._more = agenda.timer(self._ask_more)
        self.untold: list[tuple[WorkerRow, Demand]] = []
        """What :meth:`tell` is to send."""

    def joined(self, worker: WorkerRow) -> None:
        """Note a worker that serves other brokers too."""
        self.sharing.setdefault(worker)

    def left(self, worker: WorkerRow) -> None:
        """Forget a worker that serves no other broker any more, or is gone."""
        self.sharing.pop(worker, None)
        self.offers_less(worker)

    def offers_less(self, worker: WorkerRow) -> None:
        """Have a worker asked again: it keeps a slot for a moment only, and may have forgotten what was demanded."""
        for service in worker.services:
            if (asked := self._asked.get(service)) is not None:
                asked.of.pop(worker, None)

    def gave(self, worker: WorkerRow, entries: list[Entry], services: dict[str, ServiceRow]) -> None:
        """Note that a worker has taken these requests, for which it was asked."""
        for entry in entries:
            service = services.get(entry.request.service)
            asked = self._asked.get(service) if service is not None else None
            if asked is not None and worker in asked.of:
                asked.of[worker] -= 1
                if asked.of[worker] <= 0:
                    del asked.of[worker]

    def look(self, service: ServiceRow, *, is_paused: bool = False) -> None:
        """Something has changed at ``service``, and what can be handed out was. If it ``is_paused``, it needs no slots."""
        now = self._outbox.now
        asked = self._asked.get(service)
        if is_paused or not service.waiting_count:
            if asked is not None:
                self._withdraw(service)
        elif asked is None:
            self._asked[service] = _Asked()
            self._ask(service, now)
            self._ask_more_later(self._asked[service], now)
        elif now - asked.at >= ASK_MORE_S:
            self._ask(service, now)

    def _withdraw(self, service: ServiceRow) -> None:
        """Nothing waits any more."""
        self.untold += [(worker, Demand(service.name, 0)) for worker in self._asked.pop(service).of]

    def _ask_more_later(self, asked: _Asked, now: float) -> None:
        asked.more_at = now + (ASK_MORE_S * 2 ** min(asked.rounds, ROUNDS_MAX))
        self._more.set_by(asked.more_at)

    def _ask_more(self, now: float) -> None:
        for service, asked in [*self._asked.items()]:
            if not (self.sharing and service.waiting_count):
                self._withdraw(service)
                continue
            if asked.more_at <= now:
                asked.rounds += 1
                self._ask(service, now)
                self._ask_more_later(asked, now)
            self._more.set_by(asked.more_at)

    def _ask(self, service: ServiceRow, now: float) -> None:
        asked, waiting = self._asked[service], service.waiting_count
        asked.at = now
        wanted = min(waiting * WORKERS_PER_REQUEST << min(asked.rounds, 20), len(self.sharing))
        if not wanted:
            return
        each = -(-waiting // wanted)
        for worker, told in asked.of.items():
            if 2 * told < each:
                self._tell(asked, worker, service, each)
        missing = wanted - len(asked.of)
        if missing > 0:
            new = list(islice((worker for worker in self.sharing if self._can_ask(worker, service)), missing))
            for worker in new:
                del self.sharing[worker]
                self.sharing[worker] = None
                self._tell(asked, worker, service, each)

    def _can_ask(self, worker: WorkerRow, service: ServiceRow) -> bool:
        """Whether ``worker`` serves ``service``, has no slot for it here, and was not asked yet; a drained one gets nothing."""
        is_served = service.workers.get(worker.peer) is worker
        return (
            is_served
            and not worker.is_drained
            and len(worker.in_hand) >= worker.credit
            and worker not in self._asked[service].of
        )

    def _tell(self, asked: _Asked, worker: WorkerRow, service: ServiceRow, waiting: int) -> None:
        asked.of[worker] = waiting
        self.untold.append((worker, Demand(service.name, waiting)))

    def tell(self) -> None:
        """Send what was demanded, behind the tasks of this step: a worker takes each task for one that was demanded before."""
        untold, self.untold = self.untold, []
        for worker, demand in untold:
            self._outbox.tell_worker(worker, demand)
