"""Workers that say hello and beat: what they say, what each is given, and when one is lost.

REQ workers, which do neither, are treated in :mod:`cbw.core.broker.req_workers`. What becomes of the tasks that a worker has
in hand is decided in :mod:`cbw.core.broker.requests`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.events import PeerUnread, Side, Undelivered, WorkerSaid
from cbw.core.broker.inherited import InheritedAnswers
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.pulse import Pulse
from cbw.core.broker.req_workers import ReqWorkers
from cbw.core.broker.requests import Requests
from cbw.core.broker.rights import KeyOf
from cbw.core.broker.service_list import kept_signatures
from cbw.core.broker.states import RequestState
from cbw.core.broker.streams import Streams
from cbw.core.broker.tables import Entry, ReqWorkerRow, WorkerRow, give, request_name
from cbw.core.broker.worker_table import WorkerTable
from cbw.core.dialect import WorkerDialect
from cbw.core.identities import NAME_CHARS_MAX, NO_PROOF, PROOF_RULE, is_name, is_proof, is_proven
from cbw.core.journal_records import TaskBegun
from cbw.core.key import ANYBODY, Key
from cbw.core.messages import (
    DEFAULT_SERVICE,
    OWN_PREFIXES,
    Answer,
    AnswerPart,
    Beat,
    Credit,
    Goodbye,
    HelloAgain,
    Message,
    ProgressMade,
    Refusal,
    Refused,
    Returned,
    StreamTask,
    Task,
    Welcome,
    WorkerHello,
)
from cbw.core.plain_messages import Partial, PlainAnswer, PlainReady

SERVICES_MAX = 1000
"""Services of one worker. Each is a queue in the broker, and is looked at whenever the worker is."""

AT_WORK = ": a handler that holds the GIL in C (run it with --processes), a process that was stopped, or the network"
"""What silences a worker that has work. Whoever reads this, as the reason of a GaveUp, knows no more than that."""

_ENDED = (
    RequestState.ENDED
)  # Python 3.11 looks up a member of an enumeration slowly, and this is wanted for each answer


class Workers:
    """All workers, as the broker's core sees them."""

    def __init__(
        self,
        outbox: Outbox,
        requests: Requests,
        inherited: InheritedAnswers,
        limits: Limits,
        welcome: Welcome,
        agenda: Agenda,
    ) -> None:
        self.table = WorkerTable(outbox, requests, agenda)
        self.by_peer = self.table.by_peer
        self.name_of = self.table.name_of
        self._req = ReqWorkers(self.table, requests, inherited, outbox, limits, agenda)
        self._by_name: dict[str, WorkerRow] = {}  # all but REQ workers
        self._recovering: dict[
            tuple[str, str], WorkerRow
        ] = {}  # by name and boot: what they had before the broker started
        self._recovery_timer = agenda.timer(self._end_recovery)
        self.key_of: KeyOf = lambda peer: ANYBODY
        self._requests = requests
        self._outbox = outbox
        self._limits = limits
        self._welcome = welcome

    # --- what they say

    def said(self, fact: WorkerSaid) -> None:
        """A worker sent a batch."""
        if fact.dialect.returns_silently:
            self._req_said(fact)
            return
        worker = self.by_peer.get(fact.peer)
        messages = iter(fact.messages)
        begins_anew = bool(fact.messages) and type(fact.messages[0]) is WorkerHello
        if fact.is_replaced and worker is not None and worker.pulse is not None and not begins_anew:
            self._lose(worker, "lost its connection")  # and with it, perhaps, the task that was on its way to it
            worker = None
        if worker is None or worker.dialect is not fact.dialect or begins_anew:
            worker = self._stranger_said(fact)
            if worker is None:
                return
            next(messages)
        worker.heard_at = now = self._outbox.now
        answered, oldest = worker.answered, next(iter(worker.in_hand.values()), None)
        in_hand, requests = worker.in_hand, self._requests
        for message in messages:
            if type(message) is Answer:
                entry = in_hand.pop(message.id, None)
                if entry is None or entry.state is _ENDED:
                    self._answered_late(worker, message, entry)
                else:
                    requests.answered(worker, entry, message)
            elif type(message) is Credit:
                self._credit_changed(worker, max(0, message.tasks))
                self._requests.dispatcher.serves_others(worker, is_shared=message.is_shared)
            elif type(message) is Beat:
                self._beat(worker)
            elif type(message) is Returned:
                self._requests.return_tasks(worker, message.tasks)
            elif type(message) is Goodbye:
                may_have_begun = bool(worker.in_hand) and not worker.dialect.returns_tasks
                self._lose(worker, "said goodbye", is_blamed=may_have_begun)
                return
            elif type(message) is AnswerPart or type(message) is Partial:
                self._requests.streams.part_came(worker, message)
            elif type(message) is ProgressMade:
                self._requests.streams.progressed(worker, message)
            else:
                self._outbox.count_bad(Side.WORKER, worker.name, f"unexpected {type(message).__name__}")
        if worker.answered != answered and oldest is not None:
            worker.busy_s += now - max(worker.answered_at, oldest.handed_out_at)
            worker.answered_at = now
        self._requests.dispatcher.place(worker)

    def _beat(self, worker: WorkerRow) -> None:
        now, pulse = self._outbox.now, worker.pulse
        if pulse is not None:
            pulse.beat(now, (worker.answered + worker.failed, next(iter(worker.in_hand), 0)))
            pulse.told_at = now
        self._outbox.tell_worker(worker, Beat())

    def _req_said(self, fact: WorkerSaid) -> None:
        known = self.by_peer.get(fact.peer)
        if (known is None or fact.is_replaced) and (why := self._why_not(fact.peer, [DEFAULT_SERVICE])[1]):
            self._outbox.count_bad(Side.WORKER, self.name_of(fact.peer), why)
            return
        if known is not None and not isinstance(known, ReqWorkerRow):  # it spoke another dialect before
            self._lose(known, "registered anew")
        for message in fact.messages:
            if isinstance(message, PlainReady):
                self.table.drained.pop(self.name_of(fact.peer), None)  # a program that has just begun
                self._req.registered(fact.peer, fact.dialect)
            elif isinstance(message, PlainAnswer):
                self._req.answered(fact.peer, fact.dialect, message)

    def _answered_late(self, worker: WorkerRow, answer: Answer, entry: Entry | None) -> None:
        """``entry``, which it had in hand, has ended before; None: it had none in hand that this could answer."""
        self._requests.fence(worker.name, answer.id, entry)
        if worker.suspect is entry:
            worker.suspect = None

    def _stranger_said(self, fact: WorkerSaid) -> WorkerRow | None:
        """A peer spoke that is not registered: it says hello, or is a worker that was taken for lost."""
        messages = fact.messages
        if messages and type(messages[0]) is WorkerHello:
            return self._hello(fact, messages[0])
        for message in messages:
            if type(message) is Answer:
                self._requests.fence(self.name_of(fact.peer), message.id)
            elif type(message) is Goodbye:
                return None
        self._outbox.tell_strange_worker(fact.peer, fact.dialect, HelloAgain())
        return None

    def _hello(self, fact: WorkerSaid, hello: WorkerHello) -> WorkerRow | None:
        outbox, peer = self._outbox, fact.peer
        names = list(dict.fromkeys(hello.services))
        if (why := _why_bad(hello, names)) is not None:
            outbox.tell_strange_worker(peer, fact.dialect, Refused(Refusal.BAD_HELLO, why))
            outbox.count_bad(Side.WORKER, hello.worker[:NAME_CHARS_MAX], f"a bad hello: {why}")
            return None
        key, why = self._why_not(peer, names)
        if why:
            outbox.tell_strange_worker(peer, fact.dialect, Refused(Refusal.KEY, why))
            outbox.trace(catalogue.REFUSED, worker=hello.worker, text=why)
            outbox.counts["hellos_refused"] += 1
            return None
        known = self._by_name.get(hello.worker)
        if why := self._why_refused(known, hello):
            text = f"a worker called {hello.worker!r} lives"
            refused = Refused(Refusal.DUPLICATE_ID, text, self._limits.liveness_s)
            outbox.tell_strange_worker(peer, fact.dialect, refused)
            outbox.trace(catalogue.REFUSED, worker=hello.worker, text=why)
            outbox.counts["hellos_refused"] += 1
            return None
        if known is not None:
            if fact.dialect.registers_once and known.peer == peer and not fact.is_replaced:
                self._lose(known, "registered twice")
                outbox.tell_strange_worker(peer, fact.dialect, Goodbye())
                return None
            # Over the same connection it lives, and takes nothing down: it only did not hear our welcome in time. But a worker
            # that cannot give tasks back says so instead of answering.
            has_left = known.peer != peer or fact.is_replaced or not known.dialect.returns_tasks
            self._lose(known, "said hello again", is_blamed=has_left)
        if peer in self.by_peer:
            self._lose(self.by_peer[peer], "changed its id")
        registered = self._requests.dispatcher.registrations
        if registered + len(names) > self._limits.services_max:
            text = (
                f"workers have {registered} services here already, and this one would add {len(names)} (--services-max)"
            )
            outbox.tell_strange_worker(peer, fact.dialect, Refused(Refusal.BAD_HELLO, text))
            outbox.trace(catalogue.REFUSED, worker=hello.worker, text=text)
            outbox.counts["hellos_refused"] += 1
            return None
        services = [self._requests.dispatcher.service(name) for name in names]
        worker = WorkerRow(hello.worker, hello.boot, peer, services, fact.dialect, hello.proof)
        worker.key = key
        worker.concurrency = hello.concurrency
        worker.wants_names = hello.wants_names
        worker.takes_streams = hello.takes_streams
        worker.signatures = kept_signatures(hello.signatures, names)
        worker.credit = max(0, hello.credit)
        tasks, unwanted = self._take_over(worker, hello.tasks)
        if not fact.dialect.beats_at_work:
            worker.pulse = Pulse(outbox.now)
        self._by_name[worker.name] = worker
        self._req.forget(peer)
        self.table.add(worker)
        self._greet(worker, tasks, unwanted)
        return worker

    def _greet(self, worker: WorkerRow, tasks: list[int], unwanted: list[int]) -> None:
        """Welcome ``worker``, which goes on with ``tasks`` of an earlier broker, and with ``unwanted`` in vain."""
        outbox = self._outbox
        if outbox.is_tracing:
            for entry in worker.in_hand.values():
                outbox.trace_entry(catalogue.TASK_RECOVERED, entry, worker)
        outbox.tell_worker(worker, msgspec.structs.replace(self._welcome, tasks=tasks) if tasks else self._welcome)
        for task in unwanted:
            outbox.tell_unwanted(worker, task)

    def _why_refused(self, known: WorkerRow | None, hello: WorkerHello) -> str:
        """Why nobody may say ``hello`` while ``known`` has the id, or may come back to its tasks; empty: one may."""
        if known is not None and known.boot != hello.boot:
            return "duplicate id"
        begun = known or self._recovering.get((hello.worker, hello.boot))
        return "" if begun is None or is_proven(begun.proof, hello.proof) else NO_PROOF

    def _why_not(self, peer: bytes, services: Sequence[str]) -> tuple[Key, str]:
        """The key of ``peer``, and why it may not serve ``services``; empty: it may."""
        key = self.key_of(peer)
        if key is None:
            return ANYBODY, "its key is not allowed any more"
        wrong = [service for service in services if not key.may_serve(service)]
        return key, f"the key {key.name} is not good for the service {wrong[0]!r}" if wrong else ""

    # --- from a journal

    def restore_task(self, begun: TaskBegun, dialect: WorkerDialect, entry: Entry) -> None:
        """An earlier broker gave ``entry`` to a worker that may still be at it, and is given the time to say so."""
        if dialect.returns_silently:
            self._req.restore_task(begun, dialect, entry)
            return
        key = (begun.worker, begun.boot)
        worker = self._recovering.get(key)
        if worker is None:
            worker = self._recovering[key] = WorkerRow(begun.worker, begun.boot, b"", [], dialect, begun.proof)
            self._recovery_timer.set_by(self._outbox.now + self._limits.liveness_s)
        give(worker, entry, begun.task, self._outbox.now)

    def restore_returning(self, peer: bytes, dialect: WorkerDialect) -> None:
        """A worker that an earlier broker knew, and that returns without a word."""
        self._req.restore(peer, dialect)

    def _take_over(self, worker: WorkerRow, tasks: Sequence[int]) -> tuple[list[int], list[int]]:
        """The tasks, of those that ``worker`` has begun, with which it goes on; and those that have ended since, of which nobody
        wants the answers. Whatever else it had is not with it any more.
        """
        before = self._recovering.pop((worker.name, worker.boot), None)
        if before is None:
            return [], []
        known = [(task, entry) for task in tasks if (entry := before.in_hand.get(task)) is not None]
        for task, entry in known:
            if entry.state is not RequestState.ENDED:
                give(worker, entry, task, entry.handed_out_at)
                del before.in_hand[task]
        self._requests.return_all(before, "was not with its worker when the broker was back")
        return list(worker.in_hand), [task for task, _ in known if task not in worker.in_hand]

    def _end_recovery(self, now: float) -> None:
        """Take workers of the earlier broker for lost that are not back by now."""
        for worker in self._recovering.values():
            self._requests.fail_all(worker, "was not back in time after the broker's start")
        self._recovering.clear()

    def _credit_changed(self, worker: WorkerRow, credit: int) -> None:
        outbox = self._outbox
        if outbox.is_tracing and (credit == 0) is not (worker.credit == 0):  # who wants nothing is not free
            outbox.trace(catalogue.CREDIT_CHANGED, worker=worker.name, text=str(credit))
        if credit < worker.credit:
            self._requests.dispatcher.demands.offers_less(worker)
        worker.credit = credit

    # --- what they are given

    def hand_out(self) -> None:
        """Give what waits to those that want it."""
        outbox, requests = self._outbox, self._requests
        is_held = requests.journal is not None and requests.journal.holds_tasks
        for worker, entries in requests.dispatcher.hand_out(outbox.now, is_held=is_held):
            if isinstance(worker, ReqWorkerRow):
                (entry,) = entries
                self._req.give(worker, entry)
            else:
                are_named = outbox.is_tracing or worker.wants_names
                streams = requests.streams if worker.takes_streams else None
                tasks = _tasks_of(entries, outbox.now, streams, are_named=are_named)
                outbox.batch_for(worker).extend(tasks)
            if requests.journal is not None:
                requests.journal.begun(worker, entries)
            if outbox.is_tracing:
                for entry in entries:
                    outbox.trace_entry(catalogue.HANDED_OUT, entry, worker)
        if requests.dispatcher.demands.untold:
            requests.dispatcher.demands.tell()

    # --- coming and going

    def connected(self) -> None:
        """Somebody has connected."""
        self._req.connected()

    def lost(self, peer: bytes) -> None:
        """Its connection is gone, and whatever it had in hand may have begun."""
        worker = self.by_peer.get(peer)
        if isinstance(worker, ReqWorkerRow):
            self._req.lost(worker)
        elif worker is not None:
            self._lose(worker, "lost its connection")

    def undelivered(self, fact: Undelivered) -> None:
        """What did not reach it cannot have begun.

        A worker that says hello gets no more, but is not lost yet: what it said before its connection went, be it answers or
        a goodbye, has arrived and may not have been read. :meth:`lost` comes after that.
        """
        worker = self.by_peer.get(fact.peer)
        if isinstance(worker, ReqWorkerRow):
            # It may only have been probed, and nothing tells that who is not there was lost.
            self._requests.return_tasks(worker, list(worker.in_hand))
            self._req.lost(worker)
        elif worker is not None:
            self._requests.return_tasks(worker, [message.id for message in fact.messages if isinstance(message, Task)])
            self._credit_changed(worker, 0)
            self._requests.dispatcher.place(worker)

    def unread(self, fact: PeerUnread) -> None:
        """Take a worker that has not read for long for lost. When it reads on it speaks first, and is told so then.

        Tasks that were not sent at all cannot have begun.
        """
        worker = self.by_peer.get(fact.peer)
        if worker is not None:
            self._requests.return_tasks(worker, _unsent_tasks(worker, fact.messages))
        self.lost(fact.peer)

    def end_conversation(self, peer: bytes, why: str) -> None:
        """Take a worker for lost that has sent what cannot be read, perhaps instead of an answer."""
        worker = self.by_peer.get(peer)
        if worker is not None and worker.dialect.has_conversations:
            self._lose(worker, f"sent a bad message: {why}")

    def stop(self) -> None:
        """The grace time is over: take back what runs, and say goodbye to all that have a word for it."""
        if self._requests.journal is None:  # otherwise they go on, and the next broker hears of it
            for worker in list(self.by_peer.values()):
                if not self._req.can_answer_successor(worker):
                    self._requests.return_all(worker, "the broker is stopping")
        for worker in self.by_peer.values():
            if not worker.dialect.returns_silently:
                self._outbox.tell_worker(worker, Goodbye())

    def _lose(self, worker: WorkerRow, why: str, *, is_blamed: bool = True) -> None:
        if isinstance(worker, ReqWorkerRow):
            self._req.lose(worker, why, is_blamed=is_blamed)
        else:
            del self._by_name[worker.name]
            self.table.remove(worker, why, is_blamed=is_blamed)

    # --- time

    @property
    def recovering(self) -> list[WorkerRow]:
        """What workers had before this broker started, until they are back or taken for lost."""
        return list(self._recovering.values())

    @property
    def has_work(self) -> bool:
        """Whether any of them has something in hand that has not ended."""
        hands = (worker.in_hand.values() for worker in self.by_peer.values())
        return any(entry.state is not RequestState.ENDED for hand in hands for entry in hand)

    @property
    def returning(self) -> list[tuple[bytes, WorkerDialect]]:
        """The workers that return without a word, by their identities."""
        return self._req.returning

    @property
    def needs_sweep(self) -> bool:
        """Whether anybody has beats to be missed, is away, or is late."""
        return bool(self._by_name) or self._req.needs_sweep

    def sweep(self, now: float) -> None:
        """Look for those that are silent, or have been away for too long, and beat where the broker has to."""
        liveness_s = self._limits.liveness_s
        for worker in list(self._by_name.values()):
            if worker.pulse is not None:
                self._sweep_with_pulse(worker, worker.pulse, now)
            elif now - worker.heard_at > liveness_s:
                at_work = AT_WORK if worker.in_hand else ""
                self._lose(worker, f"silent for {liveness_s:g} s{at_work}")
        self._req.sweep(now)

    def _sweep_with_pulse(self, worker: WorkerRow, pulse: Pulse, now: float) -> None:
        """Look at a worker that beats at a rate of its own. If it is silent at work, it has its time to answer first."""
        limits, is_busy = self._limits, bool(worker.in_hand)
        patience_s = pulse.patience_s(limits, is_busy=is_busy)
        silent_since, why = worker.heard_at, f"silent for {patience_s:g} s"
        if is_busy and not pulse.is_beating_at_work:
            due_at = next(iter(worker.in_hand.values())).handed_out_at + limits.answer_timeout_s
            silent_since = max(silent_since, due_at)
            why = f"no answer in {limits.answer_timeout_s:g} s (--answer-timeout), and {why} then"
        if now - silent_since > patience_s:
            self._lose(worker, why)
            self._outbox.tell_strange_worker(worker.peer, worker.dialect, Goodbye())  # it may live, and never beat
        elif not is_busy and now >= pulse.tell_at:
            pulse.told_at = now
            self._outbox.tell_worker(worker, Beat())


