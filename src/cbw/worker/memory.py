"""A pool without threads, for systems in memory: handlers run when they are told to, and take time that passes elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cbw.contract.context import Context
from cbw.contract.retrying import Retrying
from cbw.contract.service import Contract
from cbw.core import messages
from cbw.core.worker.events import PoolFact, TasksFinished
from cbw.worker.handler import Handler, cancelled


class MemoryPool:
    """A :class:`cbw.core.worker.driver.HandlerPool` whose owner calls :meth:`run_next` for each handler that may begin.

    The answer of a handler is reported ``work_time_s`` seconds after it began, by ``clock``.
    """

    def __init__(
        self,
        handlers: Mapping[str, Callable[..., Any]],
        concurrency: int,
        work_time_s: float,
        clock: Callable[[], float],
        retrying: Retrying,
    ) -> None:
        self._handlers = {
            name: Handler(name, function, _retrying_of(function, retrying), chance=lambda: 0.5)
            for name, function in handlers.items()
        }
        self._concurrency = concurrency
        self._work_time_s = work_time_s
        self._clock = clock
        self._waiting: deque[messages.Task] = deque()
        self._running: dict[int, Context] = {}
        self._answers: list[tuple[float, messages.Answer]] = []  # when each is to be reported, earliest first

    @property
    def wake_at(self) -> float:
        """When there is something to report; infinity: never."""
        return self._answers[0][0] if self._answers else math.inf

    def begin(self, tasks: list[messages.Task]) -> None:
        self._waiting.extend(tasks)

    def take_back(self, tasks: list[int]) -> list[int]:
        back = [task.id for task in self._waiting if task.id in tasks]
        self._waiting = deque(task for task in self._waiting if task.id not in back)
        return back

    def cancel(self, task: int) -> None:
        if task in self._running:
            self._running[task].is_cancelled = True
        elif self.take_back([task]):
            self._answers.insert(0, (self._clock(), cancelled(task)))

    def end_overdue(self, task: int) -> messages.Answer | None:
        return None  # no handler has a limit here

    def tell_stuck(self, task: int) -> None:
        """Nothing is stuck."""

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Nobody reads it."""

    def take_reports(self) -> list[PoolFact]:
        reports: list[PoolFact] = []
        now = self._clock()
        while self.wake_at <= now:
            answer = self._answers.pop(0)[1]
            self._running.pop(answer.id, None)
            reports.append(TasksFinished([answer], self._work_time_s))
        return reports

    def run_next(self) -> bool:
        """Call the handler of the next task, if there is room; whether there was."""
        if not self._waiting or len(self._running) >= self._concurrency:
            return False
        task = self._waiting.popleft()
        handler = self._handlers[task.service]
        context = self._running[task.id] = Context(task, self._clock(), self._clock)
        answer = _awaited(handler.run_async(task, context)) if handler.is_async else handler.run(task, context)
        self._answers.append((self._clock() + self._work_time_s, answer))
        self._answers.sort(key=lambda item: item[0])
        return True


def _awaited(answer: Coroutine[Any, Any, messages.Answer]) -> messages.Answer:
    """What ``answer`` comes to, in an event loop of its own; in another thread if the test runs in one itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(answer)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, answer).result()


def _retrying_of(function: Callable[..., Any], otherwise: Retrying) -> Retrying:
    if not isinstance(function, Contract):
        return otherwise
    return Retrying(*(function.handling[name] for name in ("retries", "retry_on", "backoff_s")))
