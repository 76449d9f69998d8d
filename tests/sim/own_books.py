"""What the cores of clients and workers know and count is what their programs do: nothing is forgotten, and nothing is counted
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from cbw.core import messages
from cbw.core.client.core import OVERDUE_S, ROUND_TRIP_S_MAX, ClientCore
from cbw.core.client.driver import ClientDriver
from cbw.core.client.events import Ended
from cbw.core.messages import Status
from cbw.core.parts import SUCCEEDED
from cbw.core.worker.core import CREDIT_CHANGE, PREFETCH_MAX, PREFETCH_S, WorkerCore
from cbw.core.worker.events import PoolFact, TasksFinished

from .plan import Job
from .world import ViolationError

LATE_S = OVERDUE_S + ROUND_TRIP_S_MAX + 0.2
"""Seconds after its deadline in which a request ends for a client that nothing has disturbed."""
EXACTNESS_S = 1e-6


class ClientBooks:
    """Of one start of a client, by its program."""

    def __init__(self) -> None:
        self._submitted_at: dict[int, float] = {}
        self._deadlines: dict[int, float] = {}
        self._timed = 0
        self._took_s = 0.0

    def submitted(self, request: int, job: Job, now: float) -> None:
        """The program has asked for that."""
        self._submitted_at[request] = now
        if job.ttl_s is not None:
            self._deadlines[request] = now + job.ttl_s

    def ended(self, ended: Ended, now: float, *, is_timed: bool) -> None:
        """It has heard how that went. What it has cancelled, or asked for under a ticket, is not timed."""
        request = ended.answer.id
        self._deadlines.pop(request, None)
        submitted_at = self._submitted_at.pop(request, now)
        if is_timed and ended.refused is None:
            self._timed += 1
            self._took_s += now - submitted_at

    def check(self, driver: ClientDriver, jobs: Mapping[int, object]) -> None:
        """After a turn.

        Raises:
            ViolationError: the core knows other requests than the program.
        """
        core = driver.core
        _need(core.in_flight.keys() == jobs.keys(), f"G4: {core.name} has {[*core.in_flight]} in flight, not {[*jobs]}")
        _need(driver.in_flight == len(jobs), f"G4: {core.name} counts {driver.in_flight} in flight, of {len(jobs)}")

    def check_deadlines(self, core: ClientCore, undisturbed_since: float, now: float) -> None:
        """
        Raises:
            ViolationError: a program waits in vain for a request whose time is over (G6).
        """
        for request, deadline_at in self._deadlines.items():
            late_s = now - max(deadline_at, undisturbed_since)
            _need(late_s <= LATE_S, f"G6: {core.name}/{request} has not ended {late_s:.3f} s after its deadline")

    def close(self, core: ClientCore) -> None:
        """At the end.

        Raises:
            ViolationError: the latencies are of other requests.
        """
        counts, total_s = _sums(core.latencies.look().shown("requests"), "requests")
        _need(counts == self._timed, f"status: {core.name} has timed {counts} requests, of {self._timed}")
        # The core hears of a request in the next turn.
        _need(total_s <= self._took_s + EXACTNESS_S, f"status: {core.name} took {total_s} s, not {self._took_s}")


class Pool(Protocol):
    """What is looked at of a worker's pool."""

    @property
    def running(self) -> Mapping[int, object]:
        """Tasks whose handlers have begun."""

    @property
    def tasks(self) -> Mapping[int, None]:
        """All that it has been given, and of which it has not told what has become of it."""


class WorkerBooks:
    """Of one start of a worker, by its pool."""

    def __init__(self) -> None:
        self._done = self._failed = 0
        self._times: list[float] = []  # seconds of a handler, as they were told
        self._calls = 0
        self._early: dict[
            int, None
        ] = {}  # tasks that have taken longer than they may: answered, and their handlers run
        self._took_s = 0.0

    def reported(self, facts: Iterable[PoolFact]) -> None:
        """The core is about to hear this."""
        for fact in facts:
            if isinstance(fact, TasksFinished):
                answers = [answer for answer in fact.answers if answer.id not in self._early]
                for answer in fact.answers:
                    self._early.pop(answer.id, None)
                self._done += len(answers)
                self._failed += sum(answer.status not in SUCCEEDED for answer in answers)
                if fact.answers:
                    self._times.append(fact.busy_s / len(fact.answers))
                for seconds in fact.took.values():
                    self._calls += len(seconds)
                    self._took_s += sum(seconds)

    def ended_early(self, task: int) -> None:
        """It has taken longer than it may, and is answered."""
        self._early[task] = None
        self._done += 1
        self._failed += 1

    def check(self, core: WorkerCore, pool: Pool) -> None:
        """After a turn.

        Raises:
            ViolationError: the core knows other tasks than the pool, or has counted something else.
        """
        told = core.tasks_done, core.tasks_failed
        _need(told == (self._done, self._failed), f"status: {core.boot} tells {told}, not {self._done}, {self._failed}")
        in_hand, running = core.in_hand, pool.running
        if not in_hand and not running:
            return
        if forgotten := {*in_hand}.difference(pool.tasks):
            raise ViolationError(f"G4: {core.boot} has tasks {forgotten} in hand, of which its pool does not know")
        if unknown := {*running}.difference(in_hand, core.left_over, self._early):
            raise ViolationError(f"G4: {core.boot} runs tasks {unknown}, and does not know of them")
        _need(len({*in_hand}) == len(in_hand), f"G4: {core.boot} has {in_hand} in hand")

    def close(self, core: WorkerCore) -> None:
        """At the end.

        Raises:
            ViolationError: latencies are of other calls, or the worker has wanted more or less in advance than it should.
        """
        counts, total_s = _sums(core.latencies.look().shown("calls"), "calls")
        _need(counts == self._calls, f"status: {core.boot} has timed {counts} calls, of {self._calls}")
        _need(abs(total_s - self._took_s) < EXACTNESS_S, f"status: {core.boot} took {total_s} s, not {self._took_s}")
        most = core.concurrency * (1 + _prefetched(min(self._times, default=PREFETCH_S + 1))) * (1 + 2 * CREDIT_CHANGE)
        least = core.concurrency * (1 + _prefetched(max(self._times, default=PREFETCH_S + 1))) / (1 + 2 * CREDIT_CHANGE)
        _need(least <= core.credit <= most, f"G2: {core.boot} wants {core.credit} tasks, not {least} to {most}")


def _prefetched(service_s: float) -> int:
    """Tasks in advance for each that runs."""
    return min(PREFETCH_MAX, int(PREFETCH_S / max(service_s, 1e-9)))


def _sums(shown: Mapping[str, Any], kind: str) -> tuple[int, float]:
    """How many there are in all histograms, and how long they took together; quantiles are in order."""
    rows = [*shown["service_durations"], shown["other_durations"]]
    for row in rows:
        quantiles = row["p50_s"], row["p99_s"]
        count = sum(row[kind]["counts"])
        is_so = quantiles == (None, None) if not count else None not in quantiles and quantiles[0] <= quantiles[1]
        _need(is_so, f"status: quantiles {quantiles} of {count}")
    return sum(sum(row[kind]["counts"]) for row in rows), sum(row[kind]["total_s"] for row in rows)


def is_own_cancel(answer: messages.Answer, *, was_asked_for: bool) -> bool:
    """Whether a request ended because its program has cancelled it."""
    return was_asked_for and answer.status is Status.CANCELLED


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(text)
