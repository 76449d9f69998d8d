"""Runs a function that serves many requests with one call: each call gets what waits, up to the size of a batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from cbw.core import messages
from cbw.core.parts import SUCCEEDED
from cbw.core.worker.events import TasksFinished
from cbw.worker.event_loop import LoopThread
from cbw.worker.handler import Handler, cancelled, failed
from cbw.worker.limited import LimitedTasks
from cbw.worker.pool import Owner, Watch, failing


class BatchPool:
    """A :class:`~cbw.worker.pool.Pool` for one ``handler``, of which ``calls`` run at once; an async one in ``loop_thread``."""

    def __init__(
        self,
        handler: Handler,
        calls: int,
        owner: Owner,
        watch: Watch | None = None,
        on_failed: Watch | None = None,
        loop_thread: LoopThread | None = None,
    ) -> None:
        assert handler.batch is not None
        self.replaced = 0
        self._handler = handler
        self._size = handler.batch
        self._owner = owner
        self._watch = watch
        self._on_failed = on_failed
        self._waiting: deque[messages.Task] = deque()
        self._has_changed = threading.Condition()
        self._is_closed = False
        self._limited = LimitedTasks({handler.service: handler}, owner)
        self.stuck = self._limited.stuck
        self.tell_stood_still = self._limited.tell_stood_still
        self._own_loop: LoopThread | None = None
        if handler.is_async and loop_thread is None:
            loop_thread = self._own_loop = LoopThread(owner.fail)
        self._loop = loop_thread.loop if loop_thread is not None else None
        for number in range(calls):
            threading.Thread(target=self._run, name=f"batches {number + 1}", daemon=True).start()

    def is_ready(self) -> bool:
        return True

    def begin(self, tasks: Sequence[messages.Task], *, inline: bool = False) -> None:
        with self._has_changed:
            self._waiting.extend(tasks)
            self._has_changed.notify_all()

    def take_back(self, tasks: Iterable[int]) -> list[int]:
        wanted = set(tasks)
        with self._has_changed:
            back = [task.id for task in self._waiting if task.id in wanted]
            self._waiting = deque(task for task in self._waiting if task.id not in wanted)
        return back

    def cancel(self, task: int) -> None:
        """What a call has taken runs on, as the others in its batch are wanted."""
        if self.take_back([task]):
            self._owner.report(TasksFinished([cancelled(task)], 0.0))

    def grant(self, task: int, parts: int) -> None:
        """Nothing to do: it makes no parts."""

    def end_overdue(self, task: int) -> messages.Answer | None:
        exceeded = self._limited.exceed(task)
        if exceeded is None:
            return None
        if self._on_failed is not None:
            self._on_failed(*exceeded)
        return exceeded[1]

    def tell_stuck(self, task: int) -> None:
        self._limited.tell_stuck(task, "its batch goes on")

    def run_inline(self) -> bool:
        return False

    def wake_threads(self) -> None:
        """Nothing to do: they wake by themselves."""

    def reopen_trace(self) -> None:
        """Nothing to do: it has no processes."""

    def close(self) -> None:
        with self._has_changed:
            self._waiting.clear()
            self._is_closed = True
            self._has_changed.notify_all()
        if self._own_loop is not None:
            self._own_loop.close()

    # --- in its threads

    def _run(self) -> None:
        with failing(self._owner):
            while batch := self._take():
                self._serve(batch)

    def _take(self) -> list[messages.Task]:
        """The next batch, when there is any; none: the pool is closed. A full one does not wait."""
        with self._has_changed:
            while not self._is_closed:
                while not (self._waiting or self._is_closed):
                    self._has_changed.wait()
                full_by = time.monotonic() + self._handler.wait_s
                while len(self._waiting) < self._size and (left_s := full_by - time.monotonic()) > 0:
                    self._has_changed.wait(left_s)
                if self._waiting:  # another thread may have taken all of them meanwhile
                    return [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
        return []

    def _serve(self, tasks: list[messages.Task]) -> None:
        handler, began_at = self._handler, time.perf_counter()
        if self._watch is not None:
            for task in tasks:
                self._watch(task, None)
        if handler.time_limit_s is not None:
            for task in tasks:
                self._limited.begun(task, handler.time_limit_s)
        called_at = time.perf_counter()
        try:
            answers = handler.run_batch(tasks, self._await if handler.is_async else None)
        except BaseException as error:
            answers = [failed(task, error) for task in tasks]
        took = {handler.service: [time.perf_counter() - called_at]}
        for task, answer in zip(tasks, answers, strict=True):
            is_late = handler.time_limit_s is not None and self._limited.ended(task.id)
            if not is_late:
                self._tell(task, answer)
        self._owner.report(TasksFinished(answers, time.perf_counter() - began_at, took))

    def _await(self, coroutine: Any) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _tell(self, task: messages.Task, answer: messages.Answer) -> None:
        if self._watch is not None:
            self._watch(task, answer)
        if answer.status not in SUCCEEDED and self._on_failed is not None:
            self._on_failed(task, answer)
