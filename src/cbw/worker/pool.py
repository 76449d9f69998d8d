"""Where handlers run, beside the thread that owns the socket. Whole batches cross between the two.

A pool is given tasks with :meth:`Pool.begin`, may be asked to give back those that it has not begun, and tells its
:class:`Owner` what has become of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from queue import SimpleQueue
from typing import Any, Protocol

from cbw.contract.context import Context
from cbw.core import messages
from cbw.core.messages import OK
from cbw.core.parts import SUCCEEDED
from cbw.core.worker.events import TasksFinished
from cbw.current import request_context
from cbw.worker.event_loop import LOOP_CLOSE_S, LoopThread
from cbw.worker.handler import Handler, cancelled, failed
from cbw.worker.limited import LimitedTasks, Reporter
from cbw.worker.outlet import Outlets, progress_teller

HAND_OVER_S = 0.0002
"""Longest time in seconds for which a thread that has more to do keeps answers: the first of a batch must not wait for the
last, and to hand each over by itself would cost more than a quick handler does."""

Watch = Callable[[messages.Task, messages.Answer | None], None]
"""Called with ``(task, None)`` just before a handler runs and with ``(task, answer)`` just after, in the handler's thread."""


class Owner(Reporter, Protocol):
    """Whoever has a pool. The pool calls these from threads of its own."""

    def fail(self, error: BaseException) -> None:
        """The pool can never work again: end the worker with ``error``."""


class Pool(Protocol):
    """What every pool can do."""

    replaced: int
    """How many child processes were ended between two tasks, to be replaced by others."""

    def is_ready(self) -> bool:
        """Whether it can run anything now. It reports when that changes; what is begun nevertheless comes back."""

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        """Run these when there is room; ``inline`` promises a :meth:`run_inline` at once."""

    def take_back(self, tasks: Iterable[int]) -> list[int] | None:
        """Take back the ``tasks`` that have not begun, which are returned. None: a report will tell."""

    def cancel(self, task: int) -> None:
        """Stop ``task`` if that is possible: what has not begun and what awaits; a plain function runs on."""

    def grant(self, task: int, parts: int) -> None:
        """Let the answer to ``task`` have parts up to number ``parts``: there is room for them."""

    def end_overdue(self, task: int) -> messages.Answer | None:
        """``task`` has exceeded its time limit: end its handler if that is possible. The answer for its client; None: it has
        ended. When the handler has ended that is reported, as for any task."""

    def tell_stuck(self, task: int) -> None:
        """Record that the handler of ``task``, which was to end, has not."""

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Record that nothing of this process has run for ``for_s`` seconds."""

    def stuck(self) -> list[dict[str, Any]]:
        """What handlers do that are stuck, for the status."""

    def run_inline(self) -> bool:
        """Run waiting tasks in the calling thread for about :data:`HAND_OVER_S`; whether any are left for another call."""

    def wake_threads(self) -> None:
        """Run what waits in the pool's own threads: nobody will call :meth:`run_inline`."""

    def reopen_trace(self) -> None:
        """Have processes of its own begin a new trace file. Called by signal handlers."""

    def close(self) -> None:
        """End; what still runs is abandoned."""


@contextlib.contextmanager
def failing(owner: Owner) -> Iterator[None]:
    """What a thread of a pool does: an error that nothing there expects ends the worker, and not only the thread, which
    nobody would miss until a task waits for it for ever."""
    try:
        yield
    except BaseException as error:
        owner.fail(error)


