"""Planted bugs: each breaks a promise in the real cores, and the checker has to notice within some seeds.

A simulation that finds nothing may be blind. Most of these bugs were there once, and were found by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import msgspec

import cbw.core.broker.dispatch
import cbw.core.broker.req_workers
import tests.sim.checker
from cbw.core import catalogue, messages
from cbw.core.broker import events
from cbw.core.broker.backlog import Backlog
from cbw.core.broker.clients import Clients
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import Event, Side, WorkerSaid
from cbw.core.broker.parked_replies import ParkedReplies
from cbw.core.broker.refusals import Refusals
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import Change, RequestState
from cbw.core.broker.tables import ClientRow, Entry, ServiceRow, WorkerRow
from cbw.core.broker.worker_table import WorkerTable
from cbw.core.broker.workers import Workers
from cbw.core.client import events as client_events
from cbw.core.client.core import ClientCore
from cbw.core.plain_messages import Envelope
from cbw.core.worker import events as worker_events
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver
from cbw.wire import dialects

from .plan import Plan, WorkerPlan

Patch = tuple[Any, str, Any]


@dataclass
class Canary:
    """``promise`` is how the violation must begin; ``bend`` makes the circumstances likely in which the bug shows."""

    promise: str
    plant: Callable[[], list[Patch]]
    bend: Callable[[Plan], None]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is there."""
        patches = [patch.object(owner, attribute, value) for owner, attribute, value in self.plant()]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()


CANARIES: dict[str, Canary] = {}
Plant = Callable[[], list[Patch]]


def bend_nothing(plan: Plan) -> None:
    """Any circumstances will do."""


def canary(promise: str, bend: Callable[[Plan], None] = bend_nothing) -> Callable[[Plant], Plant]:
    """Decorator: register a planted bug under the name of the function, which says what is to be changed."""

    def register(plant: Plant) -> Plant:
        CANARIES[plant.__name__] = Canary(promise, plant, bend)
        return plant

    return register


def without_check(*patches: Patch) -> list[Patch]:
    """The core's own :func:`~cbw.core.broker.check.check` would notice these at once; so would the rest have to."""
    return [*patches, (tests.sim.checker, "check", lambda core: None)]


# --- G1


@canary("G1")
def replies_to_somebody_else() -> list[Patch]:
    """Now and then an answer goes to another client."""
    tell = Requests.tell

    def wrong(self: Requests, client: ClientRow, envelope: Envelope, answer: messages.Answer, number: int = 0) -> None:
        others = [
            other for entry in queued(self) if (other := entry.client) is not client and other.dialect.has_sessions
        ]
        if others and client.dialect.has_sessions and answer.id % 7 == 0:
            tell(self, others[0], envelope, answer, number)
        else:
            tell(self, client, envelope, answer, number)

    def queued(requests: Requests) -> list[Entry]:
        return [entry for service in requests.dispatcher.services.values() for entry in service.waiting]

    return [(Requests, "tell", wrong)]


def _lost_lab_workers(plan: Plan) -> None:
    plan.rates.update({"connection": 1.0, "plain worker freeze": 0.5, "partition": 0.5})


@canary("G", _lost_lab_workers)
def owed_answers_are_taken_for_new_ones() -> list[Patch]:
    """A lab worker that comes back with the answer to an earlier task is believed to answer the one it has just got."""

    def frame(worker: WorkerRow, entry: Entry) -> bytes:
        return entry.client.name.encode() if entry.client.dialect.has_sessions else entry.client.peer

    return [(cbw.core.broker.req_workers, "client_frame", frame)]


# --- G2


def _quick_then_slow(plan: Plan) -> None:
    plan.workers = [replace(worker, speed=1.0) for worker in plan.workers]
    for client in plan.clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.work_s = 3.0 if number % 20 == 19 else 0.0002


@canary("G2", _quick_then_slow)
def recalls_are_dropped() -> list[Patch]:
    """Nothing is ever asked back."""

    return [(Dispatcher, "_recall", lambda self, now: None)]


