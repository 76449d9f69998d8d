"""Whoever has a pool under test: keeps what the pool reports, says and fails with."""

from __future__ import annotations

import queue
from typing import TypeVar

from cbw.core import messages
from cbw.core.catalogue import EventName
from cbw.core.worker.events import PoolFact

from .program import PATIENCE_S

F = TypeVar("F", bound=PoolFact)


class Owner:
    """A :class:`cbw.worker.pool.Owner` that waits for nothing and does nothing."""

    def __init__(self) -> None:
        self.facts: queue.SimpleQueue[PoolFact] = queue.SimpleQueue()
        self.said: list[tuple[str, str]] = []
        self._failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def report(self, fact: PoolFact) -> None:
        self.facts.put(fact)

    def fail(self, error: BaseException) -> None:
        self._failures.put(error)

    def record_event(self, event: EventName, text: str, task: messages.Task | None = None, traceback: str = "") -> None:
        self.said.append((event, text))

    def next_fact(self, within_s: float = PATIENCE_S) -> PoolFact:
        """The next fact of any kind."""
        return self.facts.get(timeout=within_s)

    def next(self, kind: type[F], within_s: float = PATIENCE_S) -> F:
        """The next fact of this kind; others before it are thrown away."""
        while not isinstance(fact := self.next_fact(within_s), kind):
            pass
        return fact

    def failure(self) -> BaseException:
        """What the pool has failed with."""
        return self._failures.get(timeout=PATIENCE_S)
