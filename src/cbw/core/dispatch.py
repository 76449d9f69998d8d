"""Which request goes to which worker, and when.

Requests are served first come, first served per service, and so are the services that share a worker; workers take
turns, the least recently used first. A worker with a free slot (``Service.free``) comes before one that only wants
something ahead (``Service.ahead``). Waiting requests are spread over all of them, not poured into the first.

A request whose attempt took a worker down is a *suspect* and travels alone: into a free slot of a worker that holds no
other suspect, and nothing is sent ahead behind it, nor while one waits: or no slot would come free under load. So a
request that kills its workers drags its neighbours down once at most, and only its own attempts add up.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from itertools import islice

from cbw.core import request as r
from cbw.core.request import State
from cbw.core.tables import Entry, Service, Worker

RECALL_AFTER_S = 0.005
"""A task that a worker took ahead is left alone this long: ahead means about 2 ms of work, so it is soon begun anyway."""
RECALL_PATIENCE_S = 0.1
"""A recall that was not answered by then may be repeated."""
UNSERVED_S = 2.0
"""Requests for a service that nobody serves have waited this long when it is said: workers may only be starting."""
TIMERS_MIN = 1000
"""Timers of requests that wait no more are swept out when there are twice as many as the last sweep left, but not for fewer."""
DEAD_MAX = 64
"""So many ended requests may lie in a queue before they are swept out, if they are more than those that live."""

_WAITS = (State.WAITING, State.SUSPECT)


class Dispatcher:
    """Owns the services and their queues. Every change that may make work possible marks its service as stirred.

    Tasks are numbered from ``first_task``, without a gap.
    """

    def __init__(self, first_task: int = 1) -> None:
        self.services: dict[str, Service] = {}
        self.recall_at = math.inf
        self._next_task = first_task
        self._given: list[tuple[Worker, list[Entry]]] = []  # in this handing out
        self._stirred: dict[Service, None] = {}
        self._unserved: dict[Service, float] = {}  # those with requests and no worker: when to say so
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._deadline_number = 0
        self._deadlines_max = TIMERS_MIN
        self._arrived: list[Entry] = []  # with a deadline, since the last handing out

    def service(self, name: str) -> Service:
        """The service of that name, made if need be; it goes again when it has neither a worker nor a request."""
        service = self.services.get(name)
        if service is None:
            service = self.services[name] = Service(name)
            self._stirred[service] = None
        return service

    # --- requests

    def add(self, entry: Entry) -> None:
        """Queue a new request."""
        service = self.service(entry.request.service)
        service.waiting.append(entry)
        self._stirred[service] = None
        if entry.deadline_at is not None:
            self._arrived.append(entry)

    def put_back(self, entry: Entry, event: r.Table) -> None:
        """Queue a request again: at the front, as it was handed out before everything that waits there was; a suspect in
        the queue of suspects, behind those that failed before it.
        """
        service = self.service(entry.request.service)
        entry.state = event[entry.state]
        entry.worker = None
        if entry.state is State.SUSPECT:
            service.suspects.append(entry)
        else:
            service.waiting.appendleft(entry)
        self._stirred[service] = None
        self._watch(entry)

    def bury(self, entry: Entry) -> None:
        """``entry`` has ended where it waits; its place is passed over when its turn comes."""
        service = self.services.get(entry.request.service)
        if service is not None:
            service.dead += 1
            self._stirred[service] = None

    # --- workers

    def add_worker(self, worker: Worker) -> None:
        """Put a new worker behind the others of its services."""
        for service in worker.services:
            service.workers[worker.peer] = worker
            self._unserved.pop(service, None)
        self.place(worker)

    def remove_worker(self, worker: Worker) -> None:
        """Hand nothing more to ``worker``; what it has in hand is the caller's to put back."""
        for service in worker.services:
            del service.workers[worker.peer]
            service.free.pop(worker, None)
            service.ahead.pop(worker, None)
            service.surplus -= worker.is_surplus
            self._stirred[service] = None
        worker.is_surplus = False

    def place(self, worker: Worker) -> None:
        """Put ``worker`` where it now belongs in its services, because its hand or its credit changed."""
        for service in worker.services:
            self._stirred[service] = None
        self._place(worker)

    def _place(self, worker: Worker, *, is_used: bool = False) -> None:
        """The same, behind the others if it was just given something. That makes no work possible, so it stirs nothing."""
        hand = len(worker.in_hand)
        concurrency = worker.concurrency
        is_open = hand < worker.credit
        is_free = is_open and hand < concurrency
        is_ahead = is_open and hand >= concurrency and worker.suspect is None
        is_surplus = hand > concurrency
        for service in worker.services:
            if is_free:
                service.ahead.pop(worker, None)
                if worker not in service.free:
                    service.free[worker] = None
                elif is_used:
                    service.free.move_to_end(worker)
            else:
                service.free.pop(worker, None)
                if not is_ahead:
                    service.ahead.pop(worker, None)
                elif worker not in service.ahead:
                    service.ahead[worker] = None
                elif is_used:
                    service.ahead.move_to_end(worker)
            if is_surplus is not worker.is_surplus:
                service.surplus += 1 if is_surplus else -1
        worker.is_surplus = is_surplus

    # --- handing out

    def hand_out(self, now: float) -> list[tuple[Worker, list[Entry]]]:
        """Match waiting requests with workers that want them, until one or the other is used up.

        Returns each worker with the entries that it now has in hand, in the order of their tasks.
        """
        while self._stirred:
            stirred, self._stirred = self._stirred, {}
            services = sorted(stirred, key=_oldest_at) if len(stirred) > 1 else stirred  # they may share workers
            for service in services:
                if service.suspects:
                    self._serve_suspects(service, now)
            for service in services:
                if service.waiting:
                    self._serve(service, now)
            for service in services:
                self._tidy(service, now)
        if self._arrived:
            for entry in self._arrived:
                if entry.state in _WAITS:
                    self._watch(entry)
            self._arrived.clear()
        given, self._given = self._given, []
        return given

    def _serve_suspects(self, service: Service, now: float) -> None:
        workers = (worker for worker in service.free if worker.suspect is None)
        for worker in list(islice(workers, len(service.suspects))):
            self._give(worker, service, service.suspects, 1, now)

    def _serve(self, service: Service, now: float) -> None:
        waiting, free, ahead = service.waiting, service.free, service.ahead
        while waiting and (free or (ahead and not service.suspects)):
            tier = free or ahead
            worker = next(iter(tier))
            share = -(-len(waiting) // len(tier))
            is_ahead_wanted = worker.suspect is None and not service.suspects  # or no slot would ever be free for them
            room = worker.credit if is_ahead_wanted else min(worker.concurrency, worker.credit)
            self._give(worker, service, waiting, min(share, room - len(worker.in_hand)), now)

    def _give(self, worker: Worker, service: Service, queue: deque[Entry], count: int, now: float) -> None:
        """Put the next ``count`` entries of ``queue`` that live into the hand of ``worker``."""
        entries: list[Entry] = []
        task = self._next_task
        while queue and len(entries) < count:
            entry = queue.popleft()
            if entry.state is State.ENDED:
                service.dead -= 1
            elif entry.deadline_at is not None and entry.deadline_at <= now:
                service.dead -= 1  # its place is gone; its timer ends it, and it is buried
            else:
                entry.state = r.HANDED_OUT[entry.state]
                entry.worker = worker
                entry.handed_out_at = now
                entry.task = task
                worker.in_hand[task] = entry
                task += 1
                entries.append(entry)
        if not entries:
            return
        self._next_task = task
        if entries[0].state is State.ALONE:
            worker.suspect = entries[0]
        self._given.append((worker, entries))
        self._place(worker, is_used=True)
        if len(worker.services) > 1:  # it may have too much in hand now, and a colleague of another service none
            for other in worker.services:
                self._stirred[other] = None

    def _tidy(self, service: Service, now: float) -> None:
        count = service.waiting_count
        if service.dead > DEAD_MAX and service.dead > count:
            service.waiting = deque(entry for entry in service.waiting if entry.state is not State.ENDED)
            service.suspects = deque(entry for entry in service.suspects if entry.state is not State.ENDED)
            # Not 0: what has expired in this step is out already, and about to be buried.
            service.dead = len(service.waiting) + len(service.suspects) - count
        if not service.workers:
            if count:
                self._unserved.setdefault(service, now + UNSERVED_S)
            else:
                self.services.pop(service.name, None)
                self._unserved.pop(service, None)
        elif service.surplus and service.free and self.recall_at == math.inf:
            self.recall_at = now + RECALL_AFTER_S

    # --- time

    @property
    def deadline_at(self) -> float:
        """When the next request that waits expires, or an earlier time; infinity if none ever does."""
        return self._deadlines[0][0] if self._deadlines else math.inf

    def take_expired(self, now: float) -> list[Entry]:
        """The requests that wait and whose deadline has passed; the caller ends each and buries it."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = heapq.heappop(self._deadlines)[2]
            entry.has_timer = False
            if entry.state in _WAITS:
                expired.append(entry)
        return expired

    def _watch(self, entry: Entry) -> None:
        """Only what still waits after a handing out needs a timer: at full speed nothing does."""
        if entry.deadline_at is None or entry.has_timer or entry.state not in _WAITS:
            return
        entry.has_timer = True
        self._deadline_number += 1
        heapq.heappush(self._deadlines, (entry.deadline_at, self._deadline_number, entry))
        if len(self._deadlines) > self._deadlines_max:
            for _, _, entry in self._deadlines:
                entry.has_timer = entry.state in _WAITS
            self._deadlines = [item for item in self._deadlines if item[2].has_timer]
            heapq.heapify(self._deadlines)
            self._deadlines_max = max(TIMERS_MIN, 2 * len(self._deadlines))

    @property
    def has_unserved(self) -> bool:
        """Whether requests wait for a service that nobody serves."""
        return bool(self._unserved)

    def take_unserved(self, now: float) -> list[Service]:
        """Services whose requests have waited for a worker long enough to say so; each once, until one comes and goes."""
        due = [service for service, at in self._unserved.items() if now >= at and service.waiting_count]
        for service in due:
            self._unserved[service] = math.inf
        return due

    def recall(self, now: float) -> list[tuple[Worker, list[int]]]:
        """Some worker has nothing to do and another holds tasks that it has not begun: which to ask back from whom."""
        self.recall_at = math.inf
        recalls: list[tuple[Worker, list[int]]] = []
        for service in self.services.values():
            if not service.surplus or not service.free:  # what waits beside a free worker are suspects, and not for it
                continue
            self.recall_at = now + RECALL_AFTER_S
            idle = len(service.free)
            for worker in service.workers.values():
                if not worker.is_surplus or worker.credit == 0:
                    continue
                if worker.recalled_at is not None and now - worker.recalled_at < RECALL_PATIENCE_S:
                    continue
                tasks = [
                    task
                    for task, entry in islice(worker.in_hand.items(), worker.concurrency, None)
                    if now - entry.handed_out_at >= RECALL_AFTER_S
                    and entry.state is State.RUNNING
                    and entry.request.service == service.name
                ]
                share = -(-len(tasks) * idle // (idle + 1))
                if share:
                    worker.recalled_at = now
                    recalls.append((worker, tasks[-share:]))
        return recalls


def _oldest_at(service: Service) -> float:
    """Since when the first of ``service`` has waited: a worker of several services takes what has waited longest."""
    return service.waiting[0].accepted_at if service.waiting else math.inf