def _why_bad(hello: WorkerHello, names: list[str]) -> str | None:
    """Why ``hello``, with the services ``names``, cannot be accepted; None: it can."""
    for prefix in OWN_PREFIXES:
        if any(name.startswith(prefix) for name in names):
            return f"services that begin with {prefix} are the broker's own"
    if (
        is_name(hello.worker)
        and is_name(hello.boot)
        and is_proof(hello.proof)
        and 0 < len(names) <= SERVICES_MAX
        and all(len(name) <= NAME_CHARS_MAX for name in names)
        and hello.concurrency >= 1
    ):
        return None
    return (
        f"an id and a boot have 1 to {NAME_CHARS_MAX} characters, {PROOF_RULE}, a service at most {NAME_CHARS_MAX} characters; "
        f"a worker has 1 to {SERVICES_MAX} services and at least one slot"
    )


def _tasks_of(entries: Iterable[Entry], now: float, streams: Streams | None, *, are_named: bool) -> list[Task]:
    """What a worker is sent for ``entries``, which it was given. Without ``streams`` it knows no answers in parts."""
    tasks: list[Task] = []
    for entry in entries:
        request, deadline_at = entry.request, entry.deadline_at
        ttl = None if deadline_at is None else deadline_at - now
        name = request_name(entry) if are_named else ""
        retries = 0 if entry.delay is None else entry.delay.retries
        task, attempt, stream = entry.task, entry.attempt, entry.stream
        if stream is None or stream.wants_one or streams is None:
            tasks.append(Task(task, request.service, request.body, ttl, attempt, name, retries, request.headers))
        else:
            room = streams.room_at_first(stream)
            tasks.append(
                StreamTask(task, request.service, request.body, ttl, attempt, name, retries, request.headers, room)
            )
    return tasks


def _unsent_tasks(worker: WorkerRow, messages: Sequence[Message]) -> list[int]:
    if isinstance(worker, ReqWorkerRow):
        return list(worker.in_hand)
    return [message.id for message in messages if isinstance(message, Task)]
