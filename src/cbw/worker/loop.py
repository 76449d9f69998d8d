"""The worker's loop: which thread uses the socket when, and which one runs a handler.

The loop goes round in *turns*: sleep until something has happened, take it in, decide, act. Whoever holds the socket lock
may take a turn. Usually that is the socket thread, while handlers run in the pool's threads.

Handlers that have proved quick (under 2 ms, one at a time) run *inline*: in the socket thread, between two turns. That
saves two changes of threads, a third of the time of a lone request. The socket thread gives the lock up meanwhile. Should
an inline handler take long after all, the guard thread takes the lock and the turns until the handler has returned, so that
beats, recalls and new tasks never wait for a handler.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from cbw.core import messages
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver
from cbw.core.worker.events import PoolFact
from cbw.observe.inquiry import Inquiry
from cbw.transport.poller import POLL_MAX_S, Waker
from cbw.worker.limited import RecordEvent
from cbw.worker.links import WorkerLinks
from cbw.worker.pool import Pool

GUARD_S = 0.25
"""Longest time in seconds that a handler may run inline before the guard takes the turns: well under a beat."""


class Loop:
    """Serves until it is stopped, has ended or has failed. It is made before the pool, whose owner it is.

    ``record_event`` keeps what goes wrong; ``status`` is asked between two turns, on behalf of :attr:`inquiry`.
    """

    def __init__(self, grace_s: float, record_event: RecordEvent, status: Callable[[], dict[str, Any]]) -> None:
        self.record_event = record_event
        self.waker = Waker()
        self.inquiry = Inquiry(self.waker.wake)
        self.is_stop_wanted = False
        self._grace_s = grace_s
        self._status = status
        self._reports: queue.SimpleQueue[PoolFact] = queue.SimpleQueue()
        self._is_sleeping = False
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._socket_lock = threading.Lock()
        self._inline: _InlinePool
        self._driver: WorkerDriver
        self._links: WorkerLinks

    # --- from any thread

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end. Also from signal handlers."""
        self.is_stop_wanted = True
        self.waker.wake()

    def report(self, fact: PoolFact) -> None:
        """Something has happened in the pool."""
        self._reports.put(fact)
        if self._is_sleeping:
            self.waker.wake()

    def fail(self, error: BaseException) -> None:
        """End at once: :meth:`serve` raises ``error``, the first one if there are several."""
        if self._error is None:
            self._error = error
        self._is_over.set()
        self.waker.wake()

    # --- in the thread that calls it

    def serve(self, core: WorkerCore, pool: Pool, links: WorkerLinks) -> None:
        """Serve until the core has ended. The calling thread only waits: it must be free for signals, and a handler may
        hang in the other two."""
        self._links = links
        self._inline = _InlinePool(core, pool, self._reports)
        self._driver = WorkerDriver(core, self._inline, *links.links, brokers=links)
        for name, work in (("socket", self._serve), ("guard", self._guard)):
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True).start()
        try:
            while not self._is_over.wait(POLL_MAX_S):
                pass
        finally:
            self._is_over.set()
            self.waker.wake()
            with self._socket_lock:  # whoever gets it after this sees that all is over
                pass
        if self._error is not None:
            raise self._error

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.fail(error)

    # --- in the socket thread

    def _serve(self) -> None:
        inline = self._inline
        with self._socket_lock:
            while self._is_on():
                if inline.has_tasks:
                    inline.has_tasks = self._run_inline()
                if not self._driver.is_over:
                    self._turn(can_sleep=not inline.has_tasks)
        self._is_over.set()

    def _run_inline(self) -> bool:
        """Run some of the tasks that wait for this thread, without the lock; whether any are left for it."""
        inline = self._inline
        inline.since = time.monotonic()
        self._socket_lock.release()
        try:
            has_more = inline.run()
        finally:
            inline.since = None
            if not self._socket_lock.acquire(blocking=False):  # the guard has it, and may sleep
                self.waker.wake()
                self._socket_lock.acquire()
        if not self._is_over.is_set():
            self._driver.report(time.monotonic())
        return has_more

    # --- in the guard thread

    def _guard(self) -> None:
        inline = self._inline
        while not self._is_over.wait(GUARD_S):
            since = inline.since
            if since is None or time.monotonic() - since < GUARD_S:
                continue
            with self._socket_lock:
                inline.has_tasks = False  # what still waits is for the pool's threads
                while inline.since is not None and self._is_on():
                    self._turn(can_sleep=True)
            if self._driver.is_over:  # the handler may never return to let the socket thread notice
                self._is_over.set()

    # --- with the socket lock

    def _is_on(self) -> bool:
        return not self._driver.is_over and not self._is_over.is_set()

    def _turn(self, *, can_sleep: bool) -> None:
        """One pass: sleep, if there is time for that; then take in everything that has happened, decide, act."""
        self._sleep(can_sleep=can_sleep)
        now = time.monotonic()
        self._driver.turn(now, self._take_stop_by(now) if self.is_stop_wanted else None)
        if self.inquiry.is_open:
            self.inquiry.answer(self._status())

    def _take_stop_by(self, now: float) -> float:
        """When to leave at the latest; it was asked for since the last call."""
        self.is_stop_wanted = False
        return now + self._grace_s

    def _sleep(self, *, can_sleep: bool) -> None:
        self._is_sleeping = True  # before it is asked for reports: whoever reports later ends the sleep
        timeout_s = 0.0
        if can_sleep and self._reports.empty() and not self.is_stop_wanted:
            timeout_s = self._driver.wake_at - time.monotonic()
        self._links.wait(timeout_s)
        self._is_sleeping = False


class _InlinePool:
    """The pool as the driver sees it. Tasks for handlers that are quick are left for the socket thread to run inline."""

    def __init__(self, core: WorkerCore, pool: Pool, reports: queue.SimpleQueue[PoolFact]) -> None:
        self.has_tasks = False  # tasks wait for the socket thread
        self.since: float | None = None  # when the socket thread began to run some, if it does
        self._core = core
        self._pool = pool
        self._reports = reports
        self.take_back = pool.take_back
        self.cancel = pool.cancel
        self.grant = pool.grant
        self.end_overdue = pool.end_overdue
        self.tell_stuck = pool.tell_stuck
        self.tell_stood_still = pool.tell_stood_still

    def begin(self, tasks: list[messages.Task]) -> None:
        inline = self._core.is_quick and self.since is None
        self._pool.begin(tasks, inline=inline)
        self.has_tasks = self.has_tasks or inline

    def run(self) -> bool:
        """Run some of the tasks, if handlers are still quick; whether any are left for this thread."""
        if self._core.is_quick:
            return self._pool.run_inline()
        self._pool.wake_threads()
        return False

    def take_reports(self) -> Sequence[PoolFact]:
        reports = self._reports
        if reports.empty():
            return ()
        facts = []
        while not reports.empty():
            facts.append(reports.get())
        return facts
