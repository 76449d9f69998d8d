"""G7 and G8 of a broker with a journal, checked against what is really on its disk.

Three things are known here and compared: what is on the disk, batch by batch; what the programs and the broker's trace
have told; and what a broker knows that has just read the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.journal import TOLD_S
from cbw.core.broker.states import RequestState
from cbw.core.journal_records import AnswersDropped, Batch, RequestAccepted, RequestEnded
from cbw.core.messages import OWN_PREFIXES
from cbw.core.plain_messages import PlainReady, PlainRequest
from cbw.core.port import printable
from cbw.core.record import Record
from cbw.wire.journal import decode_batch

from .account import Accepted, SeenAttempt
from .disk import Disk
from .ledger import Ledger, Note
from .plan import Job, Plan
from .servers import Inheritance, Servers
from .world import ViolationError, World

if TYPE_CHECKING:
    from .clients import PlainClient
    from .plain_workers import PlainWorker
    from .questions import ReadQuestion
from .workers import SimWorker

TROUBLE_S = 20.0
"""Seconds after the trouble of a disk in which clients may still learn of it."""
ROOMY_BYTES = 1 << 20
"""With less room than this for answers, any of them may be pushed out."""
AWAY = "its client is away"
"""How the record begins of a stream that has ended without an answer, as its client is to ask for it again."""
REQ = (b"",)
"""The envelope of a REQ socket. It takes whatever comes for the reply to its last question."""


@dataclass
class Told:
    """What all owners of a journal were told, one after the other."""

    known: dict[int, Accepted] = field(default_factory=dict)
    deadlines: dict[int, float] = field(default_factory=dict)
    """By the journal's clock."""
    acknowledged: dict[int, None] = field(default_factory=dict)
    cancelled: dict[int, None] = field(default_factory=dict)
    excused: dict[str, str] = field(default_factory=dict)
    """Tokens of requests of the lab's programs that may never end, and why."""
    asked: int = 0
    """Questions of the lab's programs."""
    read: dict[int, ReadQuestion] = field(default_factory=dict)
    """Those of them that an owner has read, by their numbers."""
    had: dict[tuple[str, str], None] = field(default_factory=dict)
    """Which socket of the lab has had which reply."""


@dataclass
class SharedJournal(Told):
    """A journal that several brokers can reach."""

    servers: Servers = field(kw_only=True)


