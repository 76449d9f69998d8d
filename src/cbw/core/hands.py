"""The table of workers, what each has in hand, and what becomes of that: answered, given back, or failed."""

from __future__ import annotations

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.limits import Limits
from cbw.core.messages import Status
from cbw.core.outbox import Outbox
from cbw.core.request import State
from cbw.core.tables import Entry, Worker, printable

GHOSTS_MAX = 1000
"""Names of lost workers that are remembered, so that the trace can tell whose late answer was fenced off."""

_FROM_WORKER = (Status.OK, Status.FAILED, Status.BAD_REQUEST, Status.EXPIRED, Status.CANCELLED)


class Hands:
    """All workers by their connections, whatever they speak."""

    def __init__(self, outbox: Outbox, dispatcher: Dispatcher, clients: Clients, limits: Limits) -> None:
        self.by_peer: dict[bytes, Worker] = {}
        self._ghosts: dict[bytes, str] = {}  # names of workers that were lost, for what they still say
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._clients = clients
        self._limits = limits

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it, also if it is lost."""
        worker = self.by_peer.get(peer)
        return worker.name if worker else self._ghosts.get(peer) or printable(peer)

    # --- coming and going

    def add(self, worker: Worker) -> None:
        """It is registered."""
        outbox = self._outbox
        worker.heard_at = worker.since = outbox.now
        self.by_peer[worker.peer] = worker
        self._dispatcher.add_worker(worker)
        outbox.counts["workers_registered"] += 1
        outbox.trace("worker_ready", worker=worker.name, text=",".join(service.name for service in worker.services))
        if worker.credit == 0 and outbox.is_tracing:
            outbox.trace("credit_changed", worker=worker.name, text="0")

    def remove(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        """It is gone. Unless it ``is_blamed``, what it had in hand cannot have begun."""
        del self.by_peer[worker.peer]
        self._dispatcher.remove_worker(worker)
        self._ghosts[worker.peer] = worker.name
        if len(self._ghosts) > GHOSTS_MAX:
            del self._ghosts[next(iter(self._ghosts))]
        self._outbox.counts["workers_lost"] += 1
        self._outbox.trace("worker_lost" if is_blamed else "worker_left", worker=worker.name, text=why)
        self.fail_hand(worker, why, is_blamed=is_blamed)

    # --- what is in hand

    def answered(self, worker: Worker, entry: Entry, answer: m.Answer) -> None:
        """``worker`` has answered ``entry``, which is out of its hand already."""
        if worker.suspect is entry:
            worker.suspect = None
        worker.answered += 1
        status = answer.status
        if status is Status.OK:
            self._clients.end(entry, r.ANSWERED, answer, "answered", worker)
        elif status is Status.CRASHED:
            self._fail(entry, worker, m.error_of(answer.body)[1])
        elif status in _FROM_WORKER:
            self._clients.end(entry, r.ANSWERED, answer, "failed", worker, m.error_of(answer.body)[0])
        else:
            self._outbox.count_bad(e.Side.WORKER, worker.name, f"an answer with status {status.name}")
            error = m.error_body("BadAnswer", f"the worker answered with status {status.name}")
            self._clients.end(entry, r.ANSWERED, m.Answer(0, Status.FAILED, error), "failed", worker, "BadAnswer")

    def fence(self, peer: bytes, task: int) -> None:
        """An answer to an attempt that was given up is thrown away (G4)."""
        self._outbox.counts["answers_fenced"] += 1
        self._outbox.trace("fenced", worker=self.name_of(peer), task=task)

    def give_back(self, worker: Worker, tasks: list[int]) -> None:
        """``worker`` cannot have begun these: they wait again, at the front."""
        worker.recalled_at = None
        for task in sorted(tasks, reverse=True):  # each goes to the front, so the oldest goes last
            entry = worker.in_hand.pop(task, None)
            if entry is None:
                continue
            if worker.suspect is entry:
                worker.suspect = None
            if entry.state is not State.ENDED:
                self._wait_again(entry, worker, "returned")

    def fail_hand(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        """What ``worker`` has in hand will not be answered by it."""
        entries = [entry for entry in worker.in_hand.values() if entry.state is not State.ENDED]
        worker.in_hand.clear()
        worker.suspect = None
        worker.recalled_at = None
        for entry in entries if is_blamed else reversed(entries):
            if is_blamed:
                self._fail(entry, worker, why)
            else:
                self._wait_again(entry, worker, why)

    # --- inside

    def _wait_again(self, entry: Entry, worker: Worker, why: str) -> None:
        """Its attempt cannot have begun, so it does not count."""
        self._outbox.counts["tasks_returned"] += 1
        if self._outbox.is_tracing:
            self._outbox.trace_entry("returned", entry, worker, why)
        self._put_back(entry, r.RETURNED)

    def _fail(self, entry: Entry, worker: Worker, why: str) -> None:
        """An attempt that may have begun took its worker down, or was left behind by it."""
        worker.failed += 1
        self._outbox.counts["attempts_failed"] += 1
        if self._outbox.wants_failures:
            self._outbox.trace_entry("attempt_failed", entry, worker, why)
        if entry.attempt >= self._limits.attempts_max:
            who = f"{entry.attempt} workers" if entry.attempt > 1 else "1 worker"
            text = f"{who} failed at it; the last was {worker.name}: {why}"
            answer = m.Answer(0, Status.GAVE_UP, m.error_body("gave_up", text))
            self._clients.end(entry, r.GAVE_UP, answer, "gave_up", worker, why)
        else:
            entry.attempt += 1
            self._put_back(entry, r.WORKER_FAILED)

    def _put_back(self, entry: Entry, event: r.Table) -> None:
        self._dispatcher.put_back(entry, event)
        if self._clients.is_stopping:
            self._clients.stop_waiting(entry)