@canary("G2", _quick_then_slow)
def recalls_are_not_answered() -> list[Patch]:
    """The worker keeps what it was asked back."""
    arrived = WorkerCore._batch_arrived

    def deaf(self: WorkerCore, fact: worker_events.BatchArrived, now: float) -> None:
        heard = [message for message in fact.messages if type(message) is not messages.Recall]
        arrived(self, worker_events.BatchArrived(heard), now)

    return [(WorkerCore, "_batch_arrived", deaf)]


@canary("", _quick_then_slow)
def what_a_pool_gives_back_at_once_is_not_told() -> list[Patch]:
    """The worker's driver takes tasks back from the pool, and the core never hears of it."""
    carry_out = WorkerDriver._carry_out

    def mute(self: WorkerDriver, order: worker_events.Order) -> worker_events.Fact | None:
        outcome = carry_out(self, order)
        return None if isinstance(outcome, worker_events.TasksReturned) else outcome

    return [(WorkerDriver, "_carry_out", mute)]


def _silent_brokers(plan: Plan) -> None:
    plan.rates = {"partition": 1.0, "broker freeze": 0.5}


@canary("stuck", _silent_brokers)
def reconnections_that_failed_are_not_tried_again() -> list[Patch]:
    """A worker that had no file descriptors left for a new connection goes on without one."""
    carry_out = WorkerDriver._carry_out

    def hopeful(self: WorkerDriver, order: worker_events.Order) -> worker_events.Fact | None:
        outcome = carry_out(self, order)
        return None if isinstance(outcome, worker_events.ReconnectFailed) else outcome

    return [(WorkerDriver, "_carry_out", hopeful)]


@canary("", _quick_then_slow)
def returned_tasks_are_lost() -> list[Patch]:
    """What a worker gives back is forgotten."""

    def forget(self: Requests, worker: WorkerRow, tasks: list[int]) -> None:
        for task in tasks:
            worker.in_hand.pop(task, None)

    return without_check((Requests, "return_tasks", forget))


def _lost_workers_with_long_work(plan: Plan) -> None:
    plan.rates.update({"connection": 1.0})
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs[::5]:
                job.work_s = 4.0


@canary("G", _lost_workers_with_long_work)
def handlers_left_over_are_forgotten() -> list[Patch]:
    """A worker that says hello again wants as much as if its handlers had not still something to do."""
    return [(WorkerCore, "_credit_wanted", lambda self: 0 if self.is_leaving else self.credit)]


@canary("")
def free_workers_are_overlooked() -> list[Patch]:
    """A worker that has answered everything is not seen to be free, one time in five."""
    place = Dispatcher.place
    count = [0]

    def lazy(self: Dispatcher, worker: WorkerRow) -> None:
        count[0] += not worker.in_hand
        if worker.in_hand or count[0] % 5:
            place(self, worker)

    return without_check((Dispatcher, "place", lazy))


def _one_worker_for_everything(plan: Plan) -> None:
    plan.workers = [WorkerPlan("W0", ["", "a", "b"], concurrency=1, speed=1.0)]
    plan.plain_workers.clear()
    for client in plan.clients:
        for number, (_, jobs) in enumerate(client.bursts):
            for job in jobs:
                job.service, job.work_s = ("a", "b")[number % 2], 0.05


@canary("G2", _one_worker_for_everything)
def one_service_comes_first() -> list[Patch]:
    """A worker of several services serves one of them as long as that has something to do."""
    return [(cbw.core.broker.dispatch, "_waits_since", lambda service: -ord(service.name[:1] or "0"))]


# --- G3, G4


def _frozen_workers(plan: Plan) -> None:
    plan.rates.update({"worker freeze": 1.0})


@canary("G3", _frozen_workers)
def silence_is_not_noticed() -> list[Patch]:
    """Nobody looks for workers that say nothing."""

    return [(Workers, "sweep", lambda self, now: None)]


