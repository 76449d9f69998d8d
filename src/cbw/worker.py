"""The worker: a DEALER around :class:`~cbw.core.worker.WorkerCore`, and handlers beside it.

One thread at a time has the socket's *turn*. Handlers run in a pool; but those that have proved quick (under 2 ms) run in
the thread that has just received their tasks, which gives up its turn meanwhile: that saves two changes of threads, a
third of a lone request's time. Should one of them take long after all, a guard thread takes the turn over, so that beats,
recalls and new tasks never wait for a handler.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import zmq

from cbw.core.events import Record
from cbw.core.worker import WorkerCore
from cbw.errors import BadMessage, UsageError
from cbw.handler import Handler
from cbw.net import Link
from cbw.pool import Done, Pool, make_pool, watcher
from cbw.refusal import checked_id, checked_service, refusal_error
from cbw.settings import address
from cbw.signals import stopping_unless_handled
from cbw.sleeper import SLEEP_MAX_S, Sleeper, Waker
from cbw.status import Inquiry, status_of
from cbw.trace import LogTarget, Trace
from cbw.wire import native

F = TypeVar("F", bound=Callable[..., Any])
GUARD_S = 0.25
"""The guard takes the turn from a handler that has had it for this long: well under a beat."""
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
    concurrency, and a handler that crashes costs one attempt instead of the worker; every child imports your program
    again, so let :meth:`run` stand below ``if __name__ == "__main__":``. ``trace`` is where records go (default: to the
    logger of ``LOGGER_HOST``, if that is set); the worker closes it.
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
        self.id = f"WOR_{socket.gethostname()}_{os.getpid()}" if id is None else checked_id(id)
        for name, value, least in (("concurrency", concurrency, 1), ("processes", processes, 0)):
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} is {value!r}; it must be a whole number, at least {least}")
        self._concurrency = concurrency
        self._processes = processes
        self._grace_s = grace_s
        self._trace = trace or Trace(is_printing=False, name=self.id, log=LogTarget.from_environment())
        self._handlers: dict[str, Handler] = {}
        self._waker = Waker()
        self._has_run = self._is_stop_wanted = False
        self._failure: OSError | None = None
        self.inquiry = Inquiry(self._waker.wake)
        self._started_at = time.monotonic()
        self._is_sleeping = False  # the thread that has the turn sleeps, or is about to

    def service(self, name: str = "") -> Callable[[F], F]:
        """Decorator: the function serves requests for ``name`` (see :class:`~cbw.handler.Handler` for its arguments)."""

        def register(function: F) -> F:
            self.add(name, function)
            return function

        return register

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Serve requests for ``name`` with ``function``.

        Raises:
            UsageError: ``name`` is not valid or is served already, the function cannot be a handler, or is async beside one
                that is not.
        """
        handler = Handler(checked_service(name), function)
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
        """Serve until :meth:`stop`; SIGTERM and Ctrl-C call it, unless your program has handlers of its own for them.

        Raises:
            UsageError: no service, it has run before, the broker refuses the hello, or a child process ends before it is ready.
            DuplicateId: another living worker has this id.
            VersionMismatch: the broker speaks another version.
        """
        if self._has_run:
            raise UsageError("a worker runs once", advice="Make another Worker.")
        if not self._handlers:
            raise UsageError("a worker without a service", advice="Register one with @worker.service(name).")
        self._has_run = True
        with stopping_unless_handled(self):
            self._run()

    def _run(self) -> None:
        context: zmq.Context[Any] = zmq.Context()
        link = Link(context, *self._address, is_for_worker=True)
        done: Done = queue.SimpleQueue()
        try:
            pool = self._make_pool(done)
            try:
                concurrency = self._concurrency * max(1, self._processes)
                core = WorkerCore(self.id, os.urandom(8).hex(), list(self._handlers), concurrency)
                _Run(self, core, link, pool, done).serve()
                if core.refused is not None:
                    raise refusal_error(core.refused)
                if self._failure is not None:
                    raise self._failure
            finally:
                pool.close()
        finally:
            link.close()
            context.term()
            self._waker.close()
            self._trace.close()

    def _make_pool(self, done: Done) -> Pool:
        if self._processes:
            from cbw.processes import ProcessPool  # it takes time that most workers need not spend

            trace = (self.id, self._trace.path, self._trace.log) if self._trace.wants_all else None
            return ProcessPool(
                self._handlers,
                self._processes,
                self._concurrency,
                done,
                self._notify,
                trace,
                is_unwanted=lambda: self._is_stop_wanted,
            )
        watch = watcher(self.id, self._write) if self._trace.wants_all else None
        return make_pool(self._handlers, self._concurrency, done, self._notify, watch)

    def _write(self, records: Sequence[Record]) -> None:
        """From a handler's thread: if nobody reads what we print, the worker ends, and not only that thread."""
        try:
            self._trace.write(records)
        except OSError as error:
            self._failure = error
            self.stop()

    def _notify(self) -> None:
        if self._is_sleeping:
            self._waker.wake()


