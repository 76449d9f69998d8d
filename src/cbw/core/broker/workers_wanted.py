"""How many workers each service could use, for whoever starts and stops them: the requests that wait and those that workers have,
by what one worker runs at once.

Those that wait are not enough to go by: while all workers are busy and nobody waits, a scaler would stop the busy ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from cbw.core.broker.tables import ServiceRow

REMEMBERED_MAX = 1000
"""Most services without workers of which it is remembered what one of their workers ran at once. Of others it is taken for 1."""


class WorkersWanted:
    """Counts for ``services``. One whose workers are all gone is remembered, and wants 0 until there are requests for it."""

    def __init__(self, services: Mapping[str, ServiceRow]) -> None:
        self._services = services
        self._concurrencies: dict[str, int] = {}

    def left(self, service: str, concurrency: int) -> None:
        """The last worker of ``service`` is gone, which ran ``concurrency`` requests at once."""
        self._concurrencies.pop(service, None)
        self._concurrencies[service] = concurrency
        if len(self._concurrencies) > REMEMBERED_MAX:
            del self._concurrencies[next(iter(self._concurrencies))]

    def count(self, running: Mapping[str, int]) -> dict[str, int]:
        """Workers wanted, by service. ``running`` is how many requests workers have in hand, by service."""
        wanted = {
            service.name: _quotient(service.waiting_count + running.get(service.name, 0), *self._concurrency(service))
            for service in self._services.values()
        }
        return wanted | {name: 0 for name in self._concurrencies if name not in wanted}

    def _concurrency(self, service: ServiceRow) -> tuple[int, int]:
        """``(requests at once, workers)``: how many requests so many workers run at once."""
        if not service.workers:
            return self._concurrencies.get(service.name, 1), 1
        return sum(worker.concurrency for worker in service.workers.values()), len(service.workers)


def _quotient(requests: int, concurrency: int, workers: int) -> int:
    """``requests`` by the mean concurrency, rounded up."""
    return -(-requests * workers // max(1, concurrency))