class Durability:
    """What must hold of a journal. Without one (``disk`` is None) it asks for nothing."""

    def __init__(self, world: World, plan: Plan, disk_name: str = "disk", shared: SharedJournal | None = None) -> None:
        self.disk: Disk | Servers | None = None
        if shared is not None:
            self.disk = shared.servers
        elif plan.journal is not None:
            self.disk = Disk(world, plan.journal, disk_name, self.on_disk)
        self._is_shared = shared is not None
        self.told = told = shared or Told()
        self.durable = Ledger()
        self.written = Ledger()
        """With what the broker has given to its journal besides."""
        self.workers: Sequence[SimWorker] = ()
        self._world = world
        self._plan = plan
        self._batches: dict[int, tuple[float, float, Batch]] = {}  # not on the disk yet; by two clocks
        self._accepted_at: deque[tuple[int, int]] = deque()  # positions of batches, and the requests that they accept
        self.offset_s = 0.0
        """Of the journal's clock, which stands still while no broker runs, from the world's."""
        self._stored_until_s = 0.0  # by the journal's clock
        self._deadlines = told.deadlines
        self._known = told.known
        self._is_dying = False
        self._ending: dict[int, str] = {}  # the trace says that they ended, the disk does not; with their clients
        self._unsent: dict[
            int, tuple[str, str]
        ] = {}  # their clients and tokens; of the lab's programs: ended, but the reply has not left the broker
        self._ordered_at: dict[int, float] = {}  # the same, when it was to leave last
        self._withheld: list[int] = []  # the same, for REQ sockets: dropped, to be sent when that is stored
        self._left: dict[int, None] = {}  # and whether it did
        self._replies: dict[str, int] = {}  # the request of each of these
        self._acknowledged = told.acknowledged
        self._cancelled = told.cancelled
        self._gone_at: dict[str, float] = {}
        self._taken_at: dict[str, float] = {}  # when another program has last asked with the identity of a lab client
        self._back_at: dict[str, float] = {}
        self._was_back_at: dict[str, float] = {}  # the last time before, if it had its time to ask then
        self._asked_last: dict[tuple[str, tuple[bytes, ...]], int] = {}
        self._kept: dict[int, None] = {}  # by the disk, when the last broker died
        self._had = told.had
        self._heard_of: dict[str, None] = {}  # REQ workers that spoke or were lost in this broker's life
        self._greeted: dict[str, None] = {}  # clients that said hello to this broker

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(text)

    # --- the disk

    def put(self, position: int, data: bytes) -> None:
        """The broker gives this to its journal."""
        batch = decode_batch(position, data)
        self._batches[position] = (self._world.now, self._world.now + self.offset_s, batch)
        for record in batch.records:
            if isinstance(record, RequestEnded) and not record.is_stored:
                self._may_be_forgotten(record.number)
            elif isinstance(record, AnswersDropped):
                for number in record.numbers:
                    self._may_be_dropped(number)
            elif isinstance(record, RequestAccepted) and record.number not in self.written.requests:
                self._accepted_at.append((position, record.id))
        self.written.apply(self._world.now, batch.records)

    def take_stored(self, facts: Sequence[events.Event]) -> list[int]:
        """The requests of which the core has just been told that they are stored."""
        until = max((fact.position for fact in facts if isinstance(fact, events.JournalStored)), default=0)
        stored: list[int] = []
        while self._accepted_at and self._accepted_at[0][0] <= until:
            stored.append(self._accepted_at.popleft()[1])
        return stored

    def inherit(self, inherited: Inheritance) -> None:
        """It is the journal of servers, and that stands in it."""
        self.durable, self.written = inherited.ledger.copy(), inherited.ledger.copy()
        self._stored_until_s = inherited.journal_at
        notes = [*self.durable.requests.values(), *self.durable.answers.values()]
        for note in sorted(notes, key=lambda note: note.number):
            if note.is_of_lab:
                self._asked_last[note.client, note.envelope] = note.id

    def plain_tokens(self) -> dict[int, str]:
        """The tokens of the requests of the lab's programs that are stored, or whose answers are."""
        notes = (*self.durable.requests.values(), *self.durable.answers.values())
        return {note.id: self._known[note.id].token for note in notes if note.is_of_lab and note.id in self._known}

    def on_disk(self, position: int) -> None:
        """This batch is stored."""
        self.need(position in self._batches, f"G8: batch {position} is stored, and its owner has not written it so")
        at, self._stored_until_s, batch = self._batches.pop(position)
        self.durable.apply(at, batch.records)
        for record in batch.records:
            if isinstance(record, RequestEnded):
                self._ending.pop(self.durable.ids[record.number], None)

    @property
    def was_troubled(self) -> bool:
        """Whether requests may have been refused because nothing could be stored."""
        return self.disk is not None and self.disk.troubled_at > self._world.now - TROUBLE_S

    # --- what may be forgotten

    def _may_be_forgotten(self, number: int) -> None:
        """A request ends without an answer that is kept: nobody wants one, or a REQ socket is to get it at once."""
        note = self.written.requests.get(number)
        if note is not None and not (note.is_of_nobody or note.id in self._cancelled):
            is_req = note.is_of_lab and note.envelope == REQ
            self.need(is_req, f"G8: the answer to {note.client}/{note.id} is not stored, and nobody has said why")

    def _may_be_dropped(self, number: int) -> None:
        note = self.written.answers.get(number)
        if note is not None and note.is_of_lab and note.envelope == REQ:
            self._withheld.append(note.id)
        if note is not None and not self._is_unwanted(note):
            raise ViolationError(f"G7: the answer to {note.client}/{note.id} is dropped, and was not acknowledged")

    def _is_unwanted(self, note: Note) -> bool:
        now, limits = self._world.now, self._plan.limits
        ended_at = note.ended_at or 0.0
        if note.is_of_nobody or note.id in self._acknowledged or limits.parked_bytes_max < ROOMY_BYTES:
            return True
        if self._gone_at.get(note.client, -1.0) >= note.at or now - ended_at >= limits.answers_keep_s - 1e-6:
            return True
        if ended_at <= self._could_ask_since(note.client):  # it is back, and has not asked for it
            return True
        if not note.is_of_lab:
            return False
        if self._taken_at.get(note.client, -1.0) >= note.at:
            return True
        if note.envelope == REQ or self._asked_last.get((note.client, note.envelope), note.id) != note.id:
            return True
        return note.id in self._left and now - self._ordered_at[note.id] >= TOLD_S - 1e-6

    def _could_ask_since(self, client: str) -> float:
        """Since when it has been back for long enough to ask for its answers; it may have been back again since."""
        back_at = self._back_at.get(client, -1.0)
        has_had_time = back_at <= self._world.now - self._plan.limits.liveness_s + 1e-6
        return back_at if has_had_time else self._was_back_at.get(client, -1.0)

    # --- what is left when all clients have gone

    def left(self) -> list[Note]:
        """What is on the disk for clients, although they have left: they said goodbye to this broker, or were lost."""
        notes = [note for note in self.durable.requests.values() if not note.is_of_nobody]
        return [*notes, *(note for note in self._answers() if note.client in self._greeted)]

    def kept_in_vain(self) -> list[Note]:
        """Answers for clients that never said hello to this broker, so that it has to keep them for as long as it may."""
        return [note for note in self._answers() if note.client not in self._greeted]

    def _answers(self) -> list[Note]:
        return [note for note in self.durable.answers.values() if not note.is_of_lab]

    # --- the broker's trace, and what the programs say

    def record(self, record: Record) -> None:
        """Of the trace."""
        if record.event == "client_gone":
            self._gone_at[record.client] = self._world.now
            # Should it come back and ask again, it is told of another request.
            self._ending = {request: name for request, name in self._ending.items() if name != record.client}
        elif record.event == "client_back":
            if (since := self._could_ask_since(record.client)) >= 0:
                self._was_back_at[record.client] = since
            self._back_at[record.client] = self._world.now

    def heard(self, facts: Sequence[events.Event]) -> None:
        """About to be told to the core."""
        for fact in facts:
            if isinstance(fact, events.ClientSaid):
                for message in fact.messages:
                    if isinstance(message, messages.Received):
                        self._acknowledged.update(dict.fromkeys(message.requests))
                    elif isinstance(message, messages.ClientHello):
                        self._greeted[message.client] = None
            elif isinstance(fact, events.WorkerSaid):
                if any(isinstance(message, PlainReady) for message in fact.messages):
                    self._heard_of[printable(fact.peer)] = None
            elif isinstance(fact, events.PeerLost | events.Undelivered) and fact.side is events.Side.WORKER:
                self._heard_of[printable(fact.peer)] = None

    def plain_asked(self, peer: bytes, request: PlainRequest, number: int) -> None:
        """The broker is about to read this, and will give it that number."""
        self._asked_last[printable(peer), tuple(map(bytes, request.envelope))] = number

    def identity_taken(self, peer: bytes) -> None:
        """Another program asks with this identity. The broker may find that out, and nobody gets what the first one had asked."""
        self._taken_at[printable(peer)] = self._world.now

    def accepted(self, request: int, accepted: Accepted) -> None:
        """The broker has taken it on."""
        if self.disk is None:
            return
        self._known[request] = accepted
        if accepted.deadline_at is not None:
            self._deadlines[request] = accepted.deadline_at + self.offset_s
        note = self.written.answers.get(self.written.answered_ids.get(request, 0))
        is_fair = note is None or self._is_unwanted(note)
        self.need(is_fair, f"G7: {accepted.token} is run again, though its answer is stored")

    def ended(self, request: int, record: Record, token: str, *, is_of_lab: bool) -> None:
        """As the trace says. What only looks at the broker is not stored."""
        if self.disk is None or record.service.startswith(OWN_PREFIXES):
            return
        if record.event == "cancelled":
            self._cancelled[request] = None
        if record.text.startswith(AWAY):  # should it ask again, it is told of another request
            return
        self._ending[request] = record.client
        if is_of_lab:
            self._unsent[request] = (record.client, token)

    # --- nothing leaves too early

    def task_leaves(self, attempt: SeenAttempt) -> None:
        """To a worker."""
        is_stored = self.disk is None or attempt.request in self.durable.accepted_ids
        self.need(is_stored, f"G8: task {attempt.task} of {attempt.token} leaves before its request is stored")

    def reply_is_ordered(self, request: int) -> None:
        """To be sent to a program of the lab."""
        self._ordered_at[request] = self._world.now
        self._left.pop(request, None)

    def answer_leaves(self, request: int, *, is_living: bool, token: str = "") -> None:
        """To a client. ``is_living``: its request has not ended."""
        if self.disk is None:
            return
        is_early = is_living or request in self._ending
        self.need(not is_early, f"G8: the answer to {token or request} leaves before it is stored")
        self._unsent.pop(request, None)
        if token:
            self._left[request] = None
            self._replies[token] = request

    def reply_arrives(self, token: str, job: Job, client: PlainClient) -> None:
        """A REQ socket takes a reply that comes twice for the reply to its next question, so there must be none (G1)."""
        if self.disk is None or client.plan.is_dealer or client.plan.patience_s is not None:
            return
        is_twice = token != job.token and (client.who, token) in self._had
        self.need(not is_twice, f"G1: {client.who} has got the reply for {token} twice, the second time to {job.token}")
        self._had[client.who, token] = None

    # --- a broker dies, another reads the journal

    def broker_died(self) -> None:
        """Note that a broker has died, and its disk has decided what has become of the last append."""
        self.written = self.durable.copy()
        self._batches.clear()
        self._accepted_at.clear()
        self._ending.clear()
        self._heard_of.clear()
        self._greeted.clear()
        self._was_back_at.clear()
        notes = (*self.durable.requests.values(), *self.durable.answers.values())
        self._kept = dict.fromkeys(note.id for note in notes if not note.is_of_nobody)
        self._is_dying = True

    def keeps(self, request: int) -> bool:
        """Whether the next broker knows of it, and of who asked."""
        return request in self._kept

    def has_stored(self, request: int) -> bool:
        """Whether it is on the disk that this request was accepted; without a disk, nothing is."""
        return request in self.durable.accepted_ids

    def is_superseded(self) -> None:
        """Another broker has the journal: what is lost from now on is not this one's."""
        self._is_dying = False

    def is_lost_with_fenced(self, request: int) -> bool:
        """Whether a lab's program waits for ``request`` in vain, which its broker has read, as another one has the journal."""
        notes = (*self.durable.requests.values(), *self.durable.answers.values())
        return not any(note.id == request and not note.is_of_nobody for note in notes)

    def keeps_reply(self, token: str) -> bool:
        """Whether the reply to ``token`` is lost with a broker, and the next one has it too."""
        return self._is_dying and token in self._replies and self.keeps(self._replies[token])

    def take_unsent(self, client: str = "") -> dict[int, str]:
        """The tokens of the lab's requests that have ended, and whose replies have not left the broker: of all, or of one."""
        taken = {request: token for request, (name, token) in self._unsent.items() if client in ("", name)}
        for request in taken:
            del self._unsent[request]
        return taken

    def take_withheld(self) -> list[int]:
        """Requests of REQ sockets whose replies were to leave when it is stored that they are dropped."""
        withheld, self._withheld = self._withheld, []
        return withheld

    def knows_worker(self, worker: PlainWorker) -> bool:
        """Whether the next broker knows this REQ worker."""
        return not worker.plan.is_anonymous and worker.name.encode() in self.durable.workers

    def recovered(self, core: BrokerCore, attempts: dict[int, SeenAttempt]) -> dict[int, Accepted]:
        """What a new broker must know, if it does: ``core`` has read the disk."""
        now, durable = self._world.now, self.durable
        self._is_dying = False
        self.offset_s = self._stored_until_s - now
        found: dict[int, Accepted] = {}
        for note in durable.requests.values():
            accepted = self._known[note.id]
            for attempt in accepted.attempts:
                attempt.is_accepted = False
                attempt.void = attempt.void or "lost"
            accepted.attempts = [attempts[task] for task, _ in note.attempts]
            for attempt, (_, outcome) in zip(accepted.attempts, note.attempts, strict=True):
                attempt.void = outcome
                attempt.is_excused = True
            if note.task is not None:
                running = accepted.attempts[-1]
                running.recovered_at = running.handed_at = now
                running.connection = None
            if not note.is_of_nobody:
                found[note.id] = accepted
                if accepted.deadline_at is not None:
                    accepted.deadline_at = self._deadlines[note.id] - self.offset_s
        self._is_complete(core)
        return found

    def stored_retries(self) -> dict[int, int]:
        """How often the handler of each request in the journal has asked to be called again."""
        return {note.id: note.retries for note in self.durable.requests.values()}

    def waiting(self, core: BrokerCore) -> list[Note]:
        """The requests in the journal that wait for a worker, and that none has failed at; what could begin first comes first."""
        entries = {i: entry for row in core.clients.all for i, entry in row.entries.items()}
        notes = [
            note
            for note in self.durable.requests.values()
            if note.task is None and not note.failed and not note.is_of_nobody
        ]
        waiting = [note for note in notes if entries[note.id].state is not RequestState.DELAYED]
        return sorted(waiting, key=lambda note: entries[note.id].waits_since)

    def await_answers(self, accepted: dict[int, Accepted], workers: Sequence[PlainWorker]) -> None:
        """What REQ workers have said may be lost, and then the new broker waits for that."""
        at_work = {each.attempts[-1].worker for each in accepted.values() if each.attempts}
        for worker in workers:
            if worker.name in at_work:
                worker.awaited(self._world.now + self._plan.limits.answer_timeout_s)

    def _is_complete(self, core: BrokerCore) -> None:
        """Everything that the disk says is there, and nothing else."""
        entries = {entry.request.id: entry for client in core.clients.all for entry in client.entries.values()}
        parked = {request: reply for client in core.clients.all for request, reply in client.parked.items()}
        wanted = {note.id: note for note in self.durable.requests.values() if not note.is_of_nobody}
        answers = {note.id: note for note in self.durable.answers.values() if not note.is_of_nobody}
        for request, entry in entries.items():
            self.need(request not in answers, f"G7: {entry.client.name}/{request} waits, though its answer is stored")
            self.need(request in wanted, f"G7: {entry.client.name}/{request} waits, though it has ended")
        in_hand = {
            task for worker in (*core.workers.by_peer.values(), *core.workers.recovering) for task in worker.in_hand
        }
        for request, note in wanted.items():
            self.need(request in entries, f"G8: {note.client}/{request} is lost, though it was stored")
            entry = entries[request]
            self.need(
                bytes(entry.request.body) == note.body or entry.state is RequestState.ENDED,
                f"G8: {request} has another body",
            )
            self.need(
                entry.attempt == 1 + note.failed, f"G5: {request} is at attempt {entry.attempt}, {note.failed} failed"
            )
            retries = 0 if entry.delay is None else entry.delay.retries
            self.need(retries == note.retries, f"G8: {request} has {retries} retries, and {note.retries} are stored")
            is_known = note.task is None or note.task in in_hand
            self.need(
                is_known, f"G8: task {note.task} of {note.client}/{request} is forgotten, its worker may be at it"
            )
        for request, note in answers.items():
            is_roomy = self._plan.limits.parked_bytes_max >= ROOMY_BYTES
            self.need(
                request in parked or not is_roomy, f"G8: the answer to {note.client}/{request} is lost, though stored"
            )
            if request in parked:
                answer = parked[request].answer
                self.need((int(answer.status), bytes(answer.body)) == note.answer, f"G1: {request} has another answer")
        known = dict(core.workers.returning)
        for peer in self.durable.workers:
            self.need(peer in known, f"G8: the REQ worker {printable(peer)} is forgotten")

    # --- what workers have begun

    def went_on(
        self, orders: Sequence[events.Event], attempts: dict[int, SeenAttempt]
    ) -> list[tuple[bytes, SeenAttempt]]:
        """The attempts that workers are told to go on with, and who."""
        return [
            (order.peer, attempts[task])
            for order in orders
            if isinstance(order, events.SendToWorker)
            for message in order.messages
            if isinstance(message, messages.Welcome)
            for task in message.tasks
        ]

    def may_be_taken_away(self, attempt: SeenAttempt) -> None:
        """It was given back, as if it had not begun."""
        if attempt.recovered_at is not None:
            attempt.has_died = False  # nobody has told this broker
            at_it = (worker for worker in self.workers if worker.is_alive and worker.pool.is_at(attempt.task))
            # Nobody goes on with a stream. Where brokers share a journal, its worker may not have lost the first of them yet.
            is_run = any(not self._is_shared or attempt.task not in worker.pool.streams for worker in at_it)
            self.need(
                not is_run, f"G8: task {attempt.task} of {attempt.token} is given to others, but its worker is at it"
            )

    def may_have_failed(self, attempt: SeenAttempt) -> bool:
        """Whether its worker, which is known from the journal, has had its time."""
        assert attempt.recovered_at is not None
        limits, waited_s = self._plan.limits, self._world.now - attempt.recovered_at + 1e-6
        if attempt.worker in {worker.name for worker in self._plan.workers}:
            return waited_s >= limits.liveness_s
        return waited_s >= limits.answer_timeout_s or attempt.worker in self._heard_of
