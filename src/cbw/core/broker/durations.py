"""How many requests were answered, and how long they took: of each service since the broker's start and lately, with each worker
lately.

A broker answers many requests a second, so what was answered is only remembered, and counted many at a time.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from cbw.core.broker.tables import Entry, ServiceRow
from cbw.core.histogram import TIMED_SERVICES_MAX, Latencies, RecentLatencies, quantile_of

COUNTED_TOGETHER = 256
"""Answered requests that are counted at a time, unless somebody looks before: what ended stays in memory until then."""
SAMPLE_MAX = 32
"""Of those that are counted together, how many are counted for their workers too: each takes 0.2 µs, and answers of a thousand
workers cannot be counted together."""
HALF_LIFE = 500
"""Requests of a worker after which those before them count half: its figures are those of about its last thousand."""
SLOT_S = 2.0
"""Answers of so many seconds are told apart from those before and after, and no finer."""
RATE_S = 10.0
"""The rate of a service is that of the last so many seconds, and up to :data:`SLOT_S` more."""
QUANTILES_S = 60.0
"""The quantiles of a service are those of so many seconds up to its last answer: of one that is idle they stay."""
MARKS_MAX = math.ceil(QUANTILES_S / SLOT_S) + 1
"""Marks of a service: 31 of 20 numbers each, which is 7 kB a service and 350 kB for all."""


class ServiceActivity(msgspec.Struct, frozen=True):
    """What a service has done. ``failed``: requests that ended with an error of their handler, or were given up. ``rate``: its
    answers a second, lately. ``p50_s``, ``p99_s``: half of its last requests, and 99 %, had their answers so long after their
    acceptance. None: of this service that is not counted, as it is one of too many; or nothing was answered yet.
    """

    answered: int | None = None
    failed: int | None = None
    rate: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None


class ServiceDurations:
    """How long the answered requests of a service took: ``requests`` from their acceptance, ``attempts`` from when the last
    worker was given them. It is known ``since`` then.
    """

    __slots__ = ("_marks", "attempts", "failed", "requests", "since")

    def __init__(self, since: float) -> None:
        self.requests = Latencies()
        self.attempts = Latencies()
        self.failed = 0
        self.since = since
        self._marks: deque[tuple[float, array[int]]] = deque(maxlen=MARKS_MAX)  # slots, and the counts before them

    def begin_slot(self, at: float) -> None:
        """What is counted next was answered in the slot that begins then, or in it too."""
        if not self._marks or self._marks[-1][0] < at:
            self._marks.append((at, array("Q", self.requests.counts)))

    def figures(self, now: float) -> ServiceActivity:
        """What is shown of it; what was answered has to be counted before."""
        counts, marks = self.requests.counts, self._marks
        begin = _slot_of(now - RATE_S)
        before = next((old for at, old in marks if at >= begin), None)
        new = 0 if before is None else sum(counts) - sum(before)
        oldest = next((old for at, old in marks if at > marks[-1][0] - QUANTILES_S), ())
        last = [count - old for count, old in zip(counts, oldest, strict=True)] if oldest else []
        return ServiceActivity(
            sum(counts),
            self.failed,
            new / max(now - max(begin, self.since), 1.0),
            quantile_of(self.requests, 0.5, last),
            quantile_of(self.requests, 0.99, last),
        )

    @property
    def marks(self) -> int:
        """How many slots are told apart."""
        return len(self._marks)

    def merge(self, other: ServiceDurations) -> None:
        """Count all that ``other`` has counted."""
        self.requests.merge(other.requests)
        self.attempts.merge(other.attempts)
        self.failed += other.failed


class Durations:
    """How long requests took. ``services`` are those that are there, by their names.

    Whoever ends an answered request sets ``Entry.answered_at``, appends it to ``answered``, and owes a call of
    :meth:`count_if_many` in that step. Whoever looks calls :meth:`count` before.
    """

    def __init__(self, services: Mapping[str, ServiceRow]) -> None:
        self.answered: list[Entry] = []
        self.by_service: dict[str, ServiceDurations] = {}
        """Those of the services that have their own."""
        self.others = ServiceDurations(-math.inf)
        """Those of all further services together, also of those that are gone: none of its counts ever falls."""
        self._services = services
        self._turn = 0

    @property
    def all(self) -> Latencies:
        """How long the requests of all services took."""
        total = Latencies()
        for each in (*self.by_service.values(), self.others):
            total.merge(each.requests)
        return total

    def count_if_many(self) -> None:
        """Count what was answered, if that is much."""
        if len(self.answered) >= COUNTED_TOGETHER:
            self.count()

    def count(self) -> None:
        """Count what was answered."""
        answered = self.answered
        if not answered:
            return
        slot = _slot_of(answered[0].answered_at)
        if _slot_of(answered[-1].answered_at) == slot:  # of a busy broker nearly always
            self._count_slot(answered, slot)
        else:
            for each, entries in groupby(answered, lambda entry: _slot_of(entry.answered_at)):
                self._count_slot(list(entries), each)
        self._count_for_workers(answered)
        answered.clear()

    def fail(self, service: str, now: float) -> None:
        """A request for ``service`` ended with an error of its handler, or was given up."""
        (self.by_service.get(service) or self._begin(service, now)).failed += 1

    def figures(self, service: str, now: float) -> ServiceActivity:
        """What is shown of ``service``; what was answered has to be counted before."""
        counted = self.by_service.get(service)
        if counted is not None:
            return counted.figures(now)
        return ServiceActivity() if len(self.by_service) >= TIMED_SERVICES_MAX else ServiceActivity(0, 0, 0.0)

    def known_since(self, service: ServiceRow) -> float:
        """Since when ``service`` is known: one that is counted, also while nobody asked for it or served it."""
        counted = self.by_service.get(service.name)
        return service.since if counted is None else min(service.since, counted.since)

    def _count_slot(self, answered: Sequence[Entry], slot: float) -> None:
        """Count what was answered in the slot that begins then."""
        took: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for entry in answered:
            requests_s, attempts_s = took[entry.request.service]
            answered_at = entry.answered_at
            requests_s.append(answered_at - entry.accepted_at)
            attempts_s.append(answered_at - entry.handed_out_at)
        for name, (requests_s, attempts_s) in took.items():
            service = self.by_service.get(name) or self._begin(name, slot)
            service.begin_slot(slot)
            service.requests.add(requests_s)
            service.attempts.add(attempts_s)

    def _count_for_workers(self, answered: Sequence[Entry]) -> None:
        """Count a sample. It begins at another place each time: answers come in the order in which workers take turns."""
        step = -(-len(answered) // SAMPLE_MAX)
        self._turn += 1
        for entry in answered[self._turn % step :: step]:
            worker = entry.worker
            if worker is not None:
                if worker.took is None:
                    worker.took = RecentLatencies(HALF_LIFE)
                worker.took.add(entry.answered_at - entry.handed_out_at)

    def _begin(self, name: str, at: float) -> ServiceDurations:
        """A service has its first answer or failure, or has no room for histograms of its own."""
        if len(self.by_service) >= TIMED_SERVICES_MAX:
            gone = next((other for other in self.by_service if other not in self._services), None)
            if gone is None:
                return self.others
            self.others.merge(self.by_service.pop(gone))
        row = self._services.get(name)
        made = self.by_service[name] = ServiceDurations(at if row is None else row.since)
        return made


def _slot_of(at: float) -> float:
    """When the slot begins in which ``at`` is."""
    return at // SLOT_S * SLOT_S
