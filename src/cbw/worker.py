"""The worker: a DEALER around :class:`~cbw.core.worker.WorkerCore` in one thread, handlers beside it."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import zmq

from cbw.core import messages as m
from cbw.core.events import Record
from cbw.core.worker import WorkerCore
from cbw.errors import BadMessage, UsageError
from cbw.handler import Handler
from cbw.net import Link, Sleeper, Waker
from cbw.pool import Done, Pool, make_pool
from cbw.refusal import refusal_error
from cbw.settings import address
from cbw.trace import Trace
from cbw.wire import native

F = TypeVar("F", bound=Callable[..., Any])
QUICK_S = 0.001
"""A handler that is done in less is worth waiting for beside the socket: its answer leaves without one more wake-up."""
RETRY_S = 0.005


class Worker:
    """Serves requests with your functions.

    ::

        worker = cbw.Worker("broker:9999")

        @worker.service("double")
        def double(number: int) -> int:
            return 2 * number

        worker.run()

    ``broker`` is ``"host:port"`` of the broker's worker port (default: ``BROKER_HOST`` and ``BROKER_PORT``, else
    ``127.0.0.1:9999``). ``id`` must be its own among living workers (default: ``WOR_<host>_<process>``).
    ``concurrency`` tasks run at once; with ``processes`` they run in that many child processes, each with that
    concurrency, and a handler that crashes costs one attempt instead of the worker.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        id: str | None = None,
        concurrency: int = 1,
        processes: int = 0,
        grace_s: float = 10.0,
        trace: Trace | None = None,
    ) -> None:
        self._address = address(broker, "worker")
        self.id = id or f"WOR_{socket.gethostname()}_{os.getpid()}"
        if concurrency < 1 or processes < 0:
            raise UsageError(f"concurrency {concurrency} and processes {processes}: at least 1 and 0")
        self._concurrency = concurrency
        self._processes = processes
        self._grace_s = grace_s
        self._trace = trace or Trace(is_printing=False)
        self._handlers: dict[str, Handler] = {}
        self._waker = Waker()
        self._is_stop_wanted = False
        self._is_sleeping = False

    def service(self, name: str = "") -> Callable[[F], F]:
        """Decorator: the function serves requests for ``name`` (see :class:`~cbw.handler.Handler` for its arguments)."""

        def register(function: F) -> F:
            self.add(name, function)
            return function

        return register

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Serve requests for ``name`` with ``function``.

        Raises:
            UsageError: ``name`` is served already, the function cannot be a handler, or is async beside a sync one.
        """
        handler = Handler(name, function)
        if name in self._handlers:
            raise UsageError(f"service {name!r} has a handler already")
        if any(other.is_async != handler.is_async for other in self._handlers.values()):
            raise UsageError("a worker's handlers are all async or all not; run two workers")
        self._handlers[name] = handler

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._is_stop_wanted = True
        self._waker.wake()

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            UsageError: no service, or the broker refuses the hello.
            DuplicateId: another living worker has this id.
            VersionMismatch: the broker speaks another version.
        """
        if not self._handlers:
            raise UsageError("a worker without a service", advice="Register one with @worker.service(name).")
        context: zmq.Context[Any] = zmq.Context()
        link = Link(context, *self._address)
        done: Done = queue.SimpleQueue()
        try:
            pool = self._make_pool(done)
            try:
                concurrency = self._concurrency * max(1, self._processes)
                core = WorkerCore(self.id, os.urandom(8).hex(), list(self._handlers), concurrency)
                self._serve(core, link, pool, done)
                if core.refused is not None:
                    raise refusal_error(core.refused)
            finally:
                pool.close()
        finally:
            link.close()
            context.term()
            self._waker.close()
            self._trace.close()

    def _make_pool(self, done: Done) -> Pool:
        if self._processes:
            from cbw.processes import ProcessPool  # noqa: PLC0415 - multiprocessing only for those who use it

            trace = (self.id, self._trace.path) if self._trace.path else None
            return ProcessPool(self._handlers, self._processes, self._concurrency, done, self._notify, trace)
        watch = watcher(self.id, self._trace) if self._trace.wants_all else None
        return make_pool(self._handlers, self._concurrency, done, self._notify, watch)

    def _notify(self) -> None:
        if self._is_sleeping:
            self._waker.wake()

    def _serve(self, core: WorkerCore, link: Link, pool: Pool, done: Done) -> None:
        sleeper = Sleeper(self._waker.fileno(), link.news, link.monitor_news)
        unsent: list[list[Any]] = []
        has_changes = False
        while not core.is_done:
            now = time.monotonic()
            if self._is_stop_wanted:
                self._is_stop_wanted = False
                core.stop_requested(now, now + self._grace_s)
            for is_connected in link.watch() if has_changes else ():
                self._say("connected" if is_connected else "disconnected")
                if is_connected:
                    core.connected(now)
                else:
                    core.disconnected(now)
                    unsent.clear()
            while (frames := link.receive()) is not None:
                try:
                    core.received(native.to_worker(frames), now)
                except BadMessage as error:
                    self._say("bad_message", str(error))
            while not done.empty():
                core.finished(*done.get(), now)
            if core.wake_at is not None and now >= core.wake_at:
                core.tick(now)
            if core.is_reconnect_wanted:
                core.is_reconnect_wanted = False
                self._say("reconnecting", "the broker is silent")
                link.reopen()
                sleeper = Sleeper(self._waker.fileno(), link.news, link.monitor_news)
                unsent.clear()
            if _order(core, pool, now) and core.is_quick:
                with contextlib.suppress(queue.Empty):
                    core.finished(*done.get(timeout=QUICK_S), now)
            unsent.extend(frames for frames, _ in native.encode(core.take_messages(now)))
            while unsent and link.send(unsent[0]):
                del unsent[0]
            timeout_s = RETRY_S if unsent else None if core.wake_at is None else core.wake_at - now
            self._is_sleeping = True
            is_idle = done.empty() and not self._is_stop_wanted and not core.is_done and not link.has_input
            news = sleeper.sleep(timeout_s) if is_idle else []
            self._is_sleeping = False
            has_changes = link.woke(news)
            if self._waker.fileno() in news:
                self._waker.clear()
        for frames, _ in native.encode(core.take_messages(now)):
            link.send(frames)

    def _say(self, event: str, text: str = "") -> None:
        self._trace.write([Record(time.monotonic(), event, "worker", self.id, worker=self.id, text=text)])


def _order(core: WorkerCore, pool: Pool, now: float) -> bool:
    """Carry out what ``core`` wants of ``pool``; whether anything was begun."""
    if core.is_reset:
        core.is_reset = False
        pool.drop()
    if core.to_take_back:
        wanted, core.to_take_back = core.to_take_back, []
        core.returned(pool.take_back(wanted), now)
    if core.to_cancel:
        for task in core.to_cancel:
            pool.cancel(task)
        core.to_cancel.clear()
    tasks = core.take_tasks()
    if tasks:
        pool.begin(tasks)
    return bool(tasks)


def watcher(worker: str, trace: Trace) -> Callable[[str, m.Task], None]:
    """A watch for a pool that writes to ``trace``."""

    def watch(event: str, task: m.Task) -> None:
        record = Record(time.monotonic(), event, "worker", worker, service=task.service, worker=worker, task=task.id)
        record.attempt = task.attempt
        trace.write([record])

    return watch
