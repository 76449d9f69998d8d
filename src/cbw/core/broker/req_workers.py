"""REQ workers, those of the lab: they register once, and afterwards say nothing but their answers.

Such a worker is known by the identity of its connections. It returns without a word, so a lost one is probed with the next
request when somebody connects; and it has no beats, so it is given a time for each answer.
"""

from __future__ import annotations

from collections import OrderedDict

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.events import Side
from cbw.core.broker.inherited import InheritedAnswers, can_be_inherited
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, Presence, ReqWorkerRow, WorkerRow, give
from cbw.core.broker.worker_table import WorkerTable
from cbw.core.dialect import WorkerDialect
from cbw.core.journal_records import TaskBegun
from cbw.core.messages import DEFAULT_SERVICE, Answer, Status
from cbw.core.plain_messages import PlainAnswer, PlainTask
from cbw.core.port import is_anonymous

RETURN_WINDOW_S = 1.0
"""After a connection, lost workers are probed for this long: the ROUTER takes a moment to know whose it is."""
ABSENT_MAX = 1000
"""Lost workers that are remembered for their return, and again as many that were given their places back and are silent since.
Anybody may use up identities (G9); the oldest are forgotten, and have to register again."""
RETURN_RETRY_S = 0.05
"""Time between two probes."""
LAST_WORDS_LAG_S = 0.1
"""What a worker said over its last connection may be read so long after the news that it has the next."""