class _Run:
    """One run of a worker. Whoever has ``turn`` may call :meth:`_step`."""

    def __init__(self, worker: Worker, core: WorkerCore, link: Link, pool: Pool, done: Done) -> None:
        self._worker = worker
        self._core = core
        self._link = link
        self._pool = pool
        self._done = done
        self._turn = threading.Lock()
        self._busy_since: float | None = None  # since when the thread that serves has been in a handler
        self._is_here = False  # tasks wait for the thread that serves to run them
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._sleeper = self._new_sleeper()

    def serve(self) -> None:
        """Until the core is done. The calling thread only waits: it must be free for signals, and a handler may hang."""
        threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("socket", self._serve), ("guard", self._guard))
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._is_over.wait(SLEEP_MAX_S):
                pass
        finally:
            self._is_over.set()
            self._worker._waker.wake()
            with self._turn:  # whoever takes it after this sees that all is over
                pass
        if self._error is not None:
            raise self._error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error
            self._is_over.set()

    @property
    def _is_on(self) -> bool:
        return not (self._core.is_done or self._is_over.is_set())

    def _serve(self) -> None:
        with self._turn:
            while self._is_on:
                self._is_here = self._is_here and self._work_here()
                if self._is_on:
                    self._step(can_sleep=not self._is_here)
            self._end()

    def _end(self) -> None:
        if not self._is_over.is_set():
            self._send()
            self._is_over.set()

    def _work_here(self) -> bool:
        """Run some of what waits, if handlers are still quick; whether anything is left for this thread to run."""
        if not self._core.is_quick:
            self._pool.go_on()
            return False
        self._busy_since = time.monotonic()
        self._turn.release()
        try:
            has_more = self._pool.work_here()
        finally:
            self._busy_since = None
            if not self._turn.acquire(blocking=False):  # the guard has it
                self._worker._waker.wake()
                self._turn.acquire()
        if self._is_on:
            self._answer(time.monotonic())
        return has_more

    def _guard(self) -> None:
        while not self._is_over.wait(GUARD_S):
            since = self._busy_since
            if since is None or time.monotonic() - since < GUARD_S:
                continue
            with self._turn:
                self._is_here = False  # the thread that serves is in the handler: sleep for it, and let others work
                while self._busy_since is not None and self._is_on:
                    self._step(can_sleep=True)
                if self._core.is_done:
                    self._end()

    def _step(self, *, can_sleep: bool) -> None:
        """Wait for news, if there is time for that; take in everything that has happened, let the core decide, carry it out."""
        worker, core, link = self._worker, self._core, self._link
        has_changes = self._sleep(can_sleep=can_sleep)
        now = time.monotonic()
        if worker._is_stop_wanted:
            worker._is_stop_wanted = False
            core.stop_requested(now, now + worker._grace_s)
        if has_changes:
            self._connections(now)
        self._answer(now)
        while (frames := link.receive()) is not None:
            try:
                core.received(native.to_worker(frames), now)
            except BadMessage as error:
                self._say("bad_message", str(error))
            if core.is_quick:
                break  # the next sleep tells of more
        if now >= core.wake_at:
            core.tick(now)
        if core.is_reconnect_wanted:
            core.is_reconnect_wanted = False
            self._say("reconnecting", "the broker is silent")
            link.reopen()
            self._sleeper = self._new_sleeper()
        self._order(now)
        self._send()
        if worker.inquiry.is_open:
            worker.inquiry.answer(self._status())

    def _status(self) -> dict[str, Any]:
        worker, core, sender = self._worker, self._core, self._worker._trace.sender
        problem = "leaving" if core.is_leaving else "" if core.broker is not None else "not registered with a broker"
        problem = problem or ("" if core.is_able else "no child process is ready")
        return status_of(
            "worker",
            worker.id,
            worker._started_at,
            problem,
            boot=core.boot,
            broker=core.broker.broker if core.broker is not None else None,
            services=core.services,
            concurrency=core.concurrency,
            credit=core.credit,
            in_hand=len(core.in_hand),
            counts={"tasks_done": core.done, "tasks_failed": core.failed},
            log=sender.status() if sender is not None else None,
        )

    def _connections(self, now: float) -> None:
        for is_connected in self._link.watch():
            if is_connected:
                self._say("connected", str(self._link.place))
                self._core.connected(now)
            else:
                self._say("disconnected")
                self._core.disconnected(now)

    def _order(self, now: float) -> None:
        """Carry out what the core wants of the pool."""
        core, pool = self._core, self._pool
        core.able(pool.is_able())
        tasks = core.take_tasks()
        if tasks:  # before what is wanted back or cancelled: that may be among them
            is_here = core.is_quick and self._busy_since is None
            pool.begin(tasks, is_here=is_here)
            self._is_here |= is_here
        if core.to_take_back:
            wanted, core.to_take_back = core.to_take_back, []
            back = pool.take_back(wanted)
            if back is not None:
                core.returned(back, now)
        if core.to_cancel:
            for task in core.to_cancel:
                pool.cancel(task)
            core.to_cancel.clear()

    def _answer(self, now: float) -> None:
        """Send what the pool has done: before everything else, as clients wait for it."""
        core, done = self._core, self._done
        if done.empty():
            return
        while not done.empty():
            report = done.get()
            core.finished(report.answers, report.busy_s, now)
            if report.returned is not None:
                core.returned(report.returned, now)
        self._send()

    def _send(self) -> None:
        messages = self._core.take_messages()
        if messages or self._link.unsent:
            self._link.post([frames for frames, _ in native.encode(messages)])

    def _sleep(self, *, can_sleep: bool) -> bool:
        """Until there is news; True: of the connection."""
        worker, link = self._worker, self._link
        worker._is_sleeping = True
        timeout_s = 0.0
        if can_sleep and self._done.empty() and not worker._is_stop_wanted:
            timeout_s = RETRY_S if link.unsent else self._core.wake_at - time.monotonic()
        news = self._sleeper.sleep(timeout_s)
        worker._is_sleeping = False
        if worker._waker.fileno() in news:
            worker._waker.clear()
        return link.woke(news)

    def _new_sleeper(self) -> Sleeper:
        return Sleeper(self._link.socket, self._worker._waker.fileno(), self._link.monitor_news)

    def _say(self, event: str, text: str = "") -> None:
        name = self._worker.id
        self._worker._trace.write([Record(time.monotonic(), event, "worker", name, worker=name, text=text)])
