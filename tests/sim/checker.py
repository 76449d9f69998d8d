"""What must hold at every step, and what must have come true in the end.

The checker reads what crosses between the broker's core and its shell (facts, orders, trace), is told by the simulated
programs what really happened to them, and compares. Of the core's insides it uses :meth:`BrokerCore.check`, and who
waits where.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.check import check
from cbw.core.client.events import Ended
from cbw.core.messages import OK, Status
from cbw.core.plain_messages import PlainReply, PlainRequest, PlainTask
from cbw.core.port import printable
from cbw.core.record import Record

from . import parcels
from .account import Accepted, SeenAttempt
from .blame import may_count
from .bookkeeping import Bookkeeping
from .clients import PlainClient, SimClient
from .delays import Delays
from .durability import Durability
from .ends import Circumstances, need_deadline_passed, need_fair_error, need_fair_plain_error
from .inherited import token_of_inherited, why_not_inherited
from .namesakes import Namesakes
from .network import Connection, Network
from .operator import NAME, Operator
from .overload import Fairness, need_limits_kept
from .parcels import Parcel, PlainAnswer, PlainReady
from .plain_workers import PlainWorker
from .plan import Job, Plan, Wish
from .poison import Poison
from .programs import Programs
from .questions import Questions
from .served import UNSERVED, Served, nobody_waits_past_the_deadline
from .trust import nobody_is_trusted_for_ever
from .turns import Turns
from .unbegun import has_settled, idle_servers, not_begun
from .unsent_answers import UnsentAnswers
from .wishes import OWN, OWN_NOTHING
from .workers import SimWorker, read_answer, read_body
from .world import ViolationError, World

if TYPE_CHECKING:
    from .broker import SimBroker

BROKE_OFF = "the answer broke off"
"""How the record begins of a stream that is broken."""
LOST_PARTS = "parts of its answer were lost"
"""How the record begins of an attempt that was given up because its client has not got all parts."""
SAMPLE_S = 0.05
"""Seconds between two looks at G2."""
QUIET_STEPS = 4
"""Of the steps in which nothing is heard, said or told, the state is checked after each fourth: it should be as it was."""


class Checker:
    """G1 to G6 and G9, as far as they can be seen from outside."""

    def __init__(
        self, world: World, plan: Plan, network: Network, broker: SimBroker, programs: Programs, durability: Durability
    ) -> None:
        self.world = world
        self.plan = plan
        self.network = network
        self.broker = broker
        self.workers: list[SimWorker] = []
        self.plain_workers: list[PlainWorker] = []
        self.plain_clients: dict[str, PlainClient] = {}
        self.jobs = programs.jobs
        self.attempts = programs.attempts
        self.accepted: dict[int, Accepted] = {}
        self._asked = programs.asked
        self._ttl: dict[int, float | None] = {}
        self.plain_tokens: dict[int, str] = {}
        self._plain_tasks: dict[int, tuple[PlainTask, int]] = {}
        self._last_of: dict[str, int] = {}  # by worker, the task given last: it may have ended in the same step
        self._excused = durability.told.excused
        self._cancelled = programs.cancelled
        self._unread: dict[bytes, None] = {}
        self._started: dict[int, str] = {}  # tickets that have come in this step, and their jobs
        self._waiting_since: dict[int, float] = {}
        self._turns = Turns(world)
        self._steps = self._quiet_steps = 0
        self.namesakes = Namesakes(world)
        self.durability = durability
        self._poison = Poison(world, plan, self.durability)
        self.questions = Questions(world, self.durability)
        self._fairness = Fairness(has_journal=self.durability.disk is not None)
        self.delays = Delays(plan.limits.dead_max, programs.retries_wanted)
        self.operator = Operator(world, broker, programs.cancelled_by_operators)
        self.streams = programs.streams
        self.programs = programs
        programs.checkers.append(self)
        self._books = Bookkeeping(world.seed, has_journal=self.durability.disk is not None)
        self._served = Served(plan.limits)
        self._unsent_answers = UnsentAnswers(world, plan.limits.liveness_s)

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(text)

    # --- what the programs tell

    def submitted(self, key: str, job: Job, client: SimClient) -> None:
        self.jobs[job.token] = job
        self._asked[int(key.rpartition("/")[2])] = (job.token, self.world.now, client)

    def cancelled(self, key: str) -> None:
        self._cancelled[key] = None

    def client_ended(self, key: str, job: Job | Wish | None, ended: Ended, client: SimClient) -> None:
        """G1 and G4 at the client."""
        answer, status, now = ended.answer, ended.answer.status, self.world.now
        if isinstance(job, Wish):
            is_answer = self.programs.tickets.ended(job, ended, was_cancelled=key in self._cancelled)
            if is_answer and status is OK:
                self._answer_is_own(read_answer(answer.body)[0], answer.body)
            return
        if job is None:
            raise ViolationError(f"G4: {key} ended, which {client.who} does not wait for")
        self.need(ended.sink is job, f"G1: {client.who} got the answer of {ended.sink.token} for {job.token}")
        self.world.counts[status.name.lower()] += 1
        if self.streams.ended(key, ended):
            return
        if job.kind == OWN and status in (OK, Status.BAD_REQUEST):
            self.need((status is OK) == (job.service != OWN_NOTHING), f"{job.token} is {ended}")
            return
        if status is Status.OK:
            self._answer_is_own(job.token, answer.body)
            return
        around = Circumstances(
            self._asked[answer.id][1],
            key in self._cancelled or key in self.operator.cancelled,
            client.core.refused is not None,
            self.programs.may_be_refused(answer.id),
        )
        need_fair_error(job, ended, self.plan.limits, around, now)

    def plain_asked(self, job: Job) -> int:
        """A number for this question; the same may be asked again."""
        self.jobs[job.token] = job
        self._excused.pop(job.token, None)
        return self.questions.number()

    def plain_read(self, request: parcels.PlainRequest, connection: Connection) -> None:
        """The broker reads it."""
        self.namesakes.heard(connection)
        self.questions.read(request.number, connection.link.process)
        asker = self.plain_clients.get(connection.link.process.name)
        if asker is not None and asker is not connection.link.process:
            self.durability.identity_taken(connection.peer)
            for job, _ in asker.in_flight.values():
                self.excuse(job.token, "another program has asked with its identity")

    def plain_ended(self, job: Job, number: int, reply: parcels.PlainReply, client: PlainClient) -> None:
        """G1 and G4 at a lab client."""
        self.world.counts[f"plain {reply.status.name.lower()}"] += 1
        is_known = self.questions.was_known(number, reply.sent_at)
        if not is_known and reply.token == job.token:
            client.answered_early(number, is_read=self.questions.was_known(number, self.world.now))
            return
        if not is_known:
            # Sent by a broker that could not know that another socket has taken the identity over: its dialect has
            # nothing to tell the two apart by.
            client.is_confused = True
        self.durability.reply_arrives(reply.token, job, client)
        if client.is_confused:
            self.world.counts["plain replies to a successor"] += 1
            self.plain_thrown_away(reply, client)
            return
        self.need(reply.token == job.token, f"G1: {client.who} got the reply for {reply.token} to {job.token}")
        if reply.status is Status.OK:
            self._answer_is_own(job.token, reply.body)
        else:
            need_fair_plain_error(job, reply, self.plan.limits, is_excused=self.is_excused(job.token))

    def plain_thrown_away(self, reply: parcels.PlainReply, client: PlainClient) -> None:
        """``client`` does not wait for this. Whose it was gets no other: the two have one identity, so one name to the broker."""
        asked_as = reply.token.partition("/")[0]
        self.need(asked_as.partition("-twin")[0] == client.name, f"G1: {client.who} got the reply for {reply.token}")
        if asked_as != client.asks_as:
            self.excuse(reply.token, "another program with its identity got the reply")

    def _answer_is_own(self, token: str, body: bytes) -> None:
        answered, worker, task = read_answer(body)
        self.need(answered == token, f"G1: {token} got the answer of {answered}, from {worker}")
        attempt = self.attempts[task]
        self.need(attempt.has_run, f"G4: {token} has an answer, but no handler ran")
        self.need(attempt.is_accepted, f"G4: {token} ended with the answer of attempt {task}, which was void")

    def in_pool(self, task: int) -> None:
        if task in self.attempts:
            self.attempts[task].is_in_pool = True

    def begun(self, task: int, token: str) -> None:
        if (attempt := self.attempts.get(task)) is not None:
            self.need(attempt.token == token, f"G1: task {task} is {attempt.token}, its body is {token}'s")
            attempt.began_at = self.world.now
            attempt.is_in_pool = True

    def ran(self, task: int) -> None:
        if task in self.attempts:
            self.attempts[task].has_run = True

    # --- the network and the broker's process

    def lost(self, parcel: Parcel, why: str) -> None:
        """What is lost on the way: CBW/1 makes up for it, the lab's dialects cannot."""
        if isinstance(parcel, parcels.PlainReply) and self.durability.keeps_reply(parcel.token):
            return
        if isinstance(parcel, parcels.PlainRequest | parcels.PlainReply):
            self.excuse(parcel.token, why)
        elif isinstance(parcel, PlainReady):
            for worker in self.plain_workers:
                if worker.name == parcel.worker:
                    worker.is_orphan = True
        elif isinstance(parcel, parcels.PlainTask | PlainAnswer):
            # The broker cannot know that, so it gives the worker its time to answer before it looks for it.
            task = parcel.task if isinstance(parcel, parcels.PlainTask) else int(parcel.body.rpartition(b";")[2])
            if (connection := self.attempts[task].connection) is not None:
                connection.link.process.disturbed(self.world.now + self.plan.limits.answer_timeout_s)

    def displaced(self, connection: Connection) -> None:
        """Another program has the identity of this connection's now: what it waits for may never come."""
        process = connection.link.process
        self.namesakes.displaced(connection)
        if isinstance(process, PlainClient):
            for job, _ in process.in_flight.values():
                self.excuse(job.token, "another program took its identity")

    def excuse(self, token: str, why: str) -> None:
        """The plain request ``token`` may never end."""
        if token not in self._excused:
            self.world.say("checker", f"{token} may be lost: {why}")
            self._excused[token] = why

    def is_excused(self, token: str) -> bool:
        return token in self._excused

    def broker_died(self) -> None:
        durability = self.durability
        durability.broker_died()
        ended = durability.take_unsent()
        lost = {request: accepted.token for request, accepted in self.accepted.items() if request in self.plain_tokens}
        for client in self.broker.core.clients.by_peer.values():
            if not client.dialect.has_sessions:  # an inherited reply is nobody's request
                lost.update({i: self.plain_tokens[i] for i in client.parked if i in self.plain_tokens})
        lost.update({i: self.plain_tokens[i] for i in durability.take_withheld() if i in self.plain_tokens})
        for request, token in {**lost, **ended}.items():
            if not durability.keeps(request):
                self.excuse(token, "the broker died")
        self._never_read(self.broker.driver.backlog.messages, "the broker died")
        self._fairness.clear()
        self.programs.tickets.broker_died()
        self.delays.broker_died(durability.stored_retries())
        self._unsent_answers.clear()
        self._served.clear()
        self._books.clear()
        self.namesakes.broker_died()
        self.accepted.clear()
        self.plain_tokens = {i: token for i, token in self.plain_tokens.items() if durability.keeps(i)}
        self._plain_tasks.clear()
        self._last_of.clear()
        self.questions.broker_died()
        self._poison.broker_died()
        self._waiting_since.clear()
        self._turns.clear()
        self.operator.broker_died()
        for worker in self.plain_workers:
            worker.broker_died(is_known=durability.knows_worker(worker))

    def recovered(self) -> None:
        """A broker has read its journal."""
        self.plain_tokens.update(self.durability.plain_tokens())
        self.accepted.update(self.durability.recovered(self.broker.core, self.attempts))
        self._fairness.recovered(self.durability.waiting(self.broker.core))
        self._poison.recovered(self.broker.core)
        self._books.recovered(self.broker.core)
        self.durability.await_answers(self.accepted, self.plain_workers)

    def facts(self, facts: list[events.Event]) -> None:
        """About to be told to the core."""
        self.durability.heard(facts)
        self._books.hears(facts)
        self.streams.arrived(facts, self.attempts)
        plain_id = self.broker.core.clients.next_plain_id
        self._unread.clear()
        self._started.clear()
        asked: dict[int, float | None] = {}
        for fact in facts:
            if isinstance(fact, events.ClientSaid):
                for message in fact.messages:
                    # the second only joins the first
                    if isinstance(message, messages.Request) and message.id not in asked:
                        asked[message.id] = message.ttl
                        self.delays.asked[message.id] = message.delay_s or 0.0
                    elif isinstance(message, messages.Start):
                        self._start_arrives(message)
                    elif isinstance(message, PlainRequest):
                        self.plain_tokens[plain_id] = read_body(message.body)[0]
                        self.questions.become_request(plain_id)
                        self._ttl[plain_id] = self.plan.limits.plain_ttl_s
                        self.durability.plain_asked(fact.peer, message, plain_id)
                        plain_id += 1
            elif isinstance(fact, events.Undelivered) and fact.peer[:1] == b"\0":
                self._never_read(fact.messages, "its client is gone and had no name")
            elif isinstance(fact, events.PeerUnread):
                self._unread[fact.peer] = None
                self._never_read(fact.messages, "never read")
        self._ttl.update(asked)

    def _start_arrives(self, start: messages.Start) -> None:
        """The first with its ticket is the one."""
        number = int(start.ticket)
        if start.ticket not in self.broker.core.tickets.rows and number not in self._started:
            token = read_body(start.body)[0]
            self._started[number] = token
            self._asked[number] = (token, None, self._asked[start.id][2])
            self._ttl[number] = start.ttl
            self.delays.asked[number] = start.delay_s or 0.0

    def answers_sent(self, batch: Sequence[messages.Message], connection: Connection) -> None:
        """These leave the broker."""
        for message in batch:
            if isinstance(message, messages.Answer):
                self._unsent_answers.discard(f"{connection.link.process.name}/{message.id}")
                self.durability.answer_leaves(message.id, is_living=message.id in self.accepted)

    def plain_reply_sent(self, message: PlainReply) -> str:
        """It leaves the broker; whose it is."""
        request, token = message.answer.id, self.plain_reply(message)
        self.durability.answer_leaves(request, is_living=request in self.accepted, token=token)
        return token

    def taken_back(self, peer: bytes, batch: Sequence[messages.Message]) -> None:
        """What waited for a peer is the core's again: it parks what it has somebody for."""
        if peer[:1] == b"\0":
            self._never_read(batch, "its client is gone and had no name")

    def _never_read(self, batch: Sequence[messages.Message], why: str) -> None:
        for message in batch:
            if isinstance(message, messages.Answer):
                name = self._asked[message.id][2].name if message.id in self._asked else ""
                self._unsent_answers.discard(f"{name}/{message.id}")
            if isinstance(message, PlainReply) and not self.durability.keeps_reply(self.plain_reply(message)):
                self.excuse(self.plain_reply(message), why)

    def tasks_sent(self, batch: list[messages.Message], connection: Connection) -> None:
        for message in batch:
            if isinstance(message, messages.Task):
                self.attempts[message.id].connection = connection
                self.durability.task_leaves(self.attempts[message.id])

    def plain_task(self, message: PlainTask, connection: Connection | None) -> int:
        task = self._plain_tasks[id(message)][1]
        self.attempts[task].connection = connection
        self.attempts[task].is_acquainted = connection is not None and connection.has_spoken
        self.durability.task_leaves(self.attempts[task])
        return task

    def plain_reply(self, message: PlainReply) -> str:
        return self.plain_tokens.get(message.answer.id) or token_of_inherited(message.answer)

    def step(self, facts: list[events.Event], orders: list[events.Event]) -> None:
        """The core has decided."""
        core = self.broker.core
        records = core.outbox.take_records()
        if not (facts or orders or records):
            self._served.stepped(core, self.world.now)
            self._quiet_steps += 1
            if self._quiet_steps % QUIET_STEPS == 0:
                self.check()
            return
        self._books.ordered(facts, orders, core)
        self._fairness.stored(self.durability.take_stored(facts))
        for record in records:
            self._books.heard(record, core, self.world.now)
            self._record(record)
        for peer, attempt in self.durability.went_on(orders, self.attempts):
            attempt.connection, attempt.recovered_at = self.broker.workers.connection_of(peer), None
        for order in orders:
            if isinstance(order, events.SendToClient):
                self._to_client(order)
            elif isinstance(order, events.SendToWorker):
                self._to_worker(order)
        self._books.says(orders, self.accepted, self.attempts)
        self._served.stepped(core, self.world.now)
        self._steps += 1
        if self._steps % (1 + core.requests.count // 16) == 0 or any(
            isinstance(fact, events.PeerLost) for fact in facts
        ):
            self.check()

    def check(self) -> None:
        """The core's own idea of a sane state, and the limits (G2, G4, G9); nothing waits past its deadline (G6)."""
        core, now = self.broker.core, self.world.now
        check(core)
        self._poison.check(core)
        self._books.check(core, self.accepted)
        self.need(
            core.requests.count == len(self.accepted),
            f"G4: {core.requests.count} requests, {len(self.accepted)} in the trace",
        )
        need_limits_kept(core, self.plan)
        if not self.broker.is_disturbed:
            self._served.check(core, now)
            nobody_waits_past_the_deadline(self.accepted.values(), self.broker.stored_at, now)

    # --- the broker's trace

    def _record(self, record: Record) -> None:
        now = self.world.now
        self._of_clients(record)
        if record.event in ("result_dropped", "result_expired"):
            self._unsent_answers.discard(record.request)
        if self.programs.tickets.told(record):
            return
        if not record.request or record.event in ("refused", "fenced", "stored", "task_recovered"):
            return
        request = int(record.request.rpartition("/")[2])
        if record.event.startswith("dead_letter_"):
            accepted = self.accepted.get(request)
            job = self.jobs[accepted.token] if accepted is not None else None
            self._poison.heard(record, accepted, job, self.broker.core)
            return
        if record.event == "answer_dropped":
            self._unsent_answers.discard(record.request)
            if request in self.plain_tokens:
                self.excuse(self.plain_tokens[request], "its answer was dropped")
            return
        if record.event == "accepted":
            is_new = record.request not in self._unsent_answers
            self.need(is_new, f"G7: {record.request} is run again, though its answer never left the broker")
            self.need(request not in self.accepted, f"G4: {record.request} was accepted twice")
            is_of_lab = request in self.plain_tokens
            token = self.plain_tokens[request] if is_of_lab else self._asked[request][0]
            has_room = is_of_lab or self.jobs[token].kind == OWN or len(self.accepted) < self.plan.limits.requests_max
            self.need(has_room, f"G9: {token} was accepted over the limit")
            ttl = self._ttl[request]
            self.accepted[request] = Accepted(token, None if ttl is None else now + ttl, now)
            self.durability.accepted(request, self.accepted[request])
            self.delays.accepted(request, now)
            self._fairness.heard(record, request, self.jobs[token])
            return
        accepted = self.accepted.get(request)
        if accepted is None:
            raise ViolationError(f"G4: {record.event} for {record.request}, which is not in the broker")
        self._fairness.heard(record, request, self.jobs[accepted.token])
        if self.delays.heard(record, request, accepted, now):
            return
        if record.event == "handed_out":
            self._handed_out(record, request, accepted)
        elif record.event == "returned":
            attempt = accepted.attempts[-1]
            self.need(attempt.task == record.task and not attempt.void, f"G4: task {record.task} returned twice")
            self.durability.may_be_taken_away(attempt)
            attempt.void = "restarted" if record.text.startswith(LOST_PARTS) else "returned"
        elif record.event == "attempt_failed":
            self._attempt_failed(record, accepted)
        else:
            self._ended(record, request, accepted)

    def _ended(self, record: Record, request: int, accepted: Accepted) -> None:
        del self.accepted[request]
        is_of_lab = request in self.plain_tokens
        self.durability.ended(request, record, accepted.token, is_of_lab=is_of_lab)
        if record.event in ("answered", "failed") and not is_of_lab:
            self._unsent_answers.add(record.request)
        if self.jobs[accepted.token].kind == OWN and record.event != "cancelled":
            self.need(not accepted.attempts, f"G4: {accepted.token} was handed out, and is the broker's own")
        elif record.text.startswith(BROKE_OFF):
            if accepted.attempts:
                accepted.attempts[-1].void = accepted.attempts[-1].void or "failed"
        elif record.event in ("answered", "failed"):
            attempt = accepted.attempts[-1]
            is_live = attempt.task == record.task and not attempt.void
            self.need(is_live, f"G4: {accepted.token} ended with the answer of a void attempt, {record.task}")
            attempt.is_accepted = True
            self._books.shown.answered(record.service, accepted, self.world.now)
        elif record.event == "gave_up":
            self._poison.gave_up(record.request, accepted, self.jobs[accepted.token])
        elif record.event == "expired" and UNSERVED in record.text:
            self._served.ended(record, accepted, self.world.now)
        elif record.event == "expired":
            asked_at = self._asked.get(request, ("", None))[1]
            need_deadline_passed(accepted, asked_at, self.jobs[accepted.token].ttl_s, self.world.now)
        elif record.event == "cancelled" and NAME in record.text:
            self.operator.ended(record, accepted, self.jobs[accepted.token])
            if is_of_lab:
                self.excuse(accepted.token, record.text)
        elif record.event == "cancelled" and is_of_lab:
            self._plain_cancelled(accepted.token, record.text)

    def _of_clients(self, record: Record) -> None:
        self._unsent_answers.heard(record)
        self.durability.record(record)
        self.delays.kept(record)
        if record.event == "client_gone" and record.client not in self.plain_clients:
            for token in self.durability.take_unsent(record.client).values():
                self.excuse(token, "its client is gone and had no name")

    def _plain_cancelled(self, token: str, why: str) -> None:
        client = self.plain_clients.get(token.partition("/")[0])
        connection = client.connection_to(self.broker.clients) if client else None
        is_there = connection is not None and not connection.is_lost and why.startswith("away")
        self.need(not is_there, f"G4: {token} was cancelled ({why}), but its client is connected and waits")
        self.excuse(token, why)

    def _handed_out(self, record: Record, request: int, accepted: Accepted) -> None:
        now, token = self.world.now, accepted.token
        self.operator.handed_out(record)
        is_in_time = accepted.deadline_at is None or accepted.deadline_at > now - 1e-6
        self.need(
            is_in_time, f"G6: {token} was handed out {now - (accepted.deadline_at or 0):.3f} s after its deadline"
        )
        is_free = not accepted.attempts or accepted.attempts[-1].void
        self.need(bool(is_free), f"G4: {token} was handed out, but an attempt lives")
        self.need(
            record.attempt == 1 + accepted.failed,
            f"G5: {token} is at attempt {record.attempt}, but {accepted.failed} have failed",
        )
        lab = {worker.name for worker in self.plain_workers}
        died = accepted.died(lab, is_stream=self.jobs[token].kind.startswith("stream"))
        self.need(
            died < self.plan.limits.attempts_max, f"G5: {token} was handed out again after {died} workers died of it"
        )
        self.need(record.task not in self.attempts, f"G4: task {record.task} was given twice")
        if record.attempt == 1:
            self._turns.handed_out(record.worker, accepted.at - SAMPLE_S, self.accepted)
        attempt = self.attempts[record.task] = SeenAttempt(record.task, request, token, now, record.worker)
        accepted.attempts.append(attempt)
        self._last_of[record.worker] = record.task

    def _attempt_failed(self, record: Record, accepted: Accepted) -> None:
        attempt = accepted.attempts[-1]
        self.need(attempt.task == record.task and not attempt.void, f"G5: task {record.task} failed twice")
        attempt.void = "failed"
        may = may_count(attempt, self.plan, self.durability, self._unread, self.world.now)
        self.need(may, f"G5: {attempt.token}: attempt {record.task} counts, but {record.text!r} is not so")
        connection = attempt.connection
        attempt.is_excused |= connection is None or connection.link.process.is_frozen

    def _to_worker(self, order: events.SendToWorker) -> None:
        for message in order.messages:
            if isinstance(message, PlainTask):
                self._plain_tasks[id(message)] = (message, self._last_of[printable(order.peer)])
            elif isinstance(message, messages.Task):
                attempt = self.attempts[message.id]
                self.need(read_body(message.body)[0] == attempt.token, f"G1: wrong body in task {message.id}")
                self.need(message.ttl is None or message.ttl > 0, f"G6: {attempt.token} had no time left")
                self.delays.sent(message, attempt.request)

    def _to_client(self, order: events.SendToClient) -> None:
        self.streams.sent(order)
        connection = self.broker.clients.connection_of(order.peer)
        for message in order.messages:
            if isinstance(message, PlainReply):
                self._to_plain_client(message, connection)
            elif isinstance(message, messages.Answer):
                token, _, client = self._asked[message.id]
                self.need(connection is None or connection.link is client.link, f"G1: {token} is answered elsewhere")
                self._served.told(message, token, self.broker.core, self.world.now)
                if message.status is Status.UNKNOWN_TICKET:
                    self.programs.tickets.is_unknown(message.id, self.programs.wishes[message.id])
                if message.status is OK and message.id not in self.programs.wishes and self.jobs[token].kind != OWN:
                    self._answer_is_own(token, message.body)

    def _to_plain_client(self, message: PlainReply, connection: Connection | None) -> None:
        token = self.plain_reply(message)
        self.durability.reply_is_ordered(message.answer.id)
        if connection is not None:
            process = connection.link.process
            assert isinstance(process, PlainClient)
            is_own = token.startswith(process.asks_as + "/") or message.envelope[0] not in process.in_flight
            # A ROUTER does not tell whose a connection is before it speaks. The broker has to expect a thief only where it has
            # seen two connections with one identity.
            could_know = connection.has_spoken or self.namesakes.are_known(process.name.encode())
            self.need(is_own or not could_know, f"G1: the reply for {token} was sent to {process.asks_as}")
            process.is_confused |= not is_own  # a REQ socket takes it for the answer to what it asks
        if message.answer.id not in self.plain_tokens:
            why = why_not_inherited(message.answer, self.attempts, self.broker.first_task)
            self.need(not why and self.durability.disk is None, f"G4: {token} was answered, but {why}")
        elif message.answer.status is Status.OK:
            self._answer_is_own(token, message.answer.body)

    # --- G2 on the wire

    @property
    def allowance_s(self) -> float:
        """How long a request may wait beside an idle worker: a recall there and back, and it is handed out."""
        return 0.15 + 10 * self.network.slowest_s

    def sample(self) -> None:
        """G2: no worker is idle, as itself sees it, while a request that it could serve waits."""
        now, broker, allowance_s, calm_s = self.world.now, self.broker, self.allowance_s, 2 * self.allowance_s
        if not broker.is_alive or broker.core.requests.stopping.is_on or now - broker.settled_at < calm_s:
            self._waiting_since.clear()
            self._turns.clear()
            return

        is_calm = partial(has_settled, broker, now - calm_s)
        servers: list[SimWorker | PlainWorker] = [*self.workers, *self.plain_workers]
        unbegun = not_begun(broker, self.attempts, self.operator.paused, is_calm)
        asked = servers if unbegun else self.plain_workers  # looking at a late one of these disturbs it
        idle = idle_servers(asked, broker, self.operator, is_calm, now - allowance_s)
        waiting: dict[int, float] = {}
        for request, service in unbegun:
            since = waiting[request] = self._waiting_since.get(request, now)
            if service in idle and now - since > allowance_s:
                accepted = self.accepted[request]
                raise ViolationError(
                    f"G2: {accepted.token} has waited for {now - since:.3f} s while {idle[service].name} is idle; its "
                    f"attempts: {[(a.task, a.void) for a in accepted.attempts]}"
                )
        self._waiting_since = waiting
        self._books.shown.check(broker.core, self.accepted, servers, now)
        self._turns.sample(broker.core, self.accepted)
        nobody_is_trusted_for_ever(self.broker, self.plan.limits, now)
