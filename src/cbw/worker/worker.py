"""The worker, as a program uses it: services and their handlers, and :meth:`Worker.run`."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cbw.addresses import address
from cbw.core import messages
from cbw.core.catalogue import EventName
from cbw.core.messages import PROOF_BYTES_MIN
from cbw.core.record import Record
from cbw.core.worker.core import WorkerCore
from cbw.errors import UsageError, WorkerStuck
from cbw.keys.folder import link_keys
from cbw.observe.status import status_of
from cbw.observe.trace import TRACEBACK, LogTarget, Trace
from cbw.settings import WORKER, default_of
from cbw.signals import stopping_unless_handled
from cbw.transport.link import Link
from cbw.transport.sockets import Context
from cbw.wire.refusal import checked_id, checked_service, refusal_error
from cbw.worker.handler import Handler
from cbw.worker.link import WorkerLink
from cbw.worker.loop import Loop
from cbw.worker.pool import Pool, make_pool
from cbw.worker.retrying import BACKOFF_S, RETRIES, Retrying
from cbw.worker.watchers import task_record, watches

F = TypeVar("F", bound=Callable[..., Any])


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
    again, so let :meth:`run` stand below ``if __name__ == "__main__":``. A child is replaced by a new one, between two tasks,
    after ``max_tasks_per_child`` tasks, or when it takes more than ``max_memory_per_child`` bytes of memory (default: never).
    ``on_stuck`` says what is done when all handlers have exceeded their time limits and cannot be ended: ``"exit"``, so that
    something starts the program anew, or ``"report"``, which only tells it. ``trace`` is where records go (default: to the
    logger of ``LOGGER_HOST``, if that is set); the worker closes it. ``keys`` is the folder of keys, or the worker's secret
    key file in it (default: ``CBW_KEYS``; empty: nothing is encrypted).
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        id: str | None = None,
        concurrency: int = 1,
        processes: int = 0,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        grace_s: float = 10.0,
        on_stuck: str = default_of(WORKER, "on_stuck"),
        trace: Trace | None = None,
        keys: str | Path | None = None,
    ) -> None:
        self._address = address(broker, "worker")
        self.id = f"WOR_{socket.gethostname()}_{os.getpid()}" if id is None else checked_id(id)
        bounds = (("max_tasks_per_child", max_tasks_per_child, 1), ("max_memory_per_child", max_memory_per_child, 1))
        given = [bound for bound in bounds if bound[1] is not None]
        for name, value, least in (("concurrency", concurrency, 1), ("processes", processes, 0), *given):
            if not isinstance(value, int) or value < least:
                raise UsageError(f"{name} is {value!r}; it must be a whole number, at least {least}")
        if on_stuck not in ("exit", "report"):
            raise UsageError(f"on_stuck is {on_stuck!r}; it must be 'exit' or 'report'")
        if given and not processes:
            raise UsageError(f"{given[0][0]} is for child processes, and there are none", advice="Give processes too.")
        self._on_stuck = on_stuck
        self._per_child = (max_tasks_per_child, max_memory_per_child)
        self._concurrency = concurrency
        self._processes = processes
        self._keys = link_keys(keys, "broker", "worker")
        self._trace = trace or Trace(is_printing=False, name=self.id, log=LogTarget.from_environment("worker", keys))
        self._handlers: dict[str, Handler] = {}
        self._has_run = False
        self._unread: BrokenPipeError | None = None
        self._core: WorkerCore | None = None
        self._pool: Pool | None = None
        self._loop = Loop(grace_s, self._record_event, self._status)
        self.inquiry = self._loop.inquiry
        self._started_at = time.monotonic()

    def service(
        self,
        name: str = "",
        *,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
    ) -> Callable[[F], F]:
        """Decorator: the function serves requests for ``name`` (see :class:`~cbw.worker.handler.Handler` for its arguments).

        ``retries``, ``retry_on``, ``backoff_s`` and ``time_limit_s`` are those of :meth:`add`.
        """

        def register(function: F) -> F:
            self.add(name, function, retries=retries, retry_on=retry_on, backoff_s=backoff_s, time_limit_s=time_limit_s)
            return function

        return register

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
    ) -> None:
        """Serve requests for ``name`` with ``function``.

        If it raises one of ``retry_on``, or :class:`cbw.Retry`, it is called again later for the same request, perhaps by another
        worker: at most ``retries`` times, after a time in seconds that doubles from the first of ``backoff_s`` to the second.
        When no retries are left the client gets the last exception, and the request is kept as a dead letter.
        Without ``retry_on`` an exception is an answer like any other. A function that is called again must be able to meet its
        own earlier work.

        If it takes longer than ``time_limit_s`` seconds, its client gets :class:`cbw.TimeLimit`, and it is called again only if
        ``retry_on`` names that. A coroutine is cancelled. A child process is ended if it has not done so a second later, when its
        other tasks have ended. A thread cannot be ended: ``Attempt.is_cancelled`` becomes true, and until the function returns
        the worker has a slot less.

        Raises:
            UsageError: ``name`` is not valid or is served already, the function cannot be a handler, or is async beside one
                that is not; or ``retries``, ``retry_on``, ``backoff_s`` or ``time_limit_s`` is not valid.
        """
        handler = Handler(checked_service(name), function, Retrying(retries, retry_on, backoff_s), time_limit_s)
        if name in self._handlers:
            raise UsageError(f"service {name!r} has a handler already")
        if any(other.is_async != handler.is_async for other in self._handlers.values()):
            raise UsageError("a worker's handlers are all async or all not; run two workers")
        self._handlers[name] = handler

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this worker."""
        return self._core is not None and self._core.has_met_broker

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._loop.stop()

    def reopen_trace(self) -> None:
        """Go on in a new trace file at the same place, in child processes too (see :meth:`Trace.reopen`)."""
        self._trace.reopen()
        if self._pool is not None:
            self._pool.reopen_trace()

    def run(self) -> None:
        """Serve until :meth:`stop`; SIGTERM and Ctrl-C call it, unless your program has handlers of its own for them.

        Raises:
            UsageError: no service, it has run before, the broker refuses the hello, or no child process can work.
            DuplicateId: another living worker has this id.
            KeyRefused: the broker does not let this worker in, because of its key; the subclass says why.
            VersionMismatch: the broker speaks another version.
            NotReady: the system has no descriptors, threads or processes left to start with.
            WorkerStuck: all handlers have exceeded their time limits and cannot be ended (``on_stuck``).
            BrokenPipeError: nobody reads any more what its trace prints; it has left in order (see :meth:`Trace.write`).
        """
        if self._has_run:
            raise UsageError("a worker runs once", advice="Make another Worker.")
        if not self._handlers:
            raise UsageError("a worker without a service", advice="Register one with @worker.service(name).")
        self._has_run = True
        with stopping_unless_handled(self):
            self._run()

    def _run(self) -> None:
        concurrency = self._concurrency * max(1, self._processes)
        boot, proof = os.urandom(8).hex(), os.urandom(PROOF_BYTES_MIN)
        exits = self._on_stuck == "exit" and not self._processes  # a child process can be ended
        core = self._core = WorkerCore(self.id, boot, list(self._handlers), concurrency, proof, exits_when_stuck=exits)
        with self._closing(), self._connection() as link:
            pool = self._pool = self._make_pool()
            try:
                self._loop.serve(core, pool, link)
            finally:
                pool.close()
        if core.refused is not None:
            raise refusal_error(core.refused)
        if core.has_left_stuck:
            raise WorkerStuck(
                f"{self.id}: no handler can run any more, as all {concurrency} have exceeded their time limits and run on"
            )
        if self._unread is not None:
            raise self._unread

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._loop.waker.close()
            self._trace.close()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[WorkerLink]:
        context: Context = Context()
        try:
            link = Link(context, *self._address, self._loop.waker.wake, is_for_worker=True, keys=self._keys)
            try:
                yield WorkerLink(link, self._loop.waker, self._record_event)
            finally:
                link.close()
        finally:
            context.term()

    def _make_pool(self) -> Pool:
        if self._processes:
            from cbw.worker.child import TraceOptions
            from cbw.worker.processes import ChildBounds, ProcessPool  # it takes time that most workers need not spend

            trace = TraceOptions(
                self.id, self._trace.path, self._trace.log, self._trace.is_printing, wants_all=self._trace.wants_all
            )
            return ProcessPool(
                self._handlers,
                self._processes,
                self._concurrency,
                self._loop,
                trace,
                is_unwanted=lambda: self._loop.is_stop_wanted,
                bounds=ChildBounds(*self._per_child),
            )
        return make_pool(self._handlers, self._concurrency, self._loop, *watches(self.id, self._trace, self._write))

    def _record_event(
        self, event: EventName, text: str = "", task: messages.Task | None = None, traceback: str = ""
    ) -> None:
        record = (
            Record(time.monotonic(), event, role="worker", sender=self.id, worker=self.id)
            if task is None
            else task_record(event, self.id, task)
        )
        record.text, record.fields = text, {TRACEBACK: traceback} if traceback else None
        self._write([record])

    def _write(self, records: Sequence[Record]) -> None:
        """From any of the worker's threads."""
        try:
            self._trace.write(records)
        except BrokenPipeError as error:  # others can do the work of a worker whose user has gone
            self._unread = error
            self.stop()

    def _status(self) -> dict[str, Any]:
        core, sender = self._core, self._trace.sender
        assert core is not None, "only the loop asks, which has it"
        problem = "leaving" if core.is_leaving else "" if core.broker is not None else "not registered with a broker"
        problem = problem or ("" if core.is_pool_ready else "no child process is ready")
        if len(core.limits.stuck) >= core.concurrency:
            problem = problem or "all handlers have exceeded their time limits, and run on"
        return status_of(
            "worker",
            self.id,
            self._started_at,
            problem,
            boot=core.boot,
            broker=core.broker.broker if core.broker is not None else None,
            services=core.services,
            concurrency=core.concurrency,
            credit=core.credit,
            in_hand=len(core.in_hand),
            stuck=len(core.limits.stuck),
            stuck_tasks=self._pool.stuck() if self._pool is not None and core.limits.stuck else [],
            counts={
                "tasks_done": core.tasks_done,
                "tasks_failed": core.tasks_failed,
                "tasks_overdue": core.limits.exceeded,
                "children_replaced": self._pool.replaced if self._pool is not None else 0,
            },
            log=sender.status() if sender is not None else None,
        )