@canary("G4")
def late_answers_are_not_fenced() -> list[Patch]:
    """The answer of a void attempt ends its request, if that still waits."""
    said = Workers.said
    remove = WorkerTable.remove
    void: dict[int, Entry] = {}

    def remember(self: WorkerTable, worker: WorkerRow, why: str, **options: Any) -> None:
        void.update(worker.in_hand)
        remove(self, worker, why, **options)

    def believe(self: Workers, fact: events.WorkerSaid) -> None:
        for message in fact.messages:
            if type(message) is messages.Answer and message.status is messages.Status.OK:
                entry = void.pop(message.id, None)
                if entry is not None and entry.state in (RequestState.WAITING, RequestState.SUSPECT):
                    self._requests.end(
                        entry,
                        Change.CANCELLED,
                        messages.Answer(0, messages.Status.OK, message.body),
                        catalogue.ANSWERED,
                    )
        said(self, fact)

    return [(WorkerTable, "remove", remember), (Workers, "said", believe)]


@canary("")
def tasks_of_lost_workers_are_lost() -> list[Patch]:
    """They are not put back."""

    def forget(self: Requests, worker: WorkerRow, why: str) -> None:
        worker.in_hand.clear()
        worker.suspect = None

    return without_check((Requests, "fail_all", forget), (Requests, "return_all", forget))


@canary("")
def hello_again_is_ignored() -> list[Patch]:
    """A worker that the broker has forgotten does not introduce itself again."""
    arrived = WorkerCore._batch_arrived

    def deaf(self: WorkerCore, fact: worker_events.BatchArrived, now: float) -> None:
        heard = [message for message in fact.messages if type(message) is not messages.HelloAgain]
        arrived(self, worker_events.BatchArrived(heard), now)

    return [(WorkerCore, "_batch_arrived", deaf)]


@canary("stuck")
def requests_are_not_sent_again() -> list[Patch]:
    """After a lost connection a client does not send what is in flight."""
    say_hello = ClientCore._say_hello

    def short(self: ClientCore, now: float) -> None:
        say_hello(self, now)
        if self.has_met_broker:
            del self._to_send[1:]

    return [(ClientCore, "_say_hello", short)]


def _narrow_connections(plan: Plan) -> None:
    plan.rates = {"partition": 1.0}
    for client in plan.clients:
        client.queue_max = 1
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s = None


@canary("stuck", _narrow_connections)
def what_a_client_could_not_send_is_forgotten() -> list[Patch]:
    """A client does not send again what its connection had no room for."""
    happened = ClientCore._happened

    def forget(self: ClientCore, fact: client_events.Fact, now: float) -> None:
        if not isinstance(fact, client_events.Unsent):
            happened(self, fact, now)

    return [(ClientCore, "_happened", forget)]


@canary("stuck", _narrow_connections)
def what_a_client_could_not_send_is_overtaken() -> list[Patch]:
    """A client sends other things before what its connection had no room for, also the news that nobody wants it."""
    step = ClientCore.step

    def hurry(self: ClientCore, facts: list[client_events.Fact], now: float) -> list[client_events.Order]:
        unsent, self._unsent = self._unsent, []
        orders = step(self, facts, now)
        self._unsent = [*unsent, *self._unsent]
        return orders

    return [(ClientCore, "step", hurry)]


def _clients_that_do_not_read(plan: Plan) -> None:
    plan.queue_max = 2
    plan.faults_s = 12.0
    plan.rates = {"client freeze": 0.5}
    plan.limits = msgspec.structs.replace(plan.limits, requests_max=1000, requests_bytes_max=1 << 20)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s = None


@canary("stuck", _clients_that_do_not_read)
def unread_clients_are_not_told() -> list[Patch]:
    """A client that did not read for long does not learn that answers were dropped."""

    def only_lost(self: Clients, fact: events.PeerUnread) -> None:
        self.lost(fact.peer)

    return [(Clients, "unread", only_lost)]


