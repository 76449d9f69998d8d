"""How a handler that yields sends the parts of its answer: one by one, and no more than its client has room for.

The handler waits in its ``yield`` until there is room. If the client gives the request up, or the worker loses its broker, the
generator is closed there: its ``finally`` runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator

from cbw.core import messages
from cbw.core.worker.events import AnswersWentOn, PoolFact

EARLY_MAX = 1000
"""Most tasks of which is remembered that there is more room for their parts, before their handlers are called."""


class Outlet:
    """Where the parts of the answer to ``task`` go. ``loop``: its handler is async, and runs there."""

    def __init__(
        self,
        task: messages.StreamTask,
        report: Callable[[PoolFact], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.sent = 0
        self._task = task.id
        self._wanted = task.parts
        self._is_cancelled = False
        self._report = report
        self._loop = loop
        self._has_changed = threading.Condition()
        self._is_on, self._is_stalled = asyncio.Event(), asyncio.Event()

    # --- from any thread

    def grant(self, parts: int) -> None:
        """Let the answer have parts up to number ``parts``: there is room for them."""
        with self._has_changed:
            self._wanted = max(self._wanted, parts)
            self._has_changed.notify()
        self._tell_loop()

    def cancel(self) -> None:
        """Nobody wants any more parts."""
        with self._has_changed:
            self._is_cancelled = True
            self._has_changed.notify()
        self._tell_loop()

    def _tell_loop(self) -> None:
        if self._loop is None:
            self._is_on.set()
        else:
            self._loop.call_soon_threadsafe(self._is_on.set)

    # --- from the handler's

    @property
    def has_room(self) -> bool:
        """Whether there is room for the next part."""
        return self.sent < self._wanted

    def send(self, body: bytes) -> None:
        """Send a part, for which there is room."""
        self.sent += 1
        self._report(AnswersWentOn([messages.AnswerPart(self._task, self.sent, body)]))

    def wait_through(self, steps: Generator[None, None, messages.Answer]) -> messages.Answer:
        """What ``steps`` return. Wherever they yield they get room for a part first, or are told that nobody wants any more."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                answer: messages.Answer = end.value
                return answer
            with self._has_changed:
                while not (self.has_room or self._is_cancelled):
                    self._has_changed.wait()

    async def has_room_async(self) -> bool:
        """Wait until there is room for the next part; False: nobody wants any more."""
        while not (self.has_room or self._is_cancelled):
            self._is_on.clear()
            if not (self.has_room or self._is_cancelled):
                self._is_stalled.set()
                await self._is_on.wait()
        return not self._is_cancelled

    async def stalls(self) -> None:
        """Wait until the handler, which is async, waits for room."""
        while self.has_room or self._is_cancelled:
            self._is_stalled.clear()
            await self._is_stalled.wait()


class Outlets:
    """The outlets of one pool, by their tasks. Safe from any thread."""

    def __init__(self, report: Callable[[PoolFact], None], loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._report = report
        self._loop = loop
        self._lock = threading.Lock()
        self._open: dict[int, Outlet] = {}
        self._early: OrderedDict[int, int] = (
            OrderedDict()
        )  # parts for which there is room, of tasks that have not begun

    def open(self, task: messages.Task) -> Outlet | None:
        """The handler of ``task`` is about to be called; None: its answer is wanted whole."""
        if not isinstance(task, messages.StreamTask):
            return None
        outlet = Outlet(task, self._report, self._loop)
        with self._lock:
            self._open[task.id] = outlet
            if task.id in self._early:
                outlet.grant(self._early.pop(task.id))
        return outlet

    def close(self, task: int) -> None:
        """The handler of ``task`` has ended."""
        with self._lock:
            del self._open[task]

    def grant(self, task: int, parts: int) -> None:
        """Let the answer to ``task`` have parts up to number ``parts``: there is room for them."""
        with self._lock:
            outlet = self._open.get(task)
            if outlet is None:
                self._early[task] = max(parts, self._early.pop(task, 0))
                if len(self._early) > EARLY_MAX:
                    self._early.popitem(last=False)
        if outlet is not None:
            outlet.grant(parts)

    def cancel(self, task: int) -> None:
        """Nobody wants any more parts of the answer to ``task``."""
        with self._lock:
            outlet = self._open.get(task)
        if outlet is not None:
            outlet.cancel()


def progress_teller(report: Callable[[PoolFact], None]) -> Callable[[messages.ProgressMade], None]:
    """What tells the worker's core how far a handler is, as a pool reports it."""
    return lambda progress: report(AnswersWentOn([progress]))
