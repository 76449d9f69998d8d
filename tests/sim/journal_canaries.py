"""Planted bugs of the journal: see :mod:`tests.sim.canary`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

import cbw.core.broker.journal
import cbw.core.broker.req_workers
import cbw.core.broker.requests
from cbw.core import messages
from cbw.core.broker.journal import Journal
from cbw.core.broker.journal_items import Needed, accepted_record, finished_of
from cbw.core.broker.recovery import Recovery
from cbw.core.broker.replay import Replay
from cbw.core.broker.req_workers import ReqWorkers
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry, ReqWorkerRow
from cbw.core.dialect import WorkerDialect
from cbw.core.journal_records import AnswerStored, AnyRecord, AttemptEnded, AttemptFailed, TaskBegun
from cbw.core.plain_messages import Envelope

from .canary import Patch, canary
from .disk import SimJournal
from .drawing import unshare_journal
from .plan import JournalPlan, Plan


def _crashes(plan: Plan) -> None:
    """Of a broker that has a journal, which is compacted all the time."""
    if plan.servers is not None:
        unshare_journal(plan)
    plan.journal = JournalPlan((0.0005, 0.002), slack_bytes=0, compact_bytes=1, rewrite_bytes=1 << 20)
    plan.rates["broker crash"] = 0.6
    plan.rates["disk slow"] = 0.2


def _only_crashes(plan: Plan) -> None:
    _crashes(plan)
    plan.rates = {"broker crash": 0.6}


def _poison(plan: Plan) -> None:
    _only_crashes(plan)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs[::5]:
                job.kind = "die"


def _deadlines(plan: Plan) -> None:
    _only_crashes(plan)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s, job.cancel_after_s = 6.0, None


# --- nothing leaves before it is stored


@canary("G8", _crashes)
def tasks_leave_before_they_are_stored() -> list[Patch]:
    """A request is queued as soon as it has arrived."""
    accept = Requests.accept

    def hasty(self: Requests, client: ClientRow, requests: Iterable[messages.Request], envelope: Envelope = ()) -> None:
        accept(self, client, requests, envelope)
        for entry in client.entries.values():
            if entry.state is RequestState.STORING:
                entry.state = RequestState.WAITING
                self.dispatcher.add(entry)

    return [(Requests, "accept", hasty)]


@canary("G8", _crashes)
def answers_leave_before_they_are_stored() -> list[Patch]:
    """An answer goes out as soon as it has arrived."""
    end = Journal.end

    def hasty(self: Journal, entry: Entry, answer: messages.Answer | None) -> None:
        end(self, entry, answer)
        if answer is not None and entry.client.absent_since is None and entry.client.dialect.has_sessions:
            self._outbox.tell_client(entry.client, answer)

    return [(Journal, "end", hasty)]


# --- what a new broker knows


@canary("G8", _crashes)
def tasks_that_ran_are_forgotten() -> list[Patch]:
    """A new broker knows nothing of requests that workers were at."""
    entries = Recovery._entries

    def forget(self: Recovery, replay: Replay, offset: float) -> list[Entry]:
        return [entry for entry in entries(self, replay, offset) if entry.number not in replay.begun]

    return [(Recovery, "_entries", forget)]


@canary("G8", _crashes)
def tasks_that_ran_are_given_to_others() -> list[Patch]:
    """A new broker does not wait for the workers that are at them."""
    return [(Recovery, "_is_with_worker", lambda self, entry, begun: False)]


@canary("G7", _crashes)
def answered_requests_run_again() -> list[Patch]:
    """A new broker overlooks that requests have ended."""
    return [(Replay, "_ended", lambda self, record: None)]


@canary("G8", _crashes)
def stored_answers_are_lost() -> list[Patch]:
    """A new broker does not read them."""

    def forget(self: Recovery, stored: AnswerStored, offset: float) -> None:
        client = self._client(stored.asker) or self._requests.dead.nobody
        self._journal.need((finished_of(stored, client, offset),))

    return [(Recovery, "_restore_answer", forget)]


@canary("G5", _poison)
def failed_attempts_are_not_remembered() -> list[Patch]:
    """A new broker begins to count anew."""
    ended = Replay._attempt_ended

    def forgive(self: Replay, record: AttemptEnded) -> None:
        ended(self, AttemptEnded(record.number, 1))

    return [(Replay, "_attempt_ended", forgive)]


@canary("G", _deadlines)
def the_journals_clock_goes_on() -> list[Patch]:
    """Deadlines pass while no broker runs."""
    restore = Journal.restore

    def late(self: Journal, replay: Replay, now: float) -> float:
        replay.at += 2.0
        return restore(self, replay, now)

    return [(Journal, "restore", late)]


def _busy_lab(plan: Plan) -> None:
    _crashes(plan)
    plan.limits = msgspec.structs.replace(plan.limits, answer_timeout_s=0.5, attempts_max=1)
    for client in plan.plain_clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.work_s = (0.7, 0.01)[number % 2]


@canary("G", _busy_lab)
def what_recovered_req_workers_answer_is_taken_for_granted() -> list[Patch]:
    """As if a new broker knew what they are at."""
    restore, restore_task = ReqWorkers.restore, ReqWorkers.restore_task

    def trust(self: ReqWorkers, peer: bytes, dialect: WorkerDialect) -> None:
        restore(self, peer, dialect)
        if peer in self._absent:
            self._absent[peer].owes_since = None

    def trust_task(self: ReqWorkers, begun: TaskBegun, dialect: WorkerDialect, entry: Entry) -> None:
        restore_task(self, begun, dialect, entry)
        worker = self._table.by_peer[begun.peer]
        assert isinstance(worker, ReqWorkerRow)
        worker.owes_since = None

    def frame(worker: ReqWorkerRow, entry: Entry) -> bytes:
        name = entry.client.name.encode()
        return name if worker.owes_since is None else b"%b#%d" % (name, entry.task)

    return [
        (ReqWorkers, "restore", trust),
        (ReqWorkers, "restore_task", trust_task),
        (cbw.core.broker.req_workers, "client_frame", frame),
    ]


# --- what is still needed


@canary("G7", _crashes)
def answers_are_dropped_when_they_are_sent() -> list[Patch]:
    """Nobody waits until the client has them."""
    tell = Requests.tell

    def careless(
        self: Requests, client: ClientRow, envelope: Envelope, answer: messages.Answer, number: int = 0
    ) -> None:
        tell(self, client, envelope, answer, number)
        if client.absent_since is None and client.dialect.has_sessions and answer.id in client.parked:
            self.parked.take(client, answer.id)

    return [(Requests, "tell", careless)]


@canary("G8", _crashes)
def what_is_needed_is_not_written_again() -> list[Patch]:
    """A compaction drops it."""
    return [(Journal, "_write_again", lambda self, item: 100)]


@canary("", _crashes)
def what_is_written_again_is_not_stored_yet() -> list[Patch]:
    """A compaction drops the first record before the second is on the disk. If none is left, the next broker begins at 1."""
    return [(SimJournal, "compact", lambda self, before: self._drop(before))]


@canary("G8", _crashes)
def running_tasks_are_written_again_as_waiting() -> list[Patch]:
    """A compaction forgets who is at them."""

    write_again = Journal._write_again

    def forget(self: Journal, item: Needed) -> int:
        if not isinstance(item, Entry):
            return write_again(self, item)
        self._write(accepted_record(item, self._clock_offset))
        return 100

    return [(Journal, "_write_again", forget)]


@canary("G8", _crashes)
def answers_are_not_stored() -> list[Patch]:
    """Only that their requests have ended."""
    return [(cbw.core.broker.journal, "can_tell_replies_apart", lambda client, envelope: False)]


@canary("G1", _crashes)
def req_sockets_get_replies_twice() -> list[Patch]:
    """As if they could tell them apart."""
    return [
        (module, "can_tell_replies_apart", lambda client, envelope: True)
        for module in (cbw.core.broker.journal, cbw.core.broker.requests)
    ]


@canary("journal", _poison)
def a_compacted_journal_has_forgotten_failures() -> list[Patch]:
    """Attempts that have failed are not written again."""
    records = Replay.records

    def most(replay: Replay) -> Iterator[AnyRecord]:
        return (record for record in records(replay) if not isinstance(record, AttemptFailed))

    return [(Replay, "records", most)]