# --- G5


@canary("G5")
def attempts_count_twice() -> list[Patch]:
    """Each failure is two."""
    fail = Requests._attempt_failed

    def double(self: Requests, entry: Entry, worker: WorkerRow, why: str) -> None:
        entry.attempt += 1
        fail(self, entry, worker, why)

    return [(Requests, "_attempt_failed", double)]


@canary("G5")
def attempts_never_count() -> list[Patch]:
    """A request may take workers down for ever."""
    fail = Requests._attempt_failed

    def forgive(self: Requests, entry: Entry, worker: WorkerRow, why: str) -> None:
        entry.attempt = 0
        fail(self, entry, worker, why)

    return [(Requests, "_attempt_failed", forgive)]


@canary("G5", _quick_then_slow)
def returned_tasks_are_blamed() -> list[Patch]:
    """An attempt that has not begun counts."""
    return [(Requests, "returned", lambda self, entry, worker, why: self._attempt_failed(entry, worker, why))]


def _poison_among_quick_requests(plan: Plan) -> None:
    for client in plan.clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.work_s, job.kind = 0.0002, "die" if number % 30 == 10 else ""
    plan.workers = [replace(worker, is_sheltered=False) for worker in plan.workers]


@canary("G", _poison_among_quick_requests)
def suspects_travel_in_company() -> list[Patch]:
    """What may have taken a worker down is sent out in batches, together with what was only near to it."""

    def serve(self: Dispatcher, service: ServiceRow, now: float) -> None:
        while service.waiting_count and (service.free or service.prefetching):
            worker = next(iter(service.free or service.prefetching))
            room = max(1, worker.credit - len(worker.in_hand))
            suspects = [entry for entry in service.suspects if entry.state is RequestState.SUSPECT]
            service.suspects, service.dead_suspects = type(service.suspects)(suspects[room:]), 0
            self._give(worker, suspects[:room] or service.waiting.take(room, now), now)

    return without_check((Dispatcher, "_serve_suspects", serve), (Dispatcher, "_serve", serve))


def _hellos_while_the_broker_is_frozen(plan: Plan) -> None:
    plan.turn_messages = 1
    plan.rates = {"broker freeze": 1.0, "worker crash": 2.0}
    plan.limits = msgspec.structs.replace(plan.limits, requests_max=1000, requests_bytes_max=1 << 20)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.work_s = 0.3


@canary("G5", _hellos_while_the_broker_is_frozen)
def second_hellos_are_blamed() -> list[Patch]:
    """Attempts count although the worker lives: it only said hello twice before it was welcomed."""
    remove = WorkerTable.remove

    def blame(self: WorkerTable, worker: WorkerRow, why: str, *, is_blamed: bool = True) -> None:
        remove(self, worker, why, is_blamed=is_blamed or why == "said hello again")

    return [(WorkerTable, "remove", blame)]


# --- G6


@canary("G6")
def deadlines_are_not_looked_at() -> list[Patch]:
    """What has expired is handed out."""
    add = Dispatcher.add

    def endless(self: Dispatcher, entry: Entry) -> None:
        entry.deadline_at = None
        add(self, entry)

    return [(Dispatcher, "add", endless)]


# --- G9


@canary("G9")
def limits_are_ignored() -> list[Patch]:
    """Everything is accepted."""
    return [(Refusals, "why", lambda self, client, request, size: None)]


def _hurried_clients_that_come_and_go(plan: Plan) -> None:
    plan.rates = {"connection": 2.0}
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.work_s, job.ttl_s, job.delay_s = 0.1, 0.5, 0.0


@canary("leak", _hurried_clients_that_come_and_go)
def unwanted_answers_are_kept() -> list[Patch]:
    """What was kept for a client that has come back, and does not ask for it, stays."""
    back = Clients._back

    def keep(self: Clients, client: ClientRow) -> None:
        back(self, client)
        self._returned.clear()

    return [(Clients, "_back", keep)]


