"""A worker that serves several brokers forgets none of them (G2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .unbegun import has_settled
from .world import ViolationError

if TYPE_CHECKING:
    from .broker import SimBroker
    from .system import SimSystem
    from .workers import SimWorker

OTHERS_MAX = 30
"""Most tasks of other brokers that a worker begins while one waits for it, beside those that it had in hand."""
CALM_S = 1.0
"""Seconds in which nothing may have disturbed either."""


class Neglect:
    """How much each worker has begun of others since each broker has waited for it."""

    def __init__(self, system: SimSystem) -> None:
        self._system = system
        self._begun: dict[
            tuple[SimWorker, SimBroker], tuple[int, int]
        ] = {}  # of the broker, and in all, when it began to wait

    def sample(self) -> None:
        """Look at all of them.

        Raises:
            ViolationError: a broker waits, and the worker only works for others.
        """
        before, self._begun = self._begun, {}
        for broker in self._system.believed_brokers if len(self._system.brokers) > 1 else ():
            paused = broker.checker.operator.paused
            services = broker.core.requests.dispatcher.services.values()
            wanted = [each.name for each in services if each.waiting_count and each.name not in paused]
            for worker in self._system.workers if wanted else ():
                if self._waits(broker, worker, wanted):
                    here, count = worker.begun_by[broker.number], worker.begun_count
                    was_here, since = before.get((worker, broker), (here, count))
                    self._begun[worker, broker] = (here, since if was_here == here else count)
                    if count - self._begun[worker, broker][1] > OTHERS_MAX + 2 * worker.credit_max:
                        raise ViolationError(f"G2: {worker.name} works for others, and {broker.name} waits for it")

    def _waits(self, broker: SimBroker, worker: SimWorker, wanted: Iterable[str]) -> bool:
        operator, now = broker.checker.operator, self._system.world.now
        if not has_settled(broker, now - CALM_S, worker) or now - broker.settled_at < CALM_S or worker.core.is_leaving:
            return False
        is_wanted = any(service in worker.services for service in wanted)
        return is_wanted and worker.is_registered_at(broker.number) and not operator.has_drained(worker)
