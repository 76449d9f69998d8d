"""The life of a request, from its acceptance to its one end. All of it is here, for every dialect.

    accept ──► handed out ──► answered | failed ──► the client is told, or its reply is parked
      │  ▲         │
      │  ├─────────┤ returned by its worker (costs nothing), or its worker failed (costs an attempt)
      │  └─ delayed ┤ its handler wants to be called again, later (costs a retry); new ones may be delayed too
      │            └─► given up, after as many attempts as are allowed
      └──► refused        and at any time: cancelled, expired (while it waits), stopped (with the broker)

A request begins in :meth:`Requests.accept` and ends in :meth:`Requests.end`, and nowhere else. Which changes are possible in
which state is said in :mod:`cbw.core.broker.states`. A request that ended in a queue or in a worker's hand stays there as a
dead entry until its turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker import delays
from cbw.core.broker.back_pressure import BackPressure
from cbw.core.broker.dead_letters import DeadLetters
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.durations import Durations
from cbw.core.broker.events import Side
from cbw.core.broker.expiries import Expiries
from cbw.core.broker.given_up import GivenUpTasks, whose_is
from cbw.core.broker.impatience import Impatience
from cbw.core.broker.journal import Journal, can_tell_replies_apart
from cbw.core.broker.limits import Limits
from cbw.core.broker.memory import memory_of
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.own_services import OwnServices
from cbw.core.broker.parked_replies import ParkedReplies
from cbw.core.broker.refusals import Refusals
from cbw.core.broker.states import ACCEPTED, ACCEPTED_WITH_JOURNAL, TRANSITIONS, Change, RequestState
from cbw.core.broker.stopping import Stopping
from cbw.core.broker.stories import REASON_CHARS_MAX, attempt_of, crash_of
from cbw.core.broker.streams import Streams
from cbw.core.broker.tables import ClientRow, Entry, ParkedReply, TicketRow, WorkerRow
from cbw.core.catalogue import EventName
from cbw.core.messages import (
    NO_WORKER,
    OK,
    OWN_PREFIXES,
    Answer,
    Request,
    Status,
    error_body,
    error_of,
    error_parts,
)
from cbw.core.plain_messages import Envelope, PlainReply
from cbw.core.port import is_anonymous

DEAD_BODY_BYTES_MAX = 1024
"""A request that ended may stay in a queue or among the deadlines for a while, but not with a larger body."""

_ANSWERED, _GAVE_UP, _SERVED = Change.ANSWERED, Change.GAVE_UP, Change.SERVED  # for each request: as messages.OK
_STORING = RequestState.STORING
_PARTS_SENT = "parts of its answer were sent"
_ENDS_OF_HANDLERS = (Status.OK, Status.FAILED, Status.BAD_REQUEST, Status.EXPIRED, Status.CANCELLED, Status.TOO_BIG)


class Requests:
    """The requests that were accepted and have not ended, and the replies that are parked for absent clients.

    The entries themselves stand with their clients (``ClientRow.entries``), in the queues of the dispatcher, and with their
    workers (``WorkerRow.in_hand``).
    """

    def __init__(self, outbox: Outbox, limits: Limits, agenda: Agenda, first_task: int, boot: str) -> None:
        self.count = 0
        self.bytes = 0  # that they take beyond what each takes: see memory_of
        self.back_pressure = BackPressure(outbox, limits, agenda, self._waits_for_clients)
        self.stopping = Stopping(self, outbox)
        self.journal: Journal | None = None
        """Where they are written, if the broker has one."""
        self.parked = ParkedReplies(outbox, limits.parked_bytes_max, self._answers_gone)
        self.on_parked: Callable[[ClientRow], None] = lambda client: None
        """Called when a reply was parked, as its client may be back without a word."""
        self.dead = DeadLetters(outbox, limits, boot)
        self.own = OwnServices(outbox)
        self.on_ticket: Callable[[TicketRow, Answer | None, int], None] = lambda ticket, answer, number: None
        """Called when a request of no client is stored (None), and when its answer is, instead of sending that."""
        self.dispatcher = Dispatcher(outbox, agenda, first_task, self.expire)
        if limits.unserved_s is not None:
            self.dispatcher.impatience = Impatience(outbox, agenda, limits.unserved_s, self._end_unserved)
        self.expiries = Expiries(self.dispatcher)
        self.refusals = Refusals(self, outbox, limits)
        self.streams = Streams(outbox, self, agenda, limits.parked_bytes_max)
        self._given_up = GivenUpTasks()
        self.durations = Durations(self.dispatcher.services)
        self._answered = self.durations.answered
        self._outbox = outbox
        self._limits = limits

    # --- the way in

    def accept(self, client: ClientRow, requests: Iterable[Request], envelope: Envelope = ()) -> None:
        """Take on ``requests``, or refuse them, or join those that are here already.

        ``envelope`` leads the reply back to a client without sessions.
        """
        entries, parked, services = client.entries, client.parked, self.dispatcher.services
        outbox, add, now, journal = self._outbox, self.dispatcher.add, self._outbox.now, self.journal
        refusal_of, is_bare = self.refusals.why, len(envelope) < 2
        count = 0
        if now >= self.refusals.pace.sample_at:
            self.refusals.sample_pace()
        for request in requests:
            count += 1
            key, body = request.id, request.body
            is_usual = is_bare and type(body) is bytes and request.headers is None
            size = len(body) if is_usual else memory_of(request, envelope)
            if key in entries:  # sent again after a lost connection
                outbox.counts["requests_joined"] += 1
            elif parked and key in parked:
                self._tell_again(client, envelope, key)
            elif request.service not in services and self._is_dealt_with(client, envelope, request):
                pass
            elif (refusal := refusal_of(client, request, size)) is not None:
                self._refuse(client, envelope, request, *refusal)
            else:
                ttl = request.ttl
                entry = Entry(request, client, ACCEPTED, now, None if ttl is None else now + ttl, envelope, size)
                entries[key] = entry
                self.count += 1
                self.bytes += size
                if outbox.is_tracing:
                    outbox.trace_entry(catalogue.ACCEPTED, entry)
                if journal is None:
                    add(entry)
                else:
                    entry.state = ACCEPTED_WITH_JOURNAL
                    journal.accept(entry)
        outbox.counts["requests_arrived"] += count
        if not client.dialect.has_sessions:
            self.back_pressure.begin_if_high(self.count, self.bytes)

    def _is_dealt_with(self, client: ClientRow, envelope: Envelope, request: Request) -> bool:
        """A service that has no row: the broker's own answers, and there may be too many of others."""
        if request.service.startswith(OWN_PREFIXES):
            self._serve(client, envelope, request)
            return True
        if len(self.dispatcher.services) < self._limits.services_max:
            return False
        text = f"requests wait for {len(self.dispatcher.services)} services already (--services-max)"
        self._refuse(client, envelope, request, Status.BUSY, text)
        return True

    def _serve(self, client: ClientRow, envelope: Envelope, request: Request) -> None:
        """The broker answers ``request`` itself, even if it is full: it is accepted, and ends at once."""
        is_kept = self.own.is_act(request.service) or type(client) is TicketRow
        journal = self.journal if is_kept else None
        if problem := self.own.problem or (journal.problem if journal is not None else ""):
            self._refuse(client, envelope, request, Status.BUSY, problem)
            return
        size = memory_of(request, envelope)
        entry = Entry(request, client, ACCEPTED, self._outbox.now, None, envelope, size)
        self.enter((entry,))
        if journal is not None:
            entry.state = ACCEPTED_WITH_JOURNAL
            journal.accept(entry)
        if self._outbox.is_tracing:
            self._outbox.trace_entry(catalogue.ACCEPTED, entry)
        answer = self.own.answer(client, request)
        self.end(entry, _SERVED, answer, catalogue.ANSWERED if answer.status is Status.OK else catalogue.FAILED)

    def _refuse(self, client: ClientRow, envelope: Envelope, request: Request, status: Status, *why: str) -> None:
        self.tell(client, envelope, self.refusals.answer(client, request, status, *why))

    def enter(self, entries: Iterable[Entry]) -> None:
        """``entries`` are among those that have not ended: they were accepted here, or by an earlier broker with this journal."""
        for entry in entries:
            entry.client.entries[entry.request.id] = entry
            self.count += 1
            self.bytes += entry.size

    def queue_again(self, entries: Iterable[Entry]) -> None:
        """``entries``, which stand in the journal and are with no worker, wait for one, perhaps later."""
        now, add_again = self._outbox.now, self.dispatcher.add_again
        for entry in entries:
            if entry.delay is not None and entry.delay.until > now:
                self.dispatcher.delays.add(entry)
                continue
            add_again(entry)
            if entry.deadline_at is not None:
                self._expire_if_late(entry)

    # --- with a worker

    def answered(self, worker: WorkerRow, entry: Entry, answer: Answer) -> None:
        """``worker`` has answered ``entry``, which is out of its hand already."""
        if worker.suspect is entry:
            worker.suspect = None
        worker.answered += 1
        status = answer.status
        if status is OK:
            self.end(entry, _ANSWERED, answer, catalogue.ANSWERED, worker)
        elif status is Status.CRASHED:
            self._attempt_failed(entry, worker, error_of(answer.body)[1])
        elif status is Status.RETRY:
            self._try_again(entry, worker, answer)
        elif status is Status.STREAMED and entry.stream is not None:
            self.streams.ended(worker, entry, answer)
        else:
            if status not in _ENDS_OF_HANDLERS:
                self._outbox.count_bad(Side.WORKER, worker.name, f"an answer with status {status.name}")
                error = error_body("BadAnswer", f"the worker answered with status {status.name}")
                answer = Answer(0, Status.FAILED, error)
            self._handler_failed(entry, worker, answer)

    def _try_again(self, entry: Entry, worker: WorkerRow, answer: Answer) -> None:
        """Its handler wants to be called again, later. That is no failed attempt: the worker lives."""
        if self.journal is not None:
            self.journal.attempt_ends()
        is_broken = self.streams.breaks(entry)
        why_not = _PARTS_SENT if is_broken else self.dispatcher.delays.retry(entry, worker, answer)
        if why_not:
            self._handler_failed(entry, worker, Answer(0, Status.FAILED, answer.body), why_not)
            return
        self.dead.remember(entry, attempt_of(entry, worker.name, self._outbox.now, answer.body))
        if self.journal is not None:
            self.journal.delayed(entry)
        else:
            self.stopping.has_ended(entry)

    def _handler_failed(self, entry: Entry, worker: WorkerRow, answer: Answer, why_not_again: str = "") -> None:
        """End a request with its handler's error. It becomes a dead letter if all its retries have failed, or if it was one."""
        is_used_up = answer.status is Status.FAILED and delays.retries_of(entry) > 0 and not why_not_again
        tried = delays.tried(entry, why_not_again)
        if is_used_up or self.dead.is_requeued(entry):
            tried += self.dead.keep_failed(entry, worker, answer, tried)
        self.durations.fail(entry.request.service, self._outbox.now)
        error = error_parts(answer.body)
        traceback = error.traceback if self._limits.send_tracebacks else ""
        answer.body = error_body(error.kind, error.text + tried, traceback, error.data)
        self.end(entry, Change.ANSWERED, answer, catalogue.FAILED, worker, error.line[:REASON_CHARS_MAX])

    def fence(self, worker: str, task: int, entry: Entry | None = None) -> None:
        """Throw away an answer to an attempt that was given up (G4). ``entry`` is what it was an attempt at, if that is known."""
        self._outbox.counts["answers_fenced"] += 1
        whose = self._given_up.find(task, worker) if entry is None else whose_is(entry)
        fields = dict(zip(("request", "client", "service"), whose, strict=True))
        self._outbox.trace(catalogue.FENCED, worker=worker, task=task, **fields)

    def return_tasks(self, worker: WorkerRow, tasks: Iterable[int]) -> None:
        """``worker`` cannot have begun these: their requests wait again, at the front."""
        worker.recalled_at = None
        for task in sorted(tasks, reverse=True):  # each goes to the front, so the oldest goes last
            entry = worker.in_hand.pop(task, None)
            if entry is None:
                continue
            if worker.suspect is entry:
                worker.suspect = None
            if entry.state is not RequestState.ENDED:
                self.returned(entry, worker, "returned")

    def return_all(self, worker: WorkerRow, why: str) -> None:
        """``worker`` will not answer what it has in hand, and cannot have begun it."""
        for entry in reversed(self._take_hand(worker)):
            self.returned(entry, worker, why)

    def fail_all(self, worker: WorkerRow, why: str) -> None:
        """``worker`` will not answer what it has in hand, and may have begun it."""
        for entry in self._take_hand(worker):
            self._attempt_failed(entry, worker, why)

    def _take_hand(self, worker: WorkerRow) -> list[Entry]:
        entries = [entry for entry in worker.in_hand.values() if entry.state is not RequestState.ENDED]
        worker.in_hand.clear()
        worker.suspect = worker.recalled_at = None
        return entries

    def returned(self, entry: Entry, worker: WorkerRow, why: str) -> None:
        """Its attempt cannot have begun, or its worker is not to blame for its end, so it does not count."""
        if self.streams.breaks(entry):
            self.streams.end_broken(entry, why, worker)
            return
        self._outbox.counts["tasks_returned"] += 1
        if self._outbox.is_tracing:
            self._outbox.trace_entry(catalogue.RETURNED, entry, worker, why)
        self._wait_again(entry, Change.RETURNED)

    def _attempt_failed(self, entry: Entry, worker: WorkerRow, why: str) -> None:
        """An attempt that may have begun took its worker down, or was left behind by it."""
        worker.failed += 1
        self._outbox.counts["attempts_failed"] += 1
        self._given_up.add(entry, worker.name)
        if self._outbox.wants_failures:
            self._outbox.trace_entry(catalogue.ATTEMPT_FAILED, entry, worker, why)
        if self.streams.breaks(entry):
            self.streams.end_broken(entry, why, worker)
            return
        attempt = crash_of(entry, worker.name, self._outbox.now, why)
        if entry.attempt < self._limits.attempts_max:
            self.dead.remember(entry, attempt)
            entry.attempt += 1
            self._wait_again(entry, Change.WORKER_FAILED)
            return
        who = f"{entry.attempt} workers" if entry.attempt > 1 else "1 worker"
        text = f"{who} failed at it; the last was {worker.name}: {why}"
        text += self.dead.keep(entry, catalogue.GAVE_UP, text, attempt)
        self.durations.fail(entry.request.service, self._outbox.now)
        answer = Answer(0, Status.GAVE_UP, error_body("gave_up", text))
        self.end(entry, Change.GAVE_UP, answer, catalogue.GAVE_UP, worker, why)

    def _wait_again(self, entry: Entry, change: Change) -> None:
        if self.journal is not None:
            self.journal.waits_again(entry)
        self.dispatcher.put_back(entry, change)
        if not self.stopping.has_ended(entry):
            self._expire_if_late(entry)

    # --- the end

    def end(
        self,
        entry: Entry,
        change: Change,
        answer: Answer | None,
        name: EventName,
        worker: WorkerRow | None = None,
        text: str = "",
    ) -> None:
        """End ``entry``, with ``answer`` for its client (None: nobody waits for one); trace and counts call the end ``name``."""
        outbox = self._outbox
        if outbox.is_tracing or (change is _GAVE_UP and outbox.wants_failures):
            outbox.trace_entry(name, entry, worker, text)
        request, client, size = entry.request, entry.client, entry.size
        journal = self.journal if entry.number else None  # what only looks at the broker is not in it
        if client is self.dead.nobody:
            answer = None
        if entry.worker is None and entry.state is not _STORING:
            self.dispatcher.mark_dead(entry)
        entry.state = TRANSITIONS[change][entry.state]
        self.count -= 1
        self.bytes -= size
        if answer is not None:
            answer.id = request.id
        if journal is not None:
            journal.end(entry, answer)
        if journal is None or answer is None:
            del client.entries[request.id]
        if entry.failures is not None:
            self.dead.stories.forget(entry)
        if size > DEAD_BODY_BYTES_MAX:
            entry.request = Request(request.id, request.service, b"")
        outbox.counts[name if change is not _SERVED else "own_services_answered"] += 1
        if change is _ANSWERED:
            entry.answered_at = outbox.now
            self._answered.append(entry)
        if answer is not None and journal is None:
            self.tell(client, entry.envelope, answer)
        if self.back_pressure.is_on:
            self.back_pressure.end_if_low(self.count, self.bytes)

    def cancel(self, entry: Entry, why: str, *, is_told: bool = False) -> None:
        """Nobody wants the answer to ``entry`` any more. ``is_told``: the client is answered all the same."""
        worker = entry.worker
        if entry.state is RequestState.ENDED:  # its answer is being stored
            if not is_told:
                del entry.client.entries[entry.request.id]
                self._answers_gone([entry.number])
            return
        if worker is not None:
            # Its slot stays taken until the worker says what became of it: it may not be able to stop.
            self._outbox.tell_unwanted(worker, entry.task)
        answer = Answer(entry.request.id, Status.CANCELLED, error_body("cancelled", why)) if is_told else None
        self.end(entry, Change.CANCELLED, answer, catalogue.CANCELLED, worker, why)

    def cancel_all(self, client: ClientRow, why: str) -> None:
        """``client`` is gone for good."""
        for entry in list(client.entries.values()):
            self.cancel(entry, why)
        self.parked.drop_all(client)

    def expire(self, entry: Entry) -> None:
        """Its deadline passed while it waited; or anywhere, if its client says so, who alone watches the time of what runs."""
        if entry.state is RequestState.ENDED:  # its answer is being stored
            return
        if entry.worker is not None:
            self._outbox.tell_unwanted(entry.worker, entry.task)
        self._expire(entry, *self.expiries.why(entry, self._outbox.now))

    def _end_unserved(self, entry: Entry) -> None:
        """Nobody has served its service for long."""
        unserved_s, service = self._limits.unserved_s, entry.request.service
        self._expire(entry, NO_WORKER, self.expiries.why_unserved(entry.client, service, self._outbox.now, unserved_s))

    def _expire(self, entry: Entry, kind: str, text: str) -> None:
        if self.dead.is_requeued(entry):
            text += self.dead.keep(entry, catalogue.EXPIRED, text)
        answer = Answer(0, Status.EXPIRED, error_body(kind, text))
        self.end(entry, Change.EXPIRED, answer, catalogue.EXPIRED, entry.worker, text)

    def _expire_if_late(self, entry: Entry) -> None:
        """``entry`` waits now, and its deadline may have passed before."""
        if entry.deadline_at is not None and entry.deadline_at <= self._outbox.now:
            self.expire(entry)

    def _waits_for_clients(self) -> bool:
        """Whether a worker can send no more of an answer before a client has said that it has room."""
        services = self.dispatcher.services.values()
        entries = (
            entry for service in services for worker in service.workers.values() for entry in worker.in_hand.values()
        )
        return any(entry.stream is not None and entry.stream.is_full for entry in entries)

    # --- replies

    def tell(self, client: ClientRow, envelope: Envelope, answer: Answer, number: int = 0) -> None:
        """Send ``answer`` to its client, or park it until the client is back. ``number``: it stands in the journal as that."""
        if client.absent_since is None and client.dialect.has_sessions:  # the usual case
            if number:  # until it is acknowledged
                self.parked.park(client, envelope, answer, number, is_sent=True)
            self._outbox.tell_client(client, answer)
        elif type(client) is TicketRow:
            self.on_ticket(client, answer, number)
        elif client.is_away:
            self.parked.park(client, envelope, answer, number)
            self.on_parked(client)
        else:
            self._outbox.tell_client(client, PlainReply(envelope, answer))
            if self.stopping.is_on:
                self.stopping.told_plain_client()
            if self.journal is not None and number:
                self.journal.told(client, answer.id, number)

    def park_unsent(self, client: ClientRow, envelope: Envelope, answer: Answer) -> None:
        """Park the reply to a client without sessions that was to be sent, and was not."""
        can_return = self.journal is not None and not is_anonymous(client.peer)
        number = self.journal.store_again(client, envelope, answer) if self.journal is not None and can_return else 0
        self.parked.park(client, envelope, answer, number)

    def _tell_again(self, client: ClientRow, envelope: Envelope, key: int) -> None:
        """A client asks again for what is parked for it."""
        reply = client.parked[key]
        if reply.number == 0:
            self.parked.take(client, key)
        self.tell(client, envelope, reply.answer, reply.number)

    def acknowledged(self, client: ClientRow, ids: Iterable[int]) -> None:
        """``client`` has the answers to these requests."""
        self.parked.drop(client, ids)

    def stored(self, position: int) -> None:
        """All batches of the journal up to ``position`` are stored: what has waited for that goes on."""
        assert self.journal is not None
        add, state = self.dispatcher.add, TRANSITIONS[Change.STORED][_STORING]
        for turn in self.journal.take_stored(position):
            for action in turn.actions:
                action()
            for entry in turn.accepted:
                if entry.state is _STORING:
                    if self._outbox.is_tracing:
                        self._outbox.trace_entry(catalogue.STORED, entry)
                    entry.state = state
                    add(entry)
                    if type(entry.client) is TicketRow:
                        self.on_ticket(entry.client, None, 0)
                    if entry.deadline_at is not None:
                        self._expire_if_late(entry)
            for finished in turn.finished:
                client, answer = finished.client, finished.answer
                wanted = client.entries.get(answer.id)
                if wanted is not None and wanted.number == finished.number:
                    del client.entries[answer.id]
                    self.tell(client, finished.envelope, answer, finished.number)

    def _answers_gone(self, numbers: Iterable[int]) -> None:
        if self.journal is not None:
            self.journal.drop(numbers)

    def send_parked(self, client: ClientRow) -> None:
        """Send what is parked for a client without sessions, which is here."""
        for reply in self.parked.take_all(client):
            if self.journal is None or can_tell_replies_apart(client, reply.envelope):
                self.tell(client, reply.envelope, reply.answer, reply.number)
            else:
                self._tell_once(self.journal, client, reply)

    def _tell_once(self, journal: Journal, client: ClientRow, reply: ParkedReply) -> None:
        """Send a stored reply that no later broker may send again: not before that is stored, and if nothing is new then."""
        journal.drop([reply.number])
        heard_at = client.heard_at

        def send() -> None:
            if client.heard_at != heard_at:
                return
            if client.is_away:
                self.park_unsent(client, reply.envelope, reply.answer)
                self.on_parked(client)
            else:
                self.tell(client, reply.envelope, reply.answer)

        journal.when_stored(send)