class ReqWorkers:
    """What is particular about REQ workers. Their places are in the table of all workers."""

    def __init__(
        self,
        table: WorkerTable,
        requests: Requests,
        inherited: InheritedAnswers,
        outbox: Outbox,
        limits: Limits,
        agenda: Agenda,
    ) -> None:
        self._probe_timer = agenda.timer(self._probe_absent)
        self._probe_until = 0.0
        self._late_timer = agenda.timer(self._find_late)
        self._absent: dict[bytes, ReqWorkerRow] = {}
        self._due: OrderedDict[ReqWorkerRow, float] = (
            OrderedDict()
        )  # one time for all, so the order is that of the times
        self._late: dict[ReqWorkerRow, float] = {}
        self._probed: dict[ReqWorkerRow, None] = {}  # those that have their places back and have not spoken since
        self._connected_at = float("-inf")
        self._table = table
        self._requests = requests
        self._inherited = inherited
        self._outbox = outbox
        self._limits = limits

    # --- what they say

    def registered(self, peer: bytes, dialect: WorkerDialect) -> None:
        """Take in a worker, or a new program with the identity of one, that says it is ready."""
        self._inherited.may_come()
        known = self._known(peer)
        if known is not None:
            # If it was only just probed, what it was given came before it registered, and its REQ socket threw it away.
            self.lose(known, "registered anew", is_blamed=not self._was_just_probed(known))
        worker = self._add(peer, dialect, Presence.HEARD)
        if known is not None and known.owes_since is not None:
            worker.owes_since = self._outbox.now

    def answered(self, peer: bytes, dialect: WorkerDialect, answer: PlainAnswer) -> None:
        """Take in an answer. One to nothing says once more that the worker is ready."""
        requests = self._requests
        worker = self._known(peer)
        if (
            worker is None
        ):  # it was at a task of an earlier broker, or was taken for lost and is only slow: then its answer is void
            was_here = peer in self._absent
            self.registered(peer, dialect)
            name, client = self._table.name_of(peer), answer.client
            if client is not None and (was_here or not self._inherited.pass_on(client, name, answer.body)):
                requests.fence(name, 0)
            return
        worker.heard_at = self._outbox.now
        if answer.client is None:
            requests.fail_all(worker, "said that it is ready instead of answering")
        elif not worker.in_hand:
            requests.fence(worker.name, 0)
        elif not self._answered_its_task(worker, answer.client, answer.body):
            return
        worker.presence = Presence.HEARD
        worker.owes_since = None
        self._forget_times(worker)
        worker.credit = 1
        requests.dispatcher.place(worker)

    def _answered_its_task(self, worker: ReqWorkerRow, client: bytes, body: bytes) -> bool:
        """Take the answer of a worker that has a task; False: it is no answer that it could give."""
        requests = self._requests
        task, entry = next(iter(worker.in_hand.items()))
        if client == client_frame(worker, entry):
            del worker.in_hand[task]
            worker.answered_at = self._outbox.now
            worker.busy_s += worker.answered_at - entry.handed_out_at
            if entry.state is not RequestState.ENDED:
                requests.answered(worker, entry, Answer(task, Status.OK, body))
            else:
                requests.fence(worker.name, task, entry)
                worker.suspect = None
            return True
        requests.fence(worker.name, 0)
        if worker.owes_since is None:
            self._outbox.count_bad(Side.WORKER, worker.name, "answered for another client")
            return False
        # What it owed from before. Its REQ socket has thrown away what came meanwhile.
        requests.return_all(worker, "was still at an earlier task")
        return True

    # --- from a journal

    def restore(self, peer: bytes, dialect: WorkerDialect) -> None:
        """An earlier broker knew this worker: it is away, and tried when somebody connects."""
        if peer not in self._table.by_peer:
            worker = ReqWorkerRow(peer, self._requests.dispatcher.service(DEFAULT_SERVICE), dialect, Presence.ABSENT)
            worker.absent_since = self._outbox.now
            worker.owes_since = (
                self._outbox.now - self._limits.answer_timeout_s
            )  # of a task that is not in the journal yet
            self._absent[peer] = worker

    def restore_task(self, begun: TaskBegun, dialect: WorkerDialect, entry: Entry) -> None:
        """An earlier broker gave it ``entry``, and it may still answer."""
        now = self._outbox.now
        self._absent.pop(begun.peer, None)
        worker = ReqWorkerRow(begun.peer, self._requests.dispatcher.service(DEFAULT_SERVICE), dialect, Presence.PROBED)
        worker.owes_since = now  # it may have answered this one, and be at another of which nothing was stored
        give(worker, entry, begun.task, now)
        self._table.add(worker)
        if self._outbox.is_tracing:
            self._outbox.trace_entry(catalogue.TASK_RECOVERED, entry, worker)
        self._expect_answer(worker)

    @property
    def returning(self) -> list[tuple[bytes, WorkerDialect]]:
        """The workers that return without a word, by their identities."""
        here = [worker for worker in self._table.by_peer.values() if isinstance(worker, ReqWorkerRow)]
        return [(worker.peer, worker.dialect) for worker in (*here, *self._absent.values())]

    # --- what they are given

    def give(self, worker: ReqWorkerRow, entry: Entry) -> None:
        """Send it what it has been given, and begin its time."""
        self._outbox.tell_worker(worker, PlainTask(client_frame(worker, entry), entry.request.body))
        self._expect_answer(worker)

    def _expect_answer(self, worker: ReqWorkerRow) -> None:
        due_at = self._outbox.now + self._limits.answer_timeout_s
        self._due[worker] = due_at
        self._late_timer.set_by(due_at)

    def can_answer_successor(self, worker: WorkerRow) -> bool:
        """Whether ``worker`` is at a task whose answer the next broker can pass on."""
        if not isinstance(worker, ReqWorkerRow):
            return False
        return any(client_frame(worker, entry) == entry.client.peer for entry in worker.in_hand.values())

    # --- coming and going

    def lost(self, worker: ReqWorkerRow) -> None:
        """Its connection is gone. It may be back, and is remembered for a while."""
        was_just_probed = self._was_just_probed(worker)
        self.lose(worker, "lost its connection")
        if is_anonymous(worker.peer):
            return
        if not was_just_probed:
            worker.absent_since = self._outbox.now
        self._absent[worker.peer] = worker
        if len(self._absent) > ABSENT_MAX:
            self.forget(next(iter(self._absent)))
        if self._connected_at >= worker.heard_at - LAST_WORDS_LAG_S:
            self._probe_soon()  # its next connection may be older than the news that the last is lost

    def lose(self, worker: ReqWorkerRow, why: str, *, is_blamed: bool = True) -> None:
        """Take its place away."""
        if worker.in_hand:
            worker.owes_since = next(iter(worker.in_hand.values())).handed_out_at
        elif worker.presence is Presence.LATE:
            worker.owes_since = self._outbox.now - self._limits.answer_timeout_s
        worker.presence = Presence.ABSENT
        self._forget_times(worker)
        self._table.remove(worker, why, is_blamed=is_blamed)

    def forget(self, peer: bytes) -> None:
        """Somebody with another dialect has that identity now."""
        self._absent.pop(peer, None)
        if self._requests.journal is not None:
            self._requests.journal.forgets_worker(peer)

    def connected(self) -> None:
        """Somebody has connected, and it may be one of those that were lost."""
        self._connected_at = self._outbox.now
        if self._absent:
            self._probe_soon()

    def _probe_absent(self, now: float) -> None:
        """Give lost ones their places back. Whoever is not there is undelivered, and away again."""
        if now < self._probe_until:
            self._probe_timer.set(now + RETURN_RETRY_S)
        for worker in list(self._absent.values()):
            if self._free_at(worker) <= now:
                self._probe(worker)

    # --- time

    def _find_late(self, now: float) -> None:
        """Find workers that have not answered in time. They keep their places, but what they had goes to others."""
        while self._due:
            worker, due_at = next(iter(self._due.items()))
            if now < due_at:
                self._late_timer.set(due_at)
                return
            del self._due[worker]
            self._outbox.counts["workers_late"] += 1
            self._outbox.trace(catalogue.WORKER_LATE, worker=worker.name)
            if worker.presence is Presence.PROBED:  # it may not be there at all: probe it again
                self.lost(worker)
                continue
            worker.presence = Presence.LATE
            worker.credit = 0
            self._requests.fail_all(worker, f"no answer in {self._limits.answer_timeout_s:g} s")
            self._requests.dispatcher.place(worker)
            self._late[worker] = now

    @property
    def needs_sweep(self) -> bool:
        """Whether anybody is away or late."""
        return bool(self._absent or self._late)

    def sweep(self, now: float) -> None:
        """Look for those that have been away, or late, too long."""
        limits = self._limits
        gone_since = now - limits.absence_s
        for worker in [worker for worker in self._absent.values() if worker.absent_since < gone_since]:
            if now >= self._free_at(worker) + RETURN_WINDOW_S:  # else it may be back, and has not been probed
                self.forget(worker.peer)
        for worker in [worker for worker, since in self._late.items() if since < gone_since]:
            self.lose(worker, f"late for {limits.absence_s:g} s")
            self._probe(worker)  # its task or its answer may have been lost, and then it waits for another

    # --- inside

    def _known(self, peer: bytes) -> ReqWorkerRow | None:
        worker = self._table.by_peer.get(peer)
        return worker if isinstance(worker, ReqWorkerRow) else None

    def _was_just_probed(self, worker: ReqWorkerRow) -> bool:
        return worker.presence is Presence.PROBED and self._outbox.now - worker.heard_at < RETURN_RETRY_S

    def _add(self, peer: bytes, dialect: WorkerDialect, presence: Presence) -> ReqWorkerRow:
        service = self._requests.dispatcher.service(DEFAULT_SERVICE)
        worker = ReqWorkerRow(peer, service, dialect, presence)
        self._absent.pop(peer, None)
        self._table.add(worker)
        if self._requests.journal is not None and not is_anonymous(peer):
            self._requests.journal.knows_worker(worker)
        return worker

    def _probe(self, worker: ReqWorkerRow) -> None:
        back = self._add(worker.peer, worker.dialect, Presence.PROBED)
        back.absent_since = worker.absent_since
        back.owes_since = worker.owes_since
        self._probed[back] = None
        if len(self._probed) > ABSENT_MAX:
            gone = next(iter(self._probed))
            self.lose(gone, "never came back", is_blamed=False)
            self.forget(gone.peer)

    def _probe_soon(self) -> None:
        now = self._outbox.now
        free_at = max(self._free_at(worker) for worker in self._absent.values())
        self._probe_until = max(now, free_at) + RETURN_WINDOW_S
        if not self._probe_timer.is_set:  # not at once: a new program registers first
            self._probe_timer.set(now + RETURN_RETRY_S)

    def _free_at(self, worker: ReqWorkerRow) -> float:
        """When an absent one that still owes an answer has had its time for it."""
        return 0.0 if worker.owes_since is None else worker.owes_since + self._limits.answer_timeout_s

    def _forget_times(self, worker: ReqWorkerRow) -> None:
        self._due.pop(worker, None)
        self._late.pop(worker, None)
        self._probed.pop(worker, None)


def client_frame(worker: ReqWorkerRow, entry: Entry) -> bytes:
    """How a REQ worker sees a client: by its identity or its id.

    A worker sends that frame back with its answer, and nothing else says what it answers. If the answer to an earlier task
    may still come, or the frame could pass for something else in an answer, it is made one that only this task has. So it is
    if there is a journal: a broker that reads it does not know for sure what a worker is at. And so it is if a broker that does
    not know the task could not pass its answer on.
    """
    client = entry.client
    frame = client.name.encode() if client.dialect.has_sessions else client.peer
    is_clear = worker.owes_since is None and entry.number == 0 and worker.dialect.can_name(frame)
    is_clear = is_clear and can_be_inherited(entry)
    return frame if is_clear else b"%b#%d" % (frame, entry.task)
