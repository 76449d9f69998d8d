"""What must hold at every step, and what must have come true in the end.

The checker reads what crosses between the broker's core and its shell (facts, orders, trace), is told by the simulated
programs what really happened to them, and compares. Of the core's insides it uses :meth:`BrokerCore.check`, and who
waits where.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.check import check
from cbw.core.client.events import Ended
from cbw.core.messages import OK, Status
from cbw.core.plain_messages import PlainReply, PlainRequest, PlainTask
from cbw.core.port import printable

from . import parcels
from .account import Accepted
from .bookkeeping import Bookkeeping
from .clients import PlainClient, SimClient
from .delays import Delays
from .durability import Durability
from .ends import Circumstances, need_fair_error, need_fair_plain_error
from .idleness import Idleness
from .inherited import token_of_inherited, why_not_inherited
from .namesakes import Namesakes
from .network import Connection, Network
from .operator import Operator
from .overload import Fairness, need_limits_kept
from .parcels import Parcel, PlainAnswer, PlainReady
from .plain_workers import PlainWorker
from .plan import Job, Plan, Wish
from .poison import Poison
from .programs import Programs
from .questions import Questions
from .served import Served, nobody_waits_past_the_deadline
from .trace import Trace
from .unsent_answers import UnsentAnswers
from .wishes import OWN, OWN_NOTHING
from .workers import SimWorker, read_answer, read_body
from .world import ViolationError, World

if TYPE_CHECKING:
    from .broker import SimBroker

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
        self.asked = programs.asked
        self.ttl: dict[int, float | None] = {}  # of requests that have come: how long they may take
        self.plain_tokens: dict[int, str] = {}
        self._plain_tasks: dict[int, tuple[PlainTask, int]] = {}
        self._excused = durability.told.excused
        self._cancelled = programs.cancelled
        self.unread: dict[bytes, None] = {}  # peers of which is told in this step that they have not read
        self._started: dict[int, str] = {}  # tickets that have come in this step, and their jobs
        self._steps = self._quiet_steps = 0
        self.namesakes = Namesakes(world)
        self.durability = durability
        self.poison = Poison(world, plan, self.durability)
        self.questions = Questions(world, self.durability)
        self.fairness = Fairness(has_journal=self.durability.disk is not None)
        self.delays = Delays(plan.limits.dead_max, programs.retries_wanted)
        self.operator = Operator(world, broker, programs.cancelled_by_operators)
        self.streams = programs.streams
        self.programs = programs
        programs.checkers.append(self)
        self.books = Bookkeeping(world.seed, has_journal=self.durability.disk is not None)
        self.served = Served(plan.limits)
        self.unsent_answers = UnsentAnswers(world, plan.limits.liveness_s)
        self.idleness = Idleness(self)
        self._trace = Trace(self)

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(text)

    # --- what the programs tell

    def submitted(self, key: str, job: Job, client: SimClient) -> None:
        self.jobs[job.token] = job
        self.asked[int(key.rpartition("/")[2])] = (job.token, self.world.now, client)

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
            self.asked[answer.id][1],
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
        self.fairness.clear()
        self.programs.tickets.broker_died()
        self.delays.broker_died(durability.stored_retries())
        self.unsent_answers.clear()
        self.served.clear()
        self.books.clear()
        self.namesakes.broker_died()
        self.accepted.clear()
        self.plain_tokens = {i: token for i, token in self.plain_tokens.items() if durability.keeps(i)}
        self._plain_tasks.clear()
        self._trace.last_of.clear()
        self.questions.broker_died()
        self.poison.broker_died()
        self.idleness.clear()
        self.operator.broker_died()
        for worker in self.plain_workers:
            worker.broker_died(is_known=durability.knows_worker(worker))

    def recovered(self) -> None:
        """A broker has read its journal."""
        self.plain_tokens.update(self.durability.plain_tokens())
        self.accepted.update(self.durability.recovered(self.broker.core, self.attempts))
        self.fairness.recovered(self.durability.waiting(self.broker.core))
        self.poison.recovered(self.broker.core)
        self.books.recovered(self.broker.core)
        self.durability.await_answers(self.accepted, self.plain_workers)

    def facts(self, facts: list[events.Event]) -> None:
        """About to be told to the core."""
        self.durability.heard(facts)
        self.books.hears(facts)
        self.streams.arrived(facts, self.attempts)
        plain_id = self.broker.core.clients.next_plain_id
        self.unread.clear()
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
                        self.ttl[plain_id] = self.plan.limits.plain_ttl_s
                        self.durability.plain_asked(fact.peer, message, plain_id)
                        plain_id += 1
            elif isinstance(fact, events.Undelivered) and fact.peer[:1] == b"\0":
                self._never_read(fact.messages, "its client is gone and had no name")
            elif isinstance(fact, events.PeerUnread):
                self.unread[fact.peer] = None
                self._never_read(fact.messages, "never read")
        self.ttl.update(asked)

    def _start_arrives(self, start: messages.Start) -> None:
        """The first with its ticket is the one."""
        number = int(start.ticket)
        if start.ticket not in self.broker.core.tickets.rows and number not in self._started:
            token = read_body(start.body)[0]
            self._started[number] = token
            self.asked[number] = (token, None, self.asked[start.id][2])
            self.ttl[number] = start.ttl
            self.delays.asked[number] = start.delay_s or 0.0

    def answers_sent(self, batch: Sequence[messages.Message], connection: Connection) -> None:
        """These leave the broker."""
        for message in batch:
            if isinstance(message, messages.Answer):
                self.unsent_answers.discard(f"{connection.link.process.name}/{message.id}")
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
                name = self.asked[message.id][2].name if message.id in self.asked else ""
                self.unsent_answers.discard(f"{name}/{message.id}")
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
            self.served.stepped(core, self.world.now)
            self._quiet_steps += 1
            if self._quiet_steps % QUIET_STEPS == 0:
                self.check()
            return
        self.books.ordered(facts, orders, core)
        self.fairness.stored(self.durability.take_stored(facts))
        for record in records:
            self.books.heard(record, core, self.world.now)
            self._trace.heard(record)
        for peer, attempt in self.durability.went_on(orders, self.attempts):
            attempt.connection, attempt.recovered_at = self.broker.workers.connection_of(peer), None
        for order in orders:
            if isinstance(order, events.SendToClient):
                self._to_client(order)
            elif isinstance(order, events.SendToWorker):
                self._to_worker(order)
        self.books.says(orders, self.accepted, self.attempts)
        self.served.stepped(core, self.world.now)
        self._steps += 1
        if self._steps % (1 + core.requests.count // 16) == 0 or any(
            isinstance(fact, events.PeerLost) for fact in facts
        ):
            self.check()

    def check(self) -> None:
        """The core's own idea of a sane state, and the limits (G2, G4, G9); nothing waits past its deadline (G6)."""
        core, now = self.broker.core, self.world.now
        check(core)
        self.poison.check(core)
        self.books.check(core, self.accepted)
        self.need(
            core.requests.count == len(self.accepted),
            f"G4: {core.requests.count} requests, {len(self.accepted)} in the trace",
        )
        need_limits_kept(core, self.plan)
        if not self.broker.is_disturbed:
            self.served.check(core, now)
            nobody_waits_past_the_deadline(self.accepted.values(), self.broker.stored_at, now)

    # --- what the broker says

    def _to_worker(self, order: events.SendToWorker) -> None:
        for message in order.messages:
            if isinstance(message, PlainTask):
                self._plain_tasks[id(message)] = (message, self._trace.last_of[printable(order.peer)])
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
                token, _, client = self.asked[message.id]
                self.need(connection is None or connection.link is client.link, f"G1: {token} is answered elsewhere")
                self.served.told(message, token, self.broker.core, self.world.now)
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

    def sample(self) -> None:
        """From time to time: does anybody wait beside an idle worker?"""
        self.idleness.sample()
