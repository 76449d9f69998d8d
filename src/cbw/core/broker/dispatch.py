"""Which request goes to which worker, and when.

Clients take turns, within a service (:mod:`cbw.core.broker.fair_queue`) as well as across the services of one worker: who has
waited longest for a turn is next. Workers take turns too, the least recently used first. A worker with a free slot
(``ServiceRow.free``) comes before one that only wants tasks in advance (``ServiceRow.prefetching``). Waiting requests are spread
over all of them, not poured into the first.

A request whose attempt took a worker down is a *suspect* and travels alone: into a free slot of a worker that holds no
other suspect. Nothing is sent in advance to a worker that holds a suspect, nor while one waits; otherwise no slot would come
free for it under load. So a request that kills its workers takes its neighbours down once at most, and only its own attempts
add up.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import islice

from cbw.core import catalogue
from cbw.core.agenda import Agenda, Timer
from cbw.core.broker.delays import Delays
from cbw.core.broker.demands import Demands
from cbw.core.broker.fair_queue import DEAD_MAX
from cbw.core.broker.impatience import Impatience
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.states import TRANSITIONS, Change, RequestState
from cbw.core.broker.tables import Entry, ServiceRow, WorkerRow
from cbw.core.broker.workers_wanted import WorkersWanted
from cbw.core.messages import Recall

RECALL_AFTER_S = 0.005
"""A prefetched task is recalled only if its worker has had it for longer: prefetching means about 2 ms of work."""
RECALL_PATIENCE_S = 0.1
"""A recall that was not answered by then may be repeated."""
UNSERVED_S = 2.0
"""How long requests wait for a service that nobody serves before that is recorded: workers may only be starting."""
TIMERS_MIN = 1000
"""Fewest deadlines that are swept. Those of requests that no longer wait are swept out when twice as many have gathered as the
last sweep left."""

_WAITS = (RequestState.WAITING, RequestState.SUSPECT)
_HANDED_OUT = TRANSITIONS[Change.HANDED_OUT]


class Dispatcher:
    """Owns the services and their queues. Every change that may make work possible marks its service as dirty.

    Tasks are numbered from ``first_task``, without a gap. ``expire`` ends a request whose deadline passed while it waited.
    """

    def __init__(self, outbox: Outbox, agenda: Agenda, first_task: int, expire: Callable[[Entry], None]) -> None:
        self.services: dict[str, ServiceRow] = {}
        self.paused: dict[str, None] = {}
        """Names of services whose requests wait, as somebody has asked for that."""
        self.registrations = 0  # services of all workers together
        self.workers_wanted = WorkersWanted(self.services)
        self.impatience: Impatience | None = None
        """Ends what waits for services that nobody serves, if the broker was told to."""
        self._outbox = outbox
        self._expire = expire
        self._next_task = first_task
        self._given: list[tuple[WorkerRow, list[Entry]]] = []  # in this handing out
        self._dirty: dict[ServiceRow, None] = {}
        self._recall_timer: Timer = agenda.timer(self._recall)
        self._unserved: dict[ServiceRow, None] = {}  # those with requests and no worker, about which nothing was said
        self._unserved_timer = agenda.timer(self._tell_unserved)
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._deadline_timer = agenda.timer(self._expire_due)
        self._deadline_number = 0
        self._deadlines_max = TIMERS_MIN
        self._arrived: list[Entry] = []  # with a deadline, since the last handing out
        self.delays = Delays(outbox, agenda, self.service, self._queue_due)
        self.demands = Demands(outbox, agenda)
        self._is_sparing = False

    def spare(self, *, is_sparing: bool) -> None:
        """Hand out only what is begun at once, or again as much as workers want: each task has an answer, which takes room."""
        self._is_sparing = is_sparing
        self._dirty.update(dict.fromkeys(self.services.values()))

    def service(self, name: str) -> ServiceRow:
        """The service of that name, made if need be; it goes again when it has neither a worker nor a request."""
        service = self.services.get(name)
        if service is None:
            service = self.services[name] = ServiceRow(name)
            service.since = self._outbox.now
            self._dirty[service] = None
        return service

    # --- requests

    def add(self, entry: Entry) -> None:
        """Queue a new request, or keep it until it may be handed out."""
        request = entry.request
        if request.delay_s and entry.delay is None:
            self.delays.add_new(entry)
            return
        service = self.services.get(request.service)
        if service is None:
            service = self.service(request.service)
        request.service = service.name  # one text for all that wait, however many have come
        service.waiting.add(entry)
        self._dirty[service] = None
        if entry.deadline_at is not None:
            self._arrived.append(entry)

    def add_again(self, entry: Entry) -> None:
        """Queue a request of an earlier broker, or one whose delay is over: as a suspect, if a worker failed at it."""
        if entry.attempt == 1:
            self.add(entry)
            return
        service = self.service(entry.request.service)
        entry.state = RequestState.SUSPECT
        service.suspects.append(entry)
        self._dirty[service] = None
        self._watch(entry)

    def _queue_due(self, entry: Entry) -> None:
        self.add_again(entry)
        if entry.deadline_at is not None and entry.deadline_at <= self._outbox.now:  # the broker stood still
            self._expire(entry)

    def put_back(self, entry: Entry, change: Change) -> None:
        """Queue a request again: at the front, as it was handed out before everything that waits there was. A suspect goes
        behind those that became suspects before it.
        """
        service = self.service(entry.request.service)
        entry.state = TRANSITIONS[change][entry.state]
        entry.worker = None
        if entry.state is RequestState.SUSPECT:
            service.suspects.append(entry)
        else:
            service.waiting.put_back(entry)
        self._dirty[service] = None
        self._watch(entry)

    def mark_dead(self, entry: Entry) -> None:
        """``entry`` has ended where it waits; its place is passed over when its turn comes."""
        service = self.services.get(entry.request.service)
        if service is not None:
            if entry.state is RequestState.DELAYED:
                self.delays.mark_dead(entry)
            elif entry.state is RequestState.SUSPECT:
                service.dead_suspects += 1
            else:
                service.waiting.mark_dead()
            self._dirty[service] = None

    # --- workers

    def add_worker(self, worker: WorkerRow) -> None:
        """Put a new worker behind the others of its services."""
        self.registrations += len(worker.services)
        for service in worker.services:
            service.workers[worker.peer] = worker
            service.unserved_at = math.inf
            self._unserved.pop(service, None)
        self.place(worker)

    def remove_worker(self, worker: WorkerRow) -> None:
        """Hand nothing more to ``worker``; what it has in hand is the caller's to put back."""
        self.registrations -= len(worker.services)
        for service in worker.services:
            del service.workers[worker.peer]
            service.free.pop(worker, None)
            service.prefetching.pop(worker, None)
            service.overloaded -= worker.is_overloaded
            self._dirty[service] = None
            if not service.workers:
                self.workers_wanted.left(service.name, worker.concurrency)
                if self.impatience is not None:
                    self.impatience.left(service)
        worker.is_overloaded = False
        self.demands.left(worker)

    def serves_others(self, worker: WorkerRow, *, is_shared: bool) -> None:
        """Whether ``worker`` serves other brokers too, so that its slots may be with them."""
        worker.is_shared = is_shared
        (self.demands.joined if is_shared else self.demands.left)(worker)

    def pause(self, name: str) -> None:
        """Hand out nothing of this service until :meth:`resume`. What is with a worker goes on."""
        self.paused[name] = None
        if name in self.services:
            self._dirty[self.services[name]] = None

    def resume(self, name: str) -> None:
        """Hand out requests of this service again."""
        if name in self.paused:
            del self.paused[name]
            self._dirty[self.service(name)] = None

    def place(self, worker: WorkerRow) -> None:
        """Put ``worker`` where it now belongs in its services, because its hand or its credit changed."""
        for service in worker.services:
            self._dirty[service] = None
        self._place(worker)

    def _place(self, worker: WorkerRow, *, is_used: bool = False) -> None:
        """:meth:`place` without marking anything as dirty. ``is_used``: it was just given something, so others come first."""
        hand = len(worker.in_hand)
        concurrency = worker.concurrency
        has_credit = hand < worker.credit and not worker.is_drained
        is_free = has_credit and hand < concurrency
        is_prefetching = has_credit and hand >= concurrency and worker.suspect is None
        is_overloaded = hand > concurrency
        for service in worker.services:
            if is_free:
                service.prefetching.pop(worker, None)
                if worker not in service.free:
                    service.free[worker] = None
                elif is_used:
                    service.free.move_to_end(worker)
            else:
                service.free.pop(worker, None)
                if not is_prefetching:
                    service.prefetching.pop(worker, None)
                elif worker not in service.prefetching:
                    service.prefetching[worker] = None
                elif is_used:
                    service.prefetching.move_to_end(worker)
            if is_overloaded is not worker.is_overloaded:
                service.overloaded += 1 if is_overloaded else -1
        worker.is_overloaded = is_overloaded

    # --- handing out

    def hand_out(self, now: float, *, is_held: bool = False) -> list[tuple[WorkerRow, list[Entry]]]:
        """Match waiting requests with workers that want them, until one or the other is used up; ``is_held``: not now.

        Returns each worker with the entries that it now has in hand, in the order of their tasks.
        """
        while self._dirty and not is_held:
            dirty, self._dirty = self._dirty, {}
            services = sorted(dirty, key=_waits_since) if len(dirty) > 1 else dirty  # they may share workers
            served = [each for each in services if each.name not in self.paused] if self.paused else services
            for service in served:
                if service.suspects:
                    self._serve_suspects(service, now)
            for service in served:
                if service.waiting.count:
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

    def _serve_suspects(self, service: ServiceRow, now: float) -> None:
        workers = (worker for worker in service.free if worker.suspect is None)
        for worker in list(islice(workers, len(service.suspects))):
            suspect = _next_suspect(service)
            if suspect is not None:
                worker.suspect = suspect
                self._give(worker, [suspect], now)

    def _serve(self, service: ServiceRow, now: float) -> None:
        waiting, free = service.waiting, service.free
        prefetching = () if self._is_sparing else service.prefetching
        while waiting.count and (free or (prefetching and not service.suspects)):
            tier = free or prefetching
            worker = next(iter(tier))
            share = -(-waiting.count // len(tier))
            may_prefetch = worker.suspect is None and not service.suspects and not self._is_sparing
            room = worker.credit if may_prefetch else min(worker.concurrency, worker.credit)
            self._give(worker, waiting.take(min(share, room - len(worker.in_hand)), now), now)

    def _give(self, worker: WorkerRow, entries: list[Entry], now: float) -> None:
        """Put ``entries``, which wait no longer, into the hand of ``worker``."""
        task = self._next_task
        for entry in entries:
            entry.state = _HANDED_OUT[entry.state]
            entry.worker = worker
            entry.handed_out_at = now
            entry.task = task
            worker.in_hand[task] = entry
            task += 1
        self._next_task = task
        self._given.append((worker, entries))
        if self.demands.sharing:
            self.demands.gave(worker, entries, self.services)
        self._place(worker, is_used=True)
        if len(worker.services) > 1:  # it may have too much in hand now, and a colleague of another service none
            for other in worker.services:
                self._dirty[other] = None

    def _tidy(self, service: ServiceRow, now: float) -> None:
        if service.waiting.dead:
            service.waiting.tidy()
        if service.dead_suspects > DEAD_MAX and service.dead_suspects > len(service.suspects) // 2:
            service.suspects = deque(entry for entry in service.suspects if entry.state is not RequestState.ENDED)
            service.dead_suspects = 0
        if self.demands.sharing:
            self.demands.look(service, is_paused=service.name in self.paused)
        if not service.workers:
            if not service.waiting_count:
                if not service.delayed:
                    self.services.pop(service.name, None)
                self._unserved.pop(service, None)
                return
            if service.unserved_at == math.inf:
                service.unserved_at = now + UNSERVED_S
                self._unserved[service] = None
                self._unserved_timer.set_by(service.unserved_at)
            if self.impatience is not None:
                self.impatience.look(service)
        elif service.overloaded and service.free and service.name not in self.paused:
            self._recall_timer.set_by(now + RECALL_AFTER_S)

    # --- time

    def _expire_due(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = heapq.heappop(self._deadlines)[2]
            entry.has_timer = False
            if entry.state in _WAITS:
                self._expire(entry)
        if self._deadlines:
            self._deadline_timer.set(self._deadlines[0][0])

    def _watch(self, entry: Entry) -> None:
        """Note the deadline of what waits. After a handing out, so that at full speed nothing needs it."""
        if entry.deadline_at is None or entry.has_timer or entry.state not in _WAITS:
            return
        entry.has_timer = True
        self._deadline_number += 1
        heapq.heappush(self._deadlines, (entry.deadline_at, self._deadline_number, entry))
        self._deadline_timer.set_by(entry.deadline_at)
        if len(self._deadlines) > self._deadlines_max:
            for _, _, entry in self._deadlines:
                entry.has_timer = entry.state in _WAITS
            self._deadlines = [item for item in self._deadlines if item[2].has_timer]
            heapq.heapify(self._deadlines)
            self._deadlines_max = max(TIMERS_MIN, 2 * len(self._deadlines))

    def _tell_unserved(self, now: float) -> None:
        """Record, once, which services have had requests and no worker for some time."""
        for service in [service for service in self._unserved if service.unserved_at <= now]:
            del self._unserved[service]
            text = "requests wait, and no worker here serves them"
            self._outbox.trace(catalogue.UNSERVED, service=service.name, count=service.waiting_count, text=text)
        for service in self._unserved:
            self._unserved_timer.set_by(service.unserved_at)

    def _recall(self, now: float) -> None:
        """Some worker has nothing to do and another holds tasks that it has not begun: ask for a share of these back."""
        outbox = self._outbox
        for service in self.services.values():
            if not service.overloaded or not service.free or service.name in self.paused:
                continue  # what waits beside a free worker are suspects, and not for it
            self._recall_timer.set_by(now + RECALL_AFTER_S)
            for worker in service.workers.values():
                tasks = _to_recall(worker, service, now)
                if tasks:
                    worker.recalled_at = now
                    outbox.tell_worker(worker, Recall(tasks))
                    outbox.counts["tasks_recalled"] += len(tasks)
                    outbox.trace(catalogue.RECALLED, worker=worker.name, text=f"{len(tasks)} tasks")


def _to_recall(worker: WorkerRow, service: ServiceRow, now: float) -> list[int]:
    """Tasks of ``service`` that ``worker`` cannot have begun, and that free workers are to get instead."""
    if not worker.is_overloaded or worker.credit == 0:
        return []
    if worker.recalled_at is not None and now - worker.recalled_at < RECALL_PATIENCE_S:
        return []
    tasks = [
        task
        for task, entry in islice(worker.in_hand.items(), worker.concurrency, None)
        if now - entry.handed_out_at >= RECALL_AFTER_S
        and entry.state is RequestState.RUNNING
        and entry.request.service == service.name
    ]
    idle = len(service.free)
    share = -(-len(tasks) * idle // (idle + 1))
    return tasks[-share:] if share else []


def _waits_since(service: ServiceRow) -> float:
    """Since when the client that is next at ``service`` has waited for its turn: the longest is served first."""
    return service.waiting.since


def _next_suspect(service: ServiceRow) -> Entry | None:
    """The next suspect that has not ended, which waits no longer."""
    while service.suspects:
        entry = service.suspects.popleft()
        if entry.state is not RequestState.ENDED:
            return entry
        service.dead_suspects -= 1
    return None
