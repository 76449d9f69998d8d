"""What must hold at every step, and what must have come true in the end.

The checker reads what crosses between the broker's core and its shell (facts, orders, trace), is told by the simulated
programs what really happened to them, and compares. Of the core's insides it uses :meth:`BrokerCore.check`, and who
waits where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.client import Ended
from cbw.core.messages import Status
from cbw.core.overview import state_of
from cbw.core.request import State

from .clients import PlainClient, SimClient
from .network import Connection, Network, Parcel, Peer, PlainAnswer, PlainReady, PlainReply, PlainRequest, PlainTask
from .plan import Job, Plan
from .workers import PlainWorker, SimWorker, read_body
from .world import ViolationError, World

if TYPE_CHECKING:
    from .broker import SimBroker

LATE_S = 0.02
"""A request whose deadline has passed may wait so much longer for its end."""
SAMPLE_S = 0.05
"""So often, G2 is looked at."""
SLOW_S = 0.5
"""Time in which the broker has to notice that something is overdue."""
OVERTAKEN_MAX = 20
"""So many times at most is a worker given what came after a request that waits in another of its services. (A batch counts
once: it is of one service, and as large as the worker wants.)"""
EVIL = ("die", "hang")


@dataclass(eq=False)
class Attempt:
    """One handing out."""

    task: int
    request: int
    token: str
    handed_at: float
    connection: Connection | None = None  # it was sent over
    is_acquainted: bool = True  # the broker had heard something over that connection
    is_in_pool: bool = False
    began_at: float | None = None
    has_run: bool = False
    has_died: bool = False  # its worker, while it ran
    void: str = ""  # "returned" or "failed": the broker counts on it no more
    is_excused: bool = False
    is_accepted: bool = False  # its answer ended the request


@dataclass(eq=False)
class Accepted:
    """A request in the broker."""

    token: str
    deadline_at: float | None
    at: float
    attempts: list[Attempt] = field(default_factory=list)


class Checker:
    """G1 to G6 and G9, as far as they can be seen from outside."""

    def __init__(self, world: World, plan: Plan, network: Network, broker: SimBroker) -> None:
        self.world = world
        self.plan = plan
        self.network = network
        self.broker = broker
        self.workers: list[SimWorker] = []
        self.plain_workers: list[PlainWorker] = []
        self.plain_clients: dict[str, PlainClient] = {}
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[int, Attempt] = {}
        self.accepted: dict[int, Accepted] = {}
        self._asked: dict[
            int, tuple[str, float | None, SimClient]
        ] = {}  # native request id → token, submitted, by whom
        self._ttl: dict[int, float | None] = {}
        self._plain_tokens: dict[int, str] = {}
        self._plain_tasks: dict[int, tuple[e.SendPlainTask, int]] = {}
        self._excused: dict[str, str] = {}
        self._questions = 0
        self._read_at: dict[int, float] = {}  # number of a plain question → when the broker read it
        self._cancelled: dict[str, None] = {}
        self._unread: dict[bytes, None] = {}
        self._waiting_since: dict[int, float] = {}
        self._services: dict[str, list[str]] = {}
        self._heads: dict[str, int] = {}  # service → the request whose turn is next
        self._overtaken: Counter[int] = Counter()
        self._overtaken_at: dict[int, float] = {}
        self._steps = 0

    def fail(self, text: str) -> None:
        raise ViolationError(text)

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(text)

    # --- what the programs tell

    def submitted(self, key: str, job: Job, client: SimClient) -> None:
        self.jobs[job.token] = job
        self._asked[int(key.rpartition("/")[2])] = (job.token, self.world.now, client)

    def cancelled(self, key: str) -> None:
        self._cancelled[key] = None

    def client_ended(self, key: str, job: Job | None, ended: Ended, client: SimClient) -> None:
        """G1 and G4 at the client."""
        answer, now = ended.answer, self.world.now
        if job is None:
            raise ViolationError(f"G4: {key} ended, which {client.who} does not wait for")
        self.need(ended.sink is job, f"G1: {client.who} got the answer of {ended.sink.token} for {job.token}")
        self.world.counts[answer.status.name.lower()] += 1
        status = answer.status
        if status is Status.OK:
            self._answer_is_own(job.token, answer.body)
        elif status is Status.FAILED:
            is_fair = job.kind == "raise" or client.core.refused is not None
            self.need(is_fair, f"G4: {job.token} failed, but its handler does not")
        elif status is Status.EXPIRED:
            submitted_at = self._asked[answer.id][1]
            is_fair = job.ttl_s is not None and submitted_at is not None and now >= submitted_at + job.ttl_s - 1e-6
            self.need(is_fair, f"G6: {job.token} expired too early")
        elif status is Status.BUSY:
            limits = self.plan.limits
            is_fair = limits.requests_max < 1000 or limits.requests_bytes_max < 1_000_000
            self.need(is_fair, f"G9: {job.token} was refused, but the broker is not full")
        elif status is Status.CANCELLED:
            self.need(key in self._cancelled, f"G4: {job.token} was cancelled by nobody")
        else:
            self.need(status is Status.GAVE_UP, f"G4: {job.token} ended with {status.name}")

    def plain_asked(self, job: Job) -> int:
        """A number for this question; the same may be asked again."""
        self.jobs[job.token] = job
        self._excused.pop(job.token, None)
        self._questions += 1
        return self._questions

    def plain_read(self, request: PlainRequest) -> None:
        """The broker reads it."""
        self._read_at[request.number] = self.world.now

    def plain_ended(self, job: Job, number: int, reply: PlainReply, client: PlainClient) -> None:
        """G1 and G4 at a lab client."""
        self.world.counts[f"plain {reply.status.name.lower()}"] += 1
        if self._read_at.get(number, self.world.now) >= reply.sent_at:
            # Sent before the broker could know that another socket has taken the identity over: its dialect has
            # nothing to tell the two apart by.
            client.is_confused = True
        if client.is_confused:
            self.world.counts["plain replies to a successor"] += 1
            return
        self.need(reply.token == job.token, f"G1: {client.who} got the reply for {reply.token} to {job.token}")
        if reply.status is Status.OK:
            self._answer_is_own(job.token, reply.body)
        else:
            fair = (Status.STOPPING, Status.GAVE_UP, *([Status.FAILED] if job.kind == "raise" else []))
            if self.plan.limits.plain_ttl_s is not None:
                fair = (*fair, Status.EXPIRED)
            self.need(reply.status in fair, f"G4: {job.token} ended with {reply.status.name}: {reply.body!r}")

    def _answer_is_own(self, token: str, body: bytes) -> None:
        answered, worker, task = bytes(body).decode().split(";")
        self.need(answered == token, f"G1: {token} got the answer of {answered}, from {worker}")
        attempt = self.attempts[int(task)]
        self.need(attempt.has_run, f"G4: {token} has an answer, but no handler ran")
        self.need(attempt.is_accepted, f"G4: {token} ended with the answer of attempt {task}, which was void")

    def in_pool(self, task: int) -> None:
        if task in self.attempts:
            self.attempts[task].is_in_pool = True

    def begun(self, task: int, token: str) -> None:
        attempt = self.attempts.get(task)
        if attempt is not None:
            self.need(attempt.token == token, f"G1: task {task} is {attempt.token}, its body is {token}'s")
            attempt.began_at = self.world.now
            attempt.is_in_pool = True

    def ran(self, task: int) -> None:
        if task in self.attempts:
            self.attempts[task].has_run = True

    def died(self, task: int) -> None:
        """The process that ran ``task`` died of it or with it."""
        attempt = self.attempts.get(task)
        if attempt is not None and attempt.void != "returned":
            attempt.has_died = True

    # --- the network and the broker's process

    def lost(self, parcel: Parcel, why: str) -> None:
        """What is lost on the way: CBW/1 makes up for it, the lab's dialects cannot."""
        if isinstance(parcel, PlainRequest | PlainReply):
            self.excuse(parcel.token, why)
        elif isinstance(parcel, PlainReady):
            for worker in self.plain_workers:
                if worker.name == parcel.worker:
                    worker.is_orphan = True
        elif isinstance(parcel, PlainTask | PlainAnswer):
            # The broker cannot know that, so it gives the worker its time to answer before it looks for it.
            task = parcel.task if isinstance(parcel, PlainTask) else int(parcel.body.rpartition(b";")[2])
            connection = self.attempts[task].connection
            if connection is not None:
                connection.link.process.disturbed(self.world.now + self.plan.limits.answer_timeout_s)

    def excuse(self, token: str, why: str) -> None:
        """The plain request ``token`` may never end."""
        if token not in self._excused:
            self.world.say("checker", f"{token} may be lost: {why}")
            self._excused[token] = why

    def is_excused(self, token: str) -> bool:
        return token in self._excused

    def broker_died(self) -> None:
        for request, accepted in self.accepted.items():
            if request in self._plain_tokens:
                self.excuse(accepted.token, "the broker died")
        for client in self.broker.core.clients.values():
            for plain_id in client.kept if client.is_plain else ():
                self.excuse(self._plain_tokens[plain_id], "the broker died")
        for parked in self.broker.parked():
            self.excuse(self.plain_reply(parked), "the broker died")
        self.accepted.clear()
        self._plain_tokens.clear()
        self._plain_tasks.clear()
        self._waiting_since.clear()
        self._heads.clear()
        for worker in self.plain_workers:
            worker.broker_died()

    def undelivered(self, facts: list[e.Event]) -> None:
        """Plain replies that nobody will get: the broker ends, or their clients are gone and had no names."""
        for fact in facts:
            if isinstance(fact, e.ReplyUndelivered):
                self.excuse(self._plain_tokens[fact.answer.id], "its reply could not be delivered")

    def facts(self, facts: list[e.Event]) -> None:
        """About to be told to the core."""
        plain_id = self.broker.core._clients.next_plain_id
        self._unread.clear()
        asked: dict[int, float | None] = {}
        for fact in facts:
            if isinstance(fact, e.ClientSaid):
                for message in fact.messages:
                    if isinstance(message, m.Request) and message.id not in asked:  # the second only joins the first
                        asked[message.id] = message.ttl
            elif isinstance(fact, e.PlainClientSaid):
                token = read_body(fact.body)[0]
                self._plain_tokens[plain_id] = token
                self._ttl[plain_id] = self.plan.limits.plain_ttl_s
                plain_id += 1
            elif isinstance(fact, e.ReplyUndelivered):
                if fact.peer[:1] == b"\0":
                    self.undelivered([fact])
            elif isinstance(fact, e.PeerUnread):
                self._unread[fact.peer] = None
        self._ttl.update(asked)

    def tasks_sent(self, messages: list[m.Message], connection: Connection) -> None:
        for message in messages:
            if isinstance(message, m.Task):
                self.attempts[message.id].connection = connection

    def plain_task(self, order: e.SendPlainTask, connection: Connection | None) -> int:
        task = self._plain_tasks[id(order)][1]
        self.attempts[task].connection = connection
        self.attempts[task].is_acquainted = connection is not None and connection.has_spoken
        return task

    def plain_reply(self, order: e.SendPlainReply) -> str:
        return self._plain_tokens.get(order.answer.id, "")

    def step(self, facts: list[e.Event], orders: list[e.Event]) -> None:
        """The core has decided."""
        core = self.broker.core
        for record in core.records:
            self._record(record)
        core.records.clear()
        for order in orders:
            if isinstance(order, e.SendToClient):
                self._to_client(order)
            elif isinstance(order, e.SendPlainReply):
                self._to_plain_client(order)
            elif isinstance(order, e.SendPlainTask):
                self._plain_tasks[id(order)] = (order, next(iter(core.workers[order.peer].in_hand)))
            elif isinstance(order, e.SendToWorker):
                for message in order.messages:
                    if isinstance(message, m.Task):
                        attempt = self.attempts[message.id]
                        self.need(read_body(message.body)[0] == attempt.token, f"G1: wrong body in task {message.id}")
                        self.need(message.ttl is None or message.ttl > 0, f"G6: {attempt.token} had no time left")
        self._steps += 1
        if self._steps % (1 + core.requests // 16) == 0 or any(isinstance(fact, e.PeerLost) for fact in facts):
            self.check()

    def check(self) -> None:
        """The core's own idea of a sane state, and the limits (G2, G4, G9); nothing waits past its deadline (G6)."""
        core, limits, now = self.broker.core, self.plan.limits, self.world.now
        core.check()
        self.need(
            core.requests == len(self.accepted), f"G4: {core.requests} requests, {len(self.accepted)} in the trace"
        )
        plain = len(self.plan.plain_clients)
        slack = limits.requests_max + self.plan.turn_messages if plain else 0
        self.need(core.requests <= limits.requests_max + slack, f"G9: {core.requests} requests")
        slack = limits.requests_bytes_max + 50_000 * self.plan.turn_messages if plain else 0
        self.need(core.requests_bytes <= limits.requests_bytes_max + slack, f"G9: {core.requests_bytes} bytes")
        self.need(core.kept_bytes <= limits.kept_bytes_max, f"G9: {core.kept_bytes} bytes of answers are kept")
        if not self.broker.is_disturbed:
            for accepted in self.accepted.values():
                is_waiting = not accepted.attempts or accepted.attempts[-1].void
                is_late = accepted.deadline_at is not None and accepted.deadline_at < now - LATE_S
                self.need(not (is_waiting and is_late), f"G6: {accepted.token} waits past its deadline")

    # --- the broker's trace

    def _record(self, record: e.Record) -> None:
        now = self.world.now
        if not record.request or record.event == "refused":
            return
        request = int(record.request.rpartition("/")[2])
        if record.event == "answer_dropped":
            if request in self._plain_tokens:
                self.excuse(self._plain_tokens[request], "its answer was dropped")
            return
        if record.event == "accepted":
            self.need(request not in self.accepted, f"G4: {record.request} was accepted twice")
            is_plain = request in self._plain_tokens
            token = self._plain_tokens[request] if is_plain else self._asked[request][0]
            has_room = is_plain or len(self.accepted) < self.plan.limits.requests_max
            self.need(has_room, f"G9: {token} was accepted over the limit")
            ttl = self._ttl[request]
            self.accepted[request] = Accepted(token, None if ttl is None else now + ttl, now)
            return
        accepted = self.accepted.get(request)
        if accepted is None:
            raise ViolationError(f"G4: {record.event} for {record.request}, which is not in the broker")
        if record.event == "handed_out":
            self._handed_out(record, request, accepted)
        elif record.event == "returned":
            attempt = accepted.attempts[-1]
            self.need(attempt.task == record.task and not attempt.void, f"G4: task {record.task} returned twice")
            attempt.void = "returned"
        elif record.event == "attempt_failed":
            self._attempt_failed(record, accepted)
        else:
            del self.accepted[request]
            if record.event in ("answered", "failed"):
                attempt = accepted.attempts[-1]
                is_live = attempt.task == record.task and not attempt.void
                self.need(is_live, f"G4: {accepted.token} ended with the answer of a void attempt, {record.task}")
                attempt.is_accepted = True
            elif record.event == "gave_up":
                self._gave_up(accepted)
            elif record.event == "expired":
                self.need(
                    accepted.deadline_at is not None and accepted.deadline_at <= now,
                    f"G6: {accepted.token} expired before its deadline",
                )
            elif record.event == "cancelled" and request in self._plain_tokens:
                self._plain_cancelled(accepted.token, record.text)

    def _plain_cancelled(self, token: str, why: str) -> None:
        client = self.plain_clients.get(token.partition("/")[0])
        is_there = client is not None and client.link.is_connected and why.startswith("away")
        self.need(not is_there, f"G4: {token} was cancelled ({why}), but its client is connected and waits")
        self.excuse(token, why)

    def _handed_out(self, record: e.Record, request: int, accepted: Accepted) -> None:
        now, token = self.world.now, accepted.token
        is_in_time = accepted.deadline_at is None or accepted.deadline_at > now
        self.need(
            is_in_time, f"G6: {token} was handed out {now - (accepted.deadline_at or 0):.3f} s after its deadline"
        )
        is_free = not accepted.attempts or accepted.attempts[-1].void
        self.need(bool(is_free), f"G4: {token} was handed out, but an attempt lives")
        died = sum(attempt.has_died for attempt in accepted.attempts)
        self.need(
            died < self.plan.limits.attempts_max, f"G5: {token} was handed out again after {died} workers died of it"
        )
        self.need(record.task not in self.attempts, f"G4: task {record.task} was given twice")
        for service in self._services.get(record.worker, ()) if record.attempt == 1 else ():
            head = self._heads.get(service)
            if head is not None and head in self.accepted and self.accepted[head].at < accepted.at - SAMPLE_S:
                self._overtaken[head] += self._overtaken_at.get(head) != now
                self._overtaken_at[head] = now
        attempt = self.attempts[record.task] = Attempt(record.task, request, token, now)
        accepted.attempts.append(attempt)

    def _attempt_failed(self, record: e.Record, accepted: Accepted) -> None:
        attempt = accepted.attempts[-1]
        self.need(attempt.task == record.task and not attempt.void, f"G5: task {record.task} failed twice")
        attempt.void = "failed"
        self.need(
            self._is_fair(attempt), f"G5: {attempt.token}: attempt {record.task} counts, but {record.text!r} is not so"
        )
        connection = attempt.connection
        attempt.is_excused = connection is None or connection.link.process.is_frozen

    def _is_fair(self, attempt: Attempt) -> bool:
        """Whether there is a reason to take the attempt for failed."""
        now, connection = self.world.now, attempt.connection
        if attempt.has_died:
            return True
        if connection is None:
            return self.plan.queue_max < 1000  # it waited in the shell for a peer that does not read
        link = connection.link
        if isinstance(link.process, PlainWorker) and not attempt.is_acquainted:
            return True  # given to a successor with the same identity before it could register
        if connection.is_lost or not link.process.is_alive or connection.socket != link.socket:
            return True
        if connection.peer in self._unread:
            return True
        if isinstance(link.process, PlainWorker):
            return now - attempt.handed_at >= self.plan.limits.answer_timeout_s - 1e-6
        return now - connection.heard_at >= self.plan.limits.liveness_s - 1e-6

    def _gave_up(self, accepted: Accepted) -> None:
        """G5: as often as is allowed, and of those that did nothing, at most one was only near to one that did."""
        failed = [attempt for attempt in accepted.attempts if attempt.void == "failed"]
        attempts_max = self.plan.limits.attempts_max
        self.need(len(failed) == attempts_max, f"G5: {accepted.token} was given up after {len(failed)} attempts")
        self.world.counts["given up"] += 1
        if self.jobs[accepted.token].kind in EVIL:
            return
        self.world.counts["innocents given up"] += 1
        idle = [a.task for a in failed if a.is_in_pool and a.began_at is None and not a.is_excused]
        self.need(len(idle) <= 1, f"G5: {accepted.token} is innocent and was given up; attempts {idle} never began")

    def _to_client(self, order: e.SendToClient) -> None:
        connection = self.broker.clients.connection_of(order.peer)
        for message in order.messages:
            if isinstance(message, m.Answer) and connection is not None:
                token, _, client = self._asked[message.id]
                self.need(connection.link is client.link, f"G1: the answer for {token} was sent to another client")
                if message.status is Status.OK:
                    self._answer_is_own(token, message.body)

    def _to_plain_client(self, order: e.SendPlainReply) -> None:
        token = self.plain_reply(order)
        connection = self.broker.clients.connection_of(order.peer)
        if connection is not None:
            self.need(
                token.startswith(connection.link.process.name + "/"),
                f"G1: the reply for {token} was sent to {connection.link.process.name}",
            )
        if order.answer.status is Status.OK:
            self._answer_is_own(token, order.answer.body)

    # --- G2 on the wire

    @property
    def allowance_s(self) -> float:
        """How long a request may wait beside an idle worker: a recall there and back, and it is handed out."""
        return 0.15 + 10 * self.network.slowest_s

    def sample(self) -> None:
        """G2: no worker is idle, as itself sees it, while a request that it could serve waits."""
        now, broker, allowance_s = self.world.now, self.broker, self.allowance_s
        calm_s = 2 * allowance_s
        if not broker.is_alive or broker.core.is_stopping or now - broker.settled_at < calm_s:
            self._waiting_since.clear()
            self._heads.clear()
            return

        def is_calm(worker: Peer) -> bool:
            connection = worker.link.connection
            if connection is None or connection.is_lost or not worker.is_alive:
                return False
            known = broker.core.workers.get(connection.peer)
            if known is not None and state_of(known) == "late":
                worker.disturbed()  # a lab worker's answer did not come, so it is left in peace
            return now - worker.settled_at > calm_s

        idle: dict[str, SimWorker | PlainWorker] = {}
        servers: list[SimWorker | PlainWorker] = [*self.workers, *self.plain_workers]
        for worker in servers:
            if isinstance(worker, PlainWorker) and worker.is_orphan:
                continue
            if worker.idle_since is not None and now - worker.idle_since > allowance_s and is_calm(worker):
                for service in worker.services:
                    idle[service] = worker
        waiting: dict[int, float] = {}
        for request, service in self._waiting(is_calm):
            since = waiting[request] = self._waiting_since.get(request, now)
            if service in idle and now - since > allowance_s:
                accepted = self.accepted[request]
                raise ViolationError(
                    f"G2: {accepted.token} has waited for {now - since:.3f} s while {idle[service].name} is idle; its "
                    f"attempts: {[(a.task, a.void) for a in accepted.attempts]}"
                )
        self._waiting_since = waiting
        self._nobody_starves()
        self._nobody_is_trusted_for_ever()

    def _nobody_is_trusted_for_ever(self) -> None:
        """G3: a silent worker is taken for lost, and a lab worker that does not answer for late."""
        limits, now = self.plan.limits, self.world.now
        for worker in self.broker.core.workers.values():
            connection = self.broker.workers.connection_of(worker.peer)
            if connection is not None and not worker.is_plain:
                silent_s = now - connection.heard_at
                self.need(silent_s < limits.liveness_s + SLOW_S, f"G3: {worker.name} is silent since {silent_s:.3f} s")
            elif worker.is_plain and worker.in_hand:
                late_s = now - next(iter(worker.in_hand.values())).handed_out_at
                self.need(late_s < limits.answer_timeout_s + SLOW_S, f"G3: {worker.name} has had {late_s:.3f} s")

    def _nobody_starves(self) -> None:
        """A worker of several services does not forget one of them."""
        core = self.broker.core
        heads: dict[str, int] = {}
        for service in core._dispatcher.services.values():
            head = next((entry for entry in service.waiting if entry.state is not State.ENDED), None)
            if head is not None and service.workers:
                heads[service.name] = head.request.id
        for name, request in heads.items():
            if self._heads.get(name) != request:
                self._overtaken[request] = 0
            count = self._overtaken[request]
            self.need(count < OVERTAKEN_MAX, f"G2: {self.accepted[request].token} was overtaken {count} times")
        self._heads = heads
        self._services = {worker.name: [s.name for s in worker.services] for worker in core.workers.values()}

    def _waiting(self, is_calm: Callable[[Peer], bool]) -> list[tuple[int, str]]:
        """The requests that have not begun: in the broker's queues, or with a worker that nothing has disturbed."""
        core = self.broker.core
        found = [
            (entry.request.id, service.name)
            for service in core._dispatcher.services.values()
            for entry in (*service.waiting, *service.suspects)
            if entry.state is not State.ENDED
        ]
        for worker in core.workers.values():
            connection = self.broker.workers.connection_of(worker.peer)
            if worker.is_plain or connection is None or connection.link.connection is not connection:
                continue
            if not is_calm(connection.link.process):
                continue
            for task, entry in worker.in_hand.items():
                if entry.state is not State.ENDED and self.attempts[task].began_at is None:
                    found.append((entry.request.id, entry.request.service))
        return found
