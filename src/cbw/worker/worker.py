"""The worker, as a program uses it: services and their handlers, and :meth:`Worker.run`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cbw.addresses import addresses
from cbw.contract.retrying import BACKOFF_S, RETRIES, Retrying
from cbw.contract.service import Service
from cbw.core.record import Record
from cbw.core.service_latencies import CountedLatencies
from cbw.errors import UsageError
from cbw.keys.folder import link_keys
from cbw.observe.inquiry import status_of
from cbw.observe.trace import LogTarget, Trace
from cbw.settings import WORKER, default_of
from cbw.signals import stopping_unless_handled
from cbw.wire.refusal import checked_id, checked_service
from cbw.worker.event_loop import LoopThread
from cbw.worker.handler import Handler
from cbw.worker.lifespan import Lifespans
from cbw.worker.session import Running, WorkerSession, run_all

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
    ``127.0.0.1:9999``). Of several brokers, given as ``"a:9999,b:9999"`` or by a name with several addresses, the worker
    serves all; one that joins later is found within 5 s. ``id`` must be its own among living workers (default:
    ``WOR_<host>_<process>``). ``concurrency`` tasks run at once; with ``processes`` they run in that many child processes,
    each with that concurrency, and a handler that crashes costs one attempt instead of the worker; every child imports your
    program again, so let :meth:`run` stand below ``if __name__ == "__main__":``. A child is replaced by a new one, between
    two tasks, after ``max_tasks_per_child`` tasks, or when it takes more than ``max_memory_per_child`` bytes of memory
    (default: never). ``on_stuck`` says what is done when all handlers that share a concurrency have exceeded their time
    limits and cannot be ended: ``"exit"``, so that something starts the program anew, or ``"report"``, which only tells it.
    ``trace`` is where records go (default: to the logger of ``LOGGER_HOST``, if that is set); the worker closes it. ``keys``
    is the folder of keys, or the worker's secret key file in it (default: ``CBW_KEYS``; empty: nothing is encrypted).
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
        self._brokers = addresses(broker, "worker")
        self.id = f"WOR_{socket.gethostname()}_{os.getpid()}" if id is None else checked_id(id)
        self._concurrency = _checked_number("concurrency", concurrency, 1)
        _checked_number("processes", processes, 0)
        bounds = {"max_tasks_per_child": max_tasks_per_child, "max_memory_per_child": max_memory_per_child}
        for name, value in bounds.items():
            if value is not None and _checked_number(name, value, 1) and not processes:
                raise UsageError(f"{name} is for child processes, and there are none", advice="Give processes too.")
        if on_stuck not in ("exit", "report"):
            raise UsageError(f"on_stuck is {on_stuck!r}; it must be 'exit' or 'report'")
        self._running = Running(processes, max_tasks_per_child, max_memory_per_child, grace_s, on_stuck)
        self._keys = link_keys(keys, "broker", "worker")
        self._trace = trace or Trace(is_printing=False, name=self.id, log=LogTarget.from_environment("worker", keys))
        self._handlers: dict[str, Handler] = {}
        self._concurrencies: dict[str, int] = {}  # of the services that have one of their own
        self._has_run = False
        self._is_stop_wanted = False
        self._unread: BrokenPipeError | None = None
        self._sessions: list[WorkerSession] = []
        self._lifespans: Lifespans | None = None
        self._started_at = time.monotonic()

    def service(
        self,
        name: str = "",
        *,
        concurrency: int | None = None,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
        batch: int | None = None,
        wait_ms: float = 0.0,
    ) -> Callable[[F], F]:
        """Decorator: the function serves requests for ``name`` (see :class:`~cbw.worker.handler.Handler` for its arguments).

        The other arguments are those of :meth:`add`.

        Raises:
            UsageError: the decorator is written without parentheses, or an argument is not valid.
        """
        if not isinstance(name, str):
            advice = 'Write @worker.service("name"), or @worker.service() for the service without a name.'
            raise UsageError("a service is made by a decorator with parentheses", advice=advice)

        def register(function: F) -> F:
            options: dict[str, Any] = {"retries": retries, "retry_on": retry_on, "backoff_s": backoff_s, "batch": batch}
            options |= {"concurrency": concurrency, "time_limit_s": time_limit_s, "wait_ms": wait_ms}
            self.add(name, function, **options)
            return function

        return register

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        concurrency: int | None = None,
        retries: int = RETRIES,
        retry_on: tuple[type[Exception], ...] = (),
        backoff_s: tuple[float, float] = BACKOFF_S,
        time_limit_s: float | None = None,
        batch: int | None = None,
        wait_ms: float = 0.0,
    ) -> None:
        """Serve requests for ``name`` with ``function``.

        So many of its requests run at once as ``concurrency`` says, beside those of other functions. Without it, all async
        functions share the worker's concurrency, and so do all others. For each group of functions that share one the worker
        registers at the broker with an id of its own, such as ``W1:shop.price`` or ``W1:async``.

        If it raises one of ``retry_on``, or :class:`cbw.Retry`, it is called again later for the same request, perhaps by another
        worker: at most ``retries`` times, after a time in seconds that doubles from the first of ``backoff_s`` to the second.
        When no retries are left the client gets the last exception, and the request is kept as a dead letter.
        Without ``retry_on`` an exception is an answer like any other. A function that is called again must be able to meet its
        own earlier work.

        If it takes longer than ``time_limit_s`` seconds, its client gets :class:`cbw.TimeLimit`, and it is called again only if
        ``retry_on`` names that. A coroutine is cancelled. A child process is ended if it has not done so a second later, when its
        other tasks have ended. A thread cannot be ended: ``Context.is_cancelled`` becomes true, and until the function returns
        the worker has a slot less.

        With ``batch`` it takes a list of as many requests at most, such as ``articles: list[str]``, and returns a list of their
        answers. It gets what waits; if that is less than a batch it is called ``wait_ms`` milliseconds later (default: at once).
        An exception in the list is the error of that request alone, one that is raised that of all. Attempts are counted for
        each request: one that takes a worker down is given to the next alone. ``concurrency`` is then how many batches run at
        once.

        Raises:
            UsageError: ``name`` is not valid or is served already, the function cannot be a handler, or one of the others is not
                valid.
        """
        retrying = Retrying(retries, retry_on, backoff_s)
        handler = Handler(checked_service(name), function, retrying, time_limit_s, batch, wait_ms)
        if name in self._handlers:
            raise UsageError(f"service {name!r} has a handler already")
        if concurrency is not None:
            self._concurrencies[name] = _checked_number("concurrency", concurrency, 1)
        if batch is not None:
            self._concurrencies[name] = batch * self._concurrencies.get(name, self._concurrency)
        self._handlers[name] = handler

    def add_service(self, service: Service) -> None:
        """Serve all tasks of ``service``, as their decorators say.

        Raises:
            UsageError: it has none, or one of them cannot be served, or is served already.
        """
        if not service.tasks:
            raise UsageError(f"the service {service.name!r} has no tasks", advice="Define them with @service.task().")
        for name, contract in service.tasks.items():
            self.add(name, contract, **contract.handling)

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this worker."""
        return any(session.core.has_met_broker for session in self._sessions)

    @property
    def hello_refused(self) -> str:
        """Why a broker does not let this worker in, perhaps only for now; empty: none has refused it."""
        return next((told for session in self._sessions if (told := session.core.hello_refused)), "")

    @property
    def opening(self) -> str:
        """The service whose lifespan this process is opening; it says hello to no broker before. Empty: it opens none."""
        return self._lifespans.opening if self._lifespans is not None else ""

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._is_stop_wanted = True
        for session in self._sessions:
            session.loop.stop()

    def reopen_trace(self) -> None:
        """Go on in a new trace file at the same place, in child processes too (see :meth:`Trace.reopen`)."""
        self._trace.reopen()
        for session in self._sessions:
            session.reopen_trace()

    def run(self) -> None:
        """Serve until :meth:`stop`; SIGTERM and Ctrl-C call it, unless your program has handlers of its own for them.

        Raises:
            UsageError: no service, it has run before, the broker refuses the hello, or no child process can work.
            DuplicateId: another living worker has this id.
            KeyRefused: the broker does not let this worker in, because of its key; the subclass says why.
            VersionMismatch: the broker speaks another version.
            NotReady: the system has no descriptors, threads or processes left to start with, or a lifespan has failed.
            WorkerStuck: all handlers that share a concurrency have exceeded their time limits and cannot be ended (``on_stuck``).
            BrokenPipeError: nobody reads any more what its trace prints; it has left in order (see :meth:`Trace.write`).
        """
        if self._has_run:
            raise UsageError("a worker runs once", advice="Make another Worker.")
        if not self._handlers:
            raise UsageError("a worker without a service", advice="Register one with @worker.service(name).")
        self._has_run = True
        with stopping_unless_handled(self):
            self._run()

    def status(self) -> dict[str, Any] | None:
        """The state of this worker, in the form of ``/status.json``; None: it is not running, or is stuck."""
        states = [session.loop.inquiry.ask() for session in self._sessions]
        present = [state for state in states if state is not None]
        if not states or len(present) < len(states):
            return None
        sender, first = self._trace.sender, present[0]
        problem = next((state["problem"] for state in present if state["problem"]), "")
        return status_of(
            "worker",
            self.id,
            self._started_at,
            problem,
            boot=first["boot"],
            brokers=sorted({name for state in present for name in state["brokers"]}),
            services=[name for state in present for name in state["services"]],
            **{what: sum(state[what] for state in present) for what in ("concurrency", "credit", "in_hand", "stuck")},
            stuck_tasks=[task for state in present for task in state["stuck_tasks"]],
            **CountedLatencies.together(state["latencies"] for state in present).shown("handlers"),
            counts={what: sum(state["counts"][what] for state in present) for what in first["counts"]},
            log=sender.status() if sender is not None else None,
        )

    # --- inside

    def _run(self) -> None:
        try:
            groups = self._groups()
            here = [] if self._running.processes else list(self._handlers.values())  # child processes open their own
            is_loop_shared = bool(here) and sum(handlers[0].is_async for _, handlers, _ in groups) > 1
            lifespans = self._lifespans = Lifespans(here, self._fail, wants_loop=is_loop_shared)
            try:
                lifespans.open(lambda: self._is_stop_wanted)
                self._sessions = [self._session(*group, lifespans.loop_thread) for group in groups]
                if self._is_stop_wanted:
                    self.stop()
                run_all(self._sessions, self._keys)
            finally:
                lifespans.close()
        finally:
            self._trace.close()
        if self._unread is not None:
            raise self._unread

    def _fail(self, error: BaseException) -> None:
        for session in self._sessions:
            session.loop.fail(error)

    def _groups(self) -> list[tuple[str, list[Handler], int]]:
        """The handlers that share their concurrency, behind what is added to the worker's id for them, and that."""
        shared = [handler for name, handler in self._handlers.items() if name not in self._concurrencies]
        plain = [handler for handler in shared if not handler.is_async]
        others = [handler for handler in shared if handler.is_async]
        groups = [("", plain, self._concurrency), (":async" if plain else "", others, self._concurrency)]
        groups += [(f":{name}", [self._handlers[name]], own) for name, own in self._concurrencies.items()]
        return [group for group in groups if group[1]]

    def _session(
        self, suffix: str, handlers: Sequence[Handler], concurrency: int, loop_thread: LoopThread | None
    ) -> WorkerSession:
        by_name = {handler.service: handler for handler in handlers}
        name = self.id if len(by_name) == len(self._handlers) else checked_id(self.id + suffix)
        return WorkerSession(
            name, self._brokers, by_name, concurrency, self._running, self._trace, self._write, loop_thread
        )

    def _write(self, records: Sequence[Record]) -> None:
        """Record these, from any of the worker's threads."""
        try:
            self._trace.write(records)
        except BrokenPipeError as error:  # others can do the work of a worker whose user has gone
            self._unread = error
            self.stop()


def _checked_number(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or value < least:
        raise UsageError(f"{name} is {value!r}; it must be a whole number, at least {least}")
    return value
