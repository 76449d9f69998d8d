"""One registration at the brokers: some of a worker's handlers, the pool that runs them, and their connections.

A worker has a session for each group of handlers that share their concurrency. So a broker knows how many requests for each
group it can give, and requests for a busy task never hold up those for another.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from cbw.addresses import Address
from cbw.core import messages
from cbw.core.catalogue import EventName
from cbw.core.identities import PROOF_BYTES_MIN
from cbw.core.record import Record
from cbw.core.worker.core import WorkerCore
from cbw.errors import WorkerStuck
from cbw.keys.folder import LinkKeys
from cbw.observe.trace import TRACEBACK, Trace
from cbw.transport.places import Places
from cbw.wire.refusal import refusal_error
from cbw.worker.event_loop import LoopThread
from cbw.worker.handler import Handler
from cbw.worker.links import WorkerLinks
from cbw.worker.loop import Loop
from cbw.worker.pool import Pool
from cbw.worker.pools import make_pool
from cbw.worker.watchers import WriteRecords, task_record, watches


@dataclass(frozen=True)
class Running:
    """How a worker runs all of its handlers: arguments of :class:`cbw.Worker`. ``processes`` is how many child processes there
    are; 0: handlers run in this one.
    """

    processes: int = 0
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    grace_s: float = 10.0
    on_stuck: str = "exit"


class WorkerSession:
    """Registers as ``name`` at all of ``brokers``. ``concurrency`` is that of each of its child processes, or of this process if
    there are none.

    ``write`` takes its records; async handlers run in ``loop_thread``, if there is one. Whoever wants to know how it is asks the
    ``inquiry`` of its :attr:`loop`.
    """

    def __init__(
        self,
        name: str,
        brokers: Sequence[Address],
        handlers: Mapping[str, Handler],
        concurrency: int,
        running: Running,
        trace: Trace,
        write: WriteRecords,
        loop_thread: LoopThread | None,
    ) -> None:
        self.name = name
        self.loop = Loop(running.grace_s, self._record_event, self._status)
        self._places = Places(brokers, self.loop.waker.wake)
        self._handlers = handlers
        self._concurrency = concurrency
        self._running = running
        self._pool: Pool | None = None
        self._trace = trace
        self._write = write
        self._loop_thread = loop_thread
        wants_names = any(handler.wants_context for handler in handlers.values())
        signatures = {service: handler.described for service, handler in handlers.items()}
        boot, proof = os.urandom(8).hex(), os.urandom(PROOF_BYTES_MIN)
        self.core = WorkerCore(
            name,
            boot,
            list(handlers),
            concurrency * max(1, running.processes),
            proof,
            exits_when_stuck=running.on_stuck == "exit" and not running.processes,  # a child process can be ended
            wants_names=wants_names,
            signatures=signatures,
            takes_streams=any(handler.is_stream for handler in handlers.values()),
            places=self._places.known,
            looks_up=bool(self._places.names),
        )

    def run(self, keys: LinkKeys | None) -> None:
        """Serve until the loop is stopped, or all brokers refuse the hello for good.

        Raises:
            UsageError, DuplicateId, KeyRefused, VersionMismatch, NotReady, WorkerStuck: as :meth:`cbw.Worker.run`.
        """
        core = self.core
        try:
            with closing(WorkerLinks(self._places, self.loop.waker, self._record_event, keys)) as links:
                pool = self._pool = self._make_pool()
                try:
                    self.loop.serve(core, pool, links)
                finally:
                    pool.close()
        finally:
            self.loop.waker.close()
        if core.refused is not None:
            raise refusal_error(core.refused)
        if core.has_left_stuck:
            raise WorkerStuck(
                f"{self.name}: no handler can run any more, as all {core.concurrency} have exceeded their time limits and run on"
            )

    def reopen_trace(self) -> None:
        """Have its child processes begin a new trace file. Called by signal handlers."""
        if self._pool is not None:
            self._pool.reopen_trace()

    def _make_pool(self) -> Pool:
        if self._running.processes:
            from cbw.worker.child import TraceOptions
            from cbw.worker.processes import ChildBounds, ProcessPool  # it takes time that most workers need not spend

            trace = TraceOptions(
                self.name, self._trace.path, self._trace.log, self._trace.is_printing, wants_all=self._trace.wants_all
            )
            return ProcessPool(
                self._handlers,
                self._running.processes,
                self._concurrency,
                self.loop,
                trace,
                is_unwanted=lambda: self.loop.is_stop_wanted,
                bounds=ChildBounds(self._running.max_tasks_per_child, self._running.max_memory_per_child),
            )
        told = watches(self.name, self._trace, self._write)
        return make_pool(self._handlers, self._concurrency, self.loop, *told, self._loop_thread)

    def _status(self) -> dict[str, Any]:
        core, pool = self.core, self._pool
        problem = "leaving" if core.is_leaving else "" if core.is_registered else "not registered with a broker"
        problem = problem or ("" if core.is_pool_ready else "no child process is ready")
        if len(core.limits.stuck) >= core.concurrency:
            problem = problem or "all handlers have exceeded their time limits, and run on"
        return {
            "problem": problem,
            "boot": core.boot,
            "brokers": [broker.broker for broker in core.brokers],
            "services": core.services,
            "concurrency": core.concurrency,
            "credit": core.credit,
            "in_hand": len(core.in_hand),
            "stuck": len(core.limits.stuck),
            "stuck_tasks": pool.stuck() if pool is not None and core.limits.stuck else [],
            "latencies": core.latencies.look(),
            "counts": {
                "tasks_done": core.tasks_done,
                "tasks_failed": core.tasks_failed,
                "tasks_overdue": core.limits.exceeded,
                "children_replaced": pool.replaced if pool is not None else 0,
            },
        }

    def _record_event(
        self, event: EventName, text: str = "", task: messages.Task | None = None, traceback: str = ""
    ) -> None:
        record = (
            Record(time.monotonic(), event, role="worker", sender=self.name, worker=self.name)
            if task is None
            else task_record(event, self.name, task)
        )
        record.text, record.fields = text, {TRACEBACK: traceback} if traceback else None
        self._write([record])


def run_all(sessions: Sequence[WorkerSession], keys: LinkKeys | None) -> None:
    """Run all of them, the first in this thread. When one ends, for whatever reason, the others leave in order.

    Raises:
        UsageError, DuplicateId, KeyRefused, VersionMismatch, NotReady, WorkerStuck: as the first of them that has failed.
    """
    errors: list[BaseException] = []

    def run(session: WorkerSession) -> None:
        try:
            session.run(keys)
        except BaseException as error:
            errors.append(error)
        finally:
            for other in sessions:
                if other is not session:
                    other.loop.stop()

    first, *others = sessions
    threads = [threading.Thread(target=run, args=(other,), name=other.name, daemon=True) for other in others]
    for thread in threads:
        thread.start()
    run(first)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
