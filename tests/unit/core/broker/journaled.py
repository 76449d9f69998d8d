"""A broker core with a journal in memory: what is stored, what is not yet, and a crash between any two of its steps."""

from __future__ import annotations

from collections import deque
from typing import Any

from cbw.core.broker import events
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.limits import Limits
from cbw.core.broker.replay import Replay
from cbw.wire.journal import encode_batch

from .system import CoreSystem, req_said


class Journaled(CoreSystem):
    """Stores each batch at once, unless ``is_slow``: then :meth:`store` says when."""

    def __init__(self, *, is_slow: bool = False, **limits: Any) -> None:
        super().__init__(**limits)
        self.limits = limits
        self.is_slow = is_slow
        self.stored: dict[int, bytes] = {}
        self.written: deque[tuple[int, bytes]] = deque()
        self.boots = 0
        self.named: dict[str, bytes] = {}  # how REQ workers were told who asked
        self._start()

    def _start(self) -> None:
        self.boots += 1
        self.core = BrokerCore(
            "BRO",
            str(self.boots),
            Limits(**self.limits),
            first_task=1000 * self.boots,
            is_tracing=True,
            has_journal=True,
        )
        replay = Replay()
        for position, data in self.stored.items():
            replay.read(position, data)
        self.core.use_journal(replay, self.now)
        self.tell()

    def tell(self, *facts: events.Event) -> None:
        self._tell(*facts)
        while self.others and isinstance(self.others[0], events.AppendToJournal | events.CompactJournal):
            order = self.others.pop(0)
            if isinstance(order, events.AppendToJournal):
                self.written.append((order.position, encode_batch(order.batch)))
            elif isinstance(order, events.CompactJournal):
                self.stored = {at: data for at, data in self.stored.items() if at >= order.before}
        if not self.is_slow:
            self.store()

    def _tell(self, *facts: events.Event) -> None:
        super().tell(*facts)
        self.named.update({name: tasks[-1][0] for name, tasks in self.plain_tasks.items() if tasks})

    def req_answer(self, worker: str, body: bytes) -> None:
        """A REQ worker answers what it was given last, perhaps by an earlier broker."""
        self.tell(req_said(worker.encode(), self.named[worker], body))

    def store(self, count: int = 1_000_000) -> None:
        """Have the first ``count`` of the batches that were written on the disk."""
        while self.written and count:
            count -= 1
            position, data = self.written.popleft()
            self.stored[position] = data
            self._tell(events.JournalStored(position))
            if self.others:
                self.tell()

    def crash(self, after_s: float = 1.0) -> None:
        """Lose everything that is not stored, all connections too, and start another broker."""
        self.written.clear()
        self.to.clear()
        self.plain_tasks.clear()
        self.plain_replies.clear()
        self.others.clear()
        self.now += after_s
        self._start()
