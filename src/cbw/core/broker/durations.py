"""How long requests took that were answered: of each service since the broker's start, with each worker lately.

A broker answers many requests a second, so what was answered is only remembered, and counted many at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence

from cbw.core.broker.tables import Entry
from cbw.core.histogram import Latencies, RecentLatencies

COUNTED_TOGETHER = 256
"""Answered requests that are counted at a time, unless somebody looks before: what ended stays in memory until then."""
TIMED_SERVICES_MAX = 50
"""Services that have histograms of their own: two of 20 steps each, which is 200 kB of a scrape."""
SAMPLE_MAX = 32
"""Of those that are counted together, how many are counted for their workers too: each takes 0.2 µs, and answers of a thousand
workers cannot be counted together."""
HALF_LIFE = 500
"""Requests of a worker after which those before them count half: its figures are those of about its last thousand."""


class ServiceDurations:
    """Of the answered requests of a service: ``requests`` from their acceptance, ``attempts`` from when a worker was given them,
    the last one."""

    __slots__ = ("attempts", "requests")

    def __init__(self) -> None:
        self.requests = Latencies()
        self.attempts = Latencies()

    def merge(self, other: ServiceDurations) -> None:
        """Count all that ``other`` has counted."""
        self.requests.merge(other.requests)
        self.attempts.merge(other.attempts)


class Durations:
    """How long requests took. ``services`` are the names of those that are there.

    Whoever ends an answered request sets ``Entry.answered_at``, appends it to ``answered``, and owes a call of
    :meth:`count_if_many` in that step. Whoever looks calls :meth:`count` before.
    """

    def __init__(self, services: Container[str]) -> None:
        self.answered: list[Entry] = []
        self.by_service: dict[str, ServiceDurations] = {}
        """Those of the services that have their own."""
        self.others = ServiceDurations()
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
        if not self.answered:
            return
        took: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for entry in self.answered:
            requests_s, attempts_s = took[entry.request.service]
            answered_at = entry.answered_at
            requests_s.append(answered_at - entry.accepted_at)
            attempts_s.append(answered_at - entry.handed_out_at)
        for name, (requests_s, attempts_s) in took.items():
            service = self.by_service.get(name) or self._begin(name)
            service.requests.add(requests_s)
            service.attempts.add(attempts_s)
        self._count_for_workers(self.answered)
        self.answered.clear()

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

    def _begin(self, name: str) -> ServiceDurations:
        """A service has its first answer, or has no room for histograms of its own."""
        if len(self.by_service) >= TIMED_SERVICES_MAX:
            gone = next((other for other in self.by_service if other not in self._services), None)
            if gone is None:
                return self.others
            self.others.merge(self.by_service.pop(gone))
        made = self.by_service[name] = ServiceDurations()
        return made
