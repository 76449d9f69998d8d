"""A pool without threads, for systems in memory: handlers run when they are told to, and take time that passes elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from cbw.contract.context import Context
from cbw.contract.retrying import Retrying
from cbw.contract.service import Contract
from cbw.core import messages
from cbw.core.worker.events import PoolFact, TasksFinished
from cbw.worker.handler import Handler, cancelled
from cbw.worker.outlet import Outlet, progress_teller

R = TypeVar("R")


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
            name: Handler(
                name, function, _retrying_of(function, retrying), batch=_batch_of(function), chance=lambda: 0.5
            )
            for name, function in handlers.items()
        }
        self.takes_streams = any(handler.is_stream for handler in self._handlers.values())
        self._concurrency = concurrency
        self._work_time_s = work_time_s
        self._clock = clock
        self._waiting: deque[messages.Task] = deque()
        self._running: dict[int, Context] = {}
        self._answers: list[tuple[float, messages.Answer]] = []  # when each is to be reported, earliest first
        self._streams: dict[int, _Stream] = {}
        self._news: list[PoolFact] = []

    @property
    def wake_at(self) -> float:
        """When there is something to report; infinity: never."""
        if self._news:
            return -math.inf
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
            if task in self._streams:
                self._streams[task].outlet.cancel()
                self._go_on(task)
        elif self.take_back([task]):
            self._answers.insert(0, (self._clock(), cancelled(task)))

    def grant(self, task: int, parts: int) -> None:
        if task in self._streams:
            self._streams[task].outlet.grant(parts)
            self._go_on(task)
        for waiting in self._waiting:
            if waiting.id == task and isinstance(waiting, messages.StreamTask):
                waiting.parts = max(parts, waiting.parts)

    def _go_on(self, task: int) -> None:
        """Run the handler of a stream until it has no more room, or has ended."""
        answer = self._streams[task].go_on()
        if answer is not None:
            del self._streams[task]
            self._ended(answer)

    def _ended(self, answer: messages.Answer) -> None:
        self._answers.append((self._clock() + self._work_time_s, answer))
        self._answers.sort(key=lambda item: item[0])

    def end_overdue(self, task: int) -> messages.Answer | None:
        return None  # no handler has a limit here

    def tell_stuck(self, task: int) -> None:
        """Nothing is stuck."""

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Nobody reads it."""

    def take_reports(self) -> list[PoolFact]:
        reports, self._news = self._news, []
        now = self._clock()
        while self.wake_at <= now:
            answer = self._answers.pop(0)[1]
            self._running.pop(answer.id, None)
            reports.append(TasksFinished([answer], self._work_time_s))
        return reports

    def _run_batch(self, handler: Handler, first: messages.Task) -> bool:
        """Call a handler with all that waits for it, however many it is to run at once."""
        assert handler.batch is not None
        more = [task for task in self._waiting if task.service == first.service][: handler.batch - 1]
        self.take_back([task.id for task in more])
        for task in more:
            self._running[task.id] = Context(task, self._clock(), None, self._clock)
        awaited = (lambda coroutine: _run(lambda: asyncio.run(coroutine))) if handler.is_async else None
        for answer in handler.run_batch([first, *more], awaited):
            self._ended(answer)
        return True

    def run_next(self) -> bool:
        """Call the handler of the next task, if there is room; whether there was."""
        if not self._waiting or len(self._running) >= self._concurrency:
            return False
        task = self._waiting.popleft()
        handler = self._handlers[task.service]
        tell = progress_teller(lambda fact: self._news.append(fact))
        context = self._running[task.id] = Context(task, self._clock(), tell, self._clock)
        if handler.batch is not None:
            return self._run_batch(handler, task)
        if handler.is_stream and isinstance(task, messages.StreamTask):
            outlet = Outlet(task, lambda fact: self._news.append(fact))
            kind = _AsyncStream if handler.is_async else _PlainStream
            self._streams[task.id] = kind(handler, task, context, outlet)
            self._go_on(task.id)
            return True
        answer = _awaited(handler.run_async(task, context)) if handler.is_async else handler.run(task, context)
        self._ended(answer)
        return True


class _Stream(Protocol):
    """The handler of a stream, which runs when it is told to."""

    outlet: Outlet

    def go_on(self) -> messages.Answer | None:
        """Run it until it has no more room; or until it has ended, with this answer."""


class _PlainStream:
    def __init__(self, handler: Handler, task: messages.StreamTask, context: Context, outlet: Outlet) -> None:
        self.outlet = outlet
        self._steps = handler.steps(task, context, outlet)

    def go_on(self) -> messages.Answer | None:
        try:
            next(self._steps)
        except StopIteration as end:
            answer: messages.Answer = end.value
            return answer
        return None


class _AsyncStream:
    """Its event loop runs only in :meth:`go_on`."""

    def __init__(self, handler: Handler, task: messages.StreamTask, context: Context, outlet: Outlet) -> None:
        self.outlet = outlet
        self._loop = asyncio.new_event_loop()
        self._running = self._loop.create_task(handler.run_async(task, context, outlet))

    def go_on(self) -> messages.Answer | None:
        _run(self._until_stalled)
        if not self._running.done():
            return None
        self._loop.close()
        return self._running.result()

    def _until_stalled(self) -> None:
        self._loop.run_until_complete(self._stalled_or_done())

    async def _stalled_or_done(self) -> None:
        stalled = asyncio.ensure_future(self.outlet.stalls())
        await asyncio.wait({self._running, stalled}, return_when=asyncio.FIRST_COMPLETED)
        stalled.cancel()


def _awaited(answer: Coroutine[Any, Any, messages.Answer]) -> messages.Answer:
    """What ``answer`` comes to, in an event loop of its own; in another thread if the test runs in one itself."""
    return _run(lambda: asyncio.run(answer))


def _run(function: Callable[[], R]) -> R:
    """What ``function`` returns, which runs an event loop; in another thread if the test runs in one itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, function).result()


def _batch_of(function: Callable[..., Any]) -> int | None:
    batch: int | None = function.handling["batch"] if isinstance(function, Contract) else None
    return batch


def _retrying_of(function: Callable[..., Any], otherwise: Retrying) -> Retrying:
    if not isinstance(function, Contract):
        return otherwise
    return Retrying(*(function.handling[name] for name in ("retries", "retry_on", "backoff_s")))