class ThreadPool:
    """Runs functions in ``concurrency`` threads that take from one queue."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        concurrency: int,
        owner: Owner,
        watch: Watch | None = None,
        on_failed: Watch | None = None,
    ) -> None:
        self._handlers = handlers
        self._owner = owner
        self._watch = watch
        self._on_failed = on_failed
        self._waiting: deque[tuple[messages.Task, float]] = deque()  # with the times at which they came
        self._running: dict[int, Context] = {}
        self.replaced = 0
        self._limited = LimitedTasks(handlers, owner)
        self._outlets = Outlets(owner.report)
        self.grant = self._outlets.grant
        self._tell_progress = progress_teller(owner.report)
        self.stuck = self._limited.stuck
        self.tell_stood_still = self._limited.tell_stood_still
        self._wake: SimpleQueue[bool] = SimpleQueue()
        self._concurrency = concurrency
        self._slots = threading.Lock() if concurrency == 1 else threading.Semaphore(concurrency)  # a lock costs less
        for number in range(concurrency):
            threading.Thread(target=self._run, name=f"handler {number + 1}", daemon=True).start()

    def is_ready(self) -> bool:
        return True

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        self._waiting.extend(zip(tasks, repeat(time.monotonic())))
        if not inline:
            self.wake_threads()

    def wake_threads(self) -> None:
        for _ in range(min(len(self._waiting), self._concurrency)):
            self._wake.put(True)

    def take_back(self, tasks: Iterable[int]) -> list[int]:
        wanted = set(tasks)
        back: list[int] = []
        others: list[tuple[messages.Task, float]] = []
        with contextlib.suppress(IndexError):
            while True:
                waiting = self._waiting.pop()
                if waiting[0].id in wanted:
                    back.append(waiting[0].id)
                else:
                    others.append(waiting)
        self._waiting.extendleft(others)
        self.wake_threads()  # one that found the queue empty meanwhile sleeps
        return back

    def cancel(self, task: int) -> None:
        if self.take_back([task]):
            self._owner.report(TasksFinished([cancelled(task)], 0.0))
        elif (context := self._running.get(task)) is not None:
            context.is_cancelled = True
            self._outlets.cancel(task)

    def end_overdue(self, task: int) -> messages.Answer | None:
        """Python has no means to end a thread: the handler can only see that it is cancelled."""
        exceeded = self._limited.exceed(task)
        if exceeded is None:
            return None
        context = self._running.get(task)
        if context is not None:
            context.is_cancelled = True
            self._outlets.cancel(task)
        if self._on_failed is not None:
            self._on_failed(*exceeded)
        return exceeded[1]

    def tell_stuck(self, task: int) -> None:
        self._limited.tell_stuck(task, "its thread cannot be ended; with --processes it could be")

    def reopen_trace(self) -> None:
        """Nothing to do: it has no processes."""

    def close(self) -> None:
        self._waiting.clear()
        for _ in range(self._concurrency):
            self._wake.put(False)

    def run_inline(self) -> bool:
        if not self._waiting:
            return False
        if not self._slots.acquire(blocking=False):
            self._wake.put(True)  # a thread of the pool is about to be done, and goes on with what waits
            return False
        try:
            self._work(is_once=True)
        finally:
            self._slots.release()
        return bool(self._waiting)

    def _run(self) -> None:
        with failing(self._owner):
            while self._wake.get():
                with self._slots:
                    self._work()

    def _work(self, *, is_once: bool = False) -> None:
        """Run what waits. ``is_once``: only until the first handing over."""
        waiting, handlers, running, watch = self._waiting, self._handlers, self._running, self._watch
        limited, tell_progress = self._limited, self._tell_progress
        report, clock = self._owner.report, time.perf_counter
        answers: list[messages.Answer] = []
        took: defaultdict[str, list[float]] = defaultdict(list)  # seconds of each call, by service
        began_at = called_at = clock()
        while True:
            try:
                task, received_at = waiting.popleft()
            except IndexError:
                break
            context = running[task.id] = Context(task, received_at, tell_progress)
            request_context.set(context)
            handler = handlers[task.service]
            if answers and (handler.time_limit_s is not None or handler.is_stream):
                # It may never return, or wait for its client.
                report(TasksFinished(answers, called_at - began_at, took))
                answers, took = [], defaultdict(list)
                began_at = called_at = clock()
            if handler.time_limit_s is not None:
                limited.begun(task, handler.time_limit_s)
            if watch is not None:
                watch(task, None)
                called_at = clock()
            try:
                answer = self._stream(handler, task, context) if handler.is_stream else handler.run(task, context)
            except BaseException as error:  # KeyboardInterrupt too: it is the handler's own, signals do not come here
                answer = failed(task, error)
            ended_at = clock()
            took[task.service].append(ended_at - called_at)
            answers.append(answer)
            is_late = handler.time_limit_s is not None and limited.ended(task.id)
            if watch is not None and not is_late:
                watch(task, answer)
            if (
                answer.status is not OK
                and answer.status not in SUCCEEDED
                and self._on_failed is not None
                and not is_late
            ):
                self._on_failed(task, answer)
            del running[task.id]
            called_at = ended_at  # of the next one
            if ended_at - began_at > HAND_OVER_S:
                if is_once:
                    break
                report(TasksFinished(answers, ended_at - began_at, took))
                answers, took = [], defaultdict(list)
                began_at = called_at = clock()
        request_context.set(None)
        if answers:
            report(TasksFinished(answers, called_at - began_at, took))

    def _stream(self, handler: Handler, task: messages.Task, context: Context) -> messages.Answer:
        outlet = self._outlets.open(task)
        try:
            return handler.run(task, context, outlet)
        finally:
            if outlet is not None:
                self._outlets.close(task.id)


class AsyncPool:
    """Runs async functions, ``concurrency`` at once, on one event loop in a thread of its own."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        concurrency: int,
        owner: Owner,
        watch: Watch | None = None,
        on_failed: Watch | None = None,
        loop_thread: LoopThread | None = None,
    ) -> None:
        self._handlers = handlers
        self._owner = owner
        self._watch = watch
        self._on_failed = on_failed
        self._room = concurrency
        self._waiting: deque[tuple[messages.Task, float]] = deque()  # with the times at which they came
        self._running: dict[int, tuple[asyncio.Task[None], Context]] = {}
        self.replaced = 0
        self._limited = LimitedTasks(handlers, owner)
        self._tell_progress = progress_teller(owner.report)
        self.stuck = self._limited.stuck
        self.tell_stood_still = self._limited.tell_stood_still
        self._answers: list[messages.Answer] = []
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._busy_s = 0.0
        self._own_thread: LoopThread | None = None
        if loop_thread is None:
            loop_thread = self._own_thread = LoopThread(owner.fail)
        self._loop = loop_thread.loop
        self._outlets = Outlets(owner.report, self._loop)
        self.grant = self._outlets.grant

    def is_ready(self) -> bool:
        return True

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        self._waiting.extend(zip(tasks, repeat(time.monotonic())))
        self._loop.call_soon_threadsafe(self._fill)

    def take_back(self, tasks: Iterable[int]) -> list[int]:
        wanted = set(tasks)
        back: list[int] = []
        for waiting in [waiting for waiting in list(self._waiting) if waiting[0].id in wanted]:
            with contextlib.suppress(ValueError):  # it began just now
                self._waiting.remove(waiting)
                back.append(waiting[0].id)
        return back

    def cancel(self, task: int) -> None:
        self._loop.call_soon_threadsafe(self._cancel, task)

    def end_overdue(self, task: int) -> messages.Answer | None:
        exceeded = self._limited.exceed(task)
        if exceeded is None:
            return None
        self._loop.call_soon_threadsafe(self._cancel, task)
        if self._on_failed is not None:
            self._on_failed(*exceeded)
        return exceeded[1]

    def tell_stuck(self, task: int) -> None:
        self._limited.tell_stuck(task, "its coroutine was cancelled and goes on, or blocks the event loop")

    def run_inline(self) -> bool:
        return False  # coroutines run in their loop's thread

    def wake_threads(self) -> None:
        """Nothing to do: coroutines run in their loop's thread anyway."""

    def reopen_trace(self) -> None:
        """Nothing to do: it has no processes."""

    def close(self) -> None:
        self._waiting.clear()
        if self._own_thread is not None:
            self._own_thread.close()
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError):  # a coroutine blocks the loop, or does not heed that it is cancelled
            ended.result(LOOP_CLOSE_S)

    # --- in the loop's thread

    async def _end(self) -> None:
        """Cancel what still runs, in a loop that is needed by others."""
        running = [task for task, _ in self._running.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _fill(self) -> None:
        while self._room and self._waiting:
            try:
                task, received_at = self._waiting.popleft()
            except IndexError:
                return
            self._room -= 1
            context = Context(task, received_at, self._tell_progress)
            self._running[task.id] = (self._loop.create_task(self._serve(task, context)), context)

    async def _serve(self, task: messages.Task, context: Context) -> None:
        began_at = time.perf_counter()
        request_context.set(context)  # this coroutine's alone
        self._tell(task, None)
        handler = self._handlers[task.service]
        if handler.time_limit_s is not None:
            self._limited.begun(task, handler.time_limit_s, self._running[task.id][0])
        outlet = self._outlets.open(task) if handler.is_stream else None
        called_at = time.perf_counter()
        try:
            answer = await handler.run_async(task, context, outlet)
        except asyncio.CancelledError as error:  # by us, or by something that the handler awaited
            answer = cancelled(task.id) if context.is_cancelled else failed(task, error)
        except BaseException as error:
            answer = failed(task, error)
        self._took[task.service].append(time.perf_counter() - called_at)
        if outlet is not None:
            self._outlets.close(task.id)
        if handler.time_limit_s is None or not self._limited.ended(task.id):
            self._tell(task, answer)
        self._room += 1
        del self._running[task.id]
        if not self._answers:
            self._loop.call_soon(self._hand_over)
        self._answers.append(answer)
        self._busy_s += time.perf_counter() - began_at
        self._fill()

    def _tell(self, task: messages.Task, answer: messages.Answer | None) -> None:
        with failing(self._owner):  # or asyncio would note that a task of its loop has failed, and nobody else
            if self._watch is not None:
                self._watch(task, answer)
            if answer is not None and answer.status not in SUCCEEDED and self._on_failed is not None:
                self._on_failed(task, answer)

    def _cancel(self, task: int) -> None:
        if task in self._running:
            running, context = self._running[task]
            context.is_cancelled = True
            self._loop.call_soon(running.cancel)  # behind its first step: without that it would end and tell nobody
        elif self.take_back([task]):
            self._owner.report(TasksFinished([cancelled(task)], 0.0))

    def _hand_over(self) -> None:
        answers, self._answers = self._answers, []
        took, self._took = self._took, defaultdict(list)
        busy_s, self._busy_s = self._busy_s, 0.0
        self._owner.report(TasksFinished(answers, busy_s, took))
