"""Whose turn it is: a worker of several services does not forget one of them (G2)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.states import RequestState

from .account import Accepted, number_of
from .world import ViolationError, World

if TYPE_CHECKING:
    pass

OVERTAKEN_MAX = 20
"""How many times, at most, a worker is given what came after a request that waits in another of its services. (A batch counts
once: it is of one service, and as large as the worker wants.)"""


class Turns:
    """The first waiting request of each service, and how often it was overtaken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._services: dict[str, list[str]] = {}  # of each worker
        self._heads: dict[str, int] = {}  # service → the request whose turn is next
        self._overtaken: Counter[int] = Counter()
        self._overtaken_at: dict[int, float] = {}

    def clear(self) -> None:
        """Nobody waits any more."""
        self._heads.clear()

    def handed_out(self, worker: str, since: float, accepted: dict[int, Accepted]) -> None:
        """``worker`` was given a request: those that have waited ``since`` earlier were overtaken."""
        now = self._world.now
        for service in self._services.get(worker, ()):
            head = self._heads.get(service)
            if head is not None and head in accepted and accepted[head].at < since:
                self._overtaken[head] += self._overtaken_at.get(head) != now
                self._overtaken_at[head] = now

    def sample(self, core: BrokerCore, accepted: dict[int, Accepted]) -> None:
        """Look whose turn it is now."""
        heads: dict[str, int] = {}
        for service in core.requests.dispatcher.services.values():
            if service.name in core.requests.dispatcher.paused:
                continue
            head = next((entry for entry in service.waiting if entry.state is not RequestState.ENDED), None)
            if head is not None and service.workers:
                heads[service.name] = number_of(head)
        for name, request in heads.items():
            if self._heads.get(name) != request:
                self._overtaken[request] = 0
            count = self._overtaken[request]
            if count >= OVERTAKEN_MAX:
                raise ViolationError(f"G2: {accepted[request].token} was overtaken {count} times")
        self._heads = heads
        self._services = {worker.name: [s.name for s in worker.services] for worker in core.workers.by_peer.values()}