def _clients_that_are_often_away(plan: Plan) -> None:
    plan.rates = {"connection": 3.0}
    plan.limits = msgspec.structs.replace(plan.limits, parked_bytes_max=600)


@canary("G9", _clients_that_are_often_away)
def answers_are_kept_without_end() -> list[Patch]:
    """However many wait for clients that are away, all are kept."""

    def hoard(self: ParkedReplies, *args: Any, **options: Any) -> None:
        self._bytes_max = 1 << 60
        park(self, *args, **options)

    park = ParkedReplies.park
    return without_check((ParkedReplies, "park", hoard))


@canary("", _clients_that_are_often_away)
def dropped_answers_are_not_told() -> list[Patch]:
    """An answer that there is no room for vanishes in silence."""

    def silent(self: ParkedReplies) -> None:
        self.drop((oldest := next(iter(self._all))).client, (oldest.answer.id,))

    return [(ParkedReplies, "_drop_oldest", silent)]


# --- the driver, part by part


def lab_twins(plan: Plan) -> None:
    plan.rates = {"plain client twin": 3.0, "plain client crash": 0.3, "connection": 0.5, "broker stop": 1.0}


@canary("G1", lab_twins)
def uncertain_identities_are_trusted() -> list[Patch]:
    """A reply goes to whoever has the identity, though another program may just have taken it."""
    return [(Driver, "_with_uncertain", lambda self, facts: facts)]


@canary("")
def undelivered_messages_are_forgotten() -> list[Patch]:
    """The core is not told what could not be sent: the step is not repeated."""
    carry_out = Driver._carry_out

    def once(self: Driver, orders: list[Event]) -> list[Event]:
        carry_out(self, orders)
        return []

    return [(Driver, "_carry_out", once)]


@canary("", _clients_that_do_not_read)
def what_a_full_peer_does_not_take_is_dropped() -> list[Patch]:
    """There is no backlog."""

    def send(self: Driver, side: Side, order: Any, undelivered: list[Event]) -> None:
        self._try_to_send(side, order, undelivered)

    return [(Driver, "_send", send)]


def _lab_only(plan: Plan) -> None:
    if plan.plain_workers:
        plan.workers.clear()
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.service = "" if plan.plain_workers else job.service


@canary("", _lab_only)
def dialects_are_forgotten() -> list[Patch]:
    """A REQ worker's answers are of no known dialect, as nobody remembers in which it registered, or sees it in them."""
    return [(Driver, "_remember", lambda self, peer, dialect: None), (dialects, "of_answer", lambda frames: None)]


@canary("G1", lab_twins)
def workers_are_heard_before_clients() -> list[Patch]:
    """An answer is taken in before the news that its client's identity has another owner now."""
    facts_of = Driver._facts

    def swapped(self: Driver) -> list[Event]:
        return sorted(facts_of(self), key=lambda fact: not isinstance(fact, WorkerSaid))

    return [(Driver, "_facts", swapped)]


def _clients_that_come_back_while_answers_wait(plan: Plan) -> None:
    _clients_that_do_not_read(plan)
    plan.batch_messages = 1
    plan.monitor_lag_s = 0.5
    plan.rates = {"client freeze": 1.0, "connection": 2.0}


@canary("G7", _clients_that_come_back_while_answers_wait)
def unsent_answers_are_not_found() -> list[Patch]:
    """A client that is back asks again for what waits for its old connection, and it is run again."""
    take_unsent = Driver._take_unsent
    return [
        (Driver, "_take_unsent", lambda self, side, peer: [] if side is Side.CLIENT else take_unsent(self, side, peer))
    ]


@canary("G7", _clients_that_come_back_while_answers_wait)
def waiting_answers_are_not_looked_at() -> list[Patch]:
    """A client asks again for what waits for its connection, and it is run again."""
    return [(Backlog, "messages_for", lambda self, side, peer: [])]
