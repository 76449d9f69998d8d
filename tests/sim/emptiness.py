"""Once all programs have left, and none can come back, a broker knows of nothing and nobody, and has nothing to wake up for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cbw.transport.connections import DISPUTE_S

from .workers import SimWorker
from .world import ViolationError, World

if TYPE_CHECKING:
    from .broker import SimBroker
    from .system import SimSystem

LEAVES_S = 2.0
"""Seconds that a worker with nothing to do may take to end after SIGTERM, beside its grace time."""
SETTLES_S = 20.0
"""Seconds after its peers are forgotten in which a broker may still have timers of its own."""


class Emptiness:
    """Ends all workers of ``system``, and looks what its brokers still know."""

    def __init__(self, system: SimSystem) -> None:
        self._system = system

    @property
    def _world(self) -> World:
        return self._system.world

    def check(self) -> None:
        """All clients have left before.

        Raises:
            ViolationError: a worker does not leave, or a broker goes on knowing of what is gone.
        """
        system, world = self._system, self._world
        for worker in system.servers:
            worker.is_wanted = False
            if isinstance(worker, SimWorker):
                worker.stop()
            else:
                worker.crash()
        patience_s = LEAVES_S + max((worker.plan.grace_s for worker in system.workers), default=0.0)
        world.run(world.now + patience_s)
        if left := [worker.who for worker in system.servers if worker.is_alive]:
            raise ViolationError(f"G12: {left[0]} was told to leave, has nothing to do, and stays")
        brokers = system.believed_brokers
        for broker in brokers:  # which need not look for those that may come back all the time that this takes
            broker.freeze(system.plan.limits.absence_s)
        world.run(world.now + system.plan.limits.absence_s + DISPUTE_S + SETTLES_S)
        for broker in brokers:
            self._nothing_is_known(broker)

    def _nothing_is_known(self, broker: SimBroker) -> None:
        core = broker.core
        broker.checker.check()
        requests, dispatcher = core.requests, core.requests.dispatcher
        known: dict[str, object] = {
            "workers": [worker.name for worker in core.workers.by_peer.values()],
            "clients": [client.name for client in core.clients.by_peer.values() if client not in core.clients.absent],
            "services": [name for name in dispatcher.services if name not in dispatcher.paused],
            "registrations": dispatcher.registrations,
            "workers of several brokers": [worker.name for worker in dispatcher.demands.sharing],
            "demands": dispatcher.demands.untold,
            "requests": requests.count,
            "bytes": requests.bytes,
            "progress": requests.streams.progress,
            "bytes of stories": requests.dead.stories.bytes,
            "tickets": [row.ticket for row in core.tickets.rows.values() if row.answer is None],
            "delayed requests": len(dispatcher.delays),
        }
        if self._system.plan.limits.results_keep_s < self._system.plan.limits.absence_s:
            known["bytes of tickets"] = core.tickets.bytes
        if requests.journal is None:  # with one, answers are kept for those that may come back much later
            known["absent clients"] = [client.name for client in core.clients.absent]
            known["bytes of answers"] = requests.parked.bytes
        if left := {what: value for what, value in known.items() if value}:
            raise ViolationError(f"leak: everybody has left, and the {broker.name} knows of {left}")
        keeps = (core.tickets.rows, requests.journal is not None and core.clients.absent)
        if core.wake_at < math.inf and not any(keeps):
            in_s = core.wake_at - self._world.now
            raise ViolationError(f"leak: everybody has left, and the {broker.name} wants to be woken in {in_s:.3f} s")
