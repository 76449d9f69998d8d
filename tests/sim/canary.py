"""Planted bugs: each breaks a promise in the real cores, and the checker has to notice within some seeds.

A simulation that finds nothing may be blind. Most of these bugs were there once, and were found by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import msgspec

import cbw.core.dispatch
import cbw.core.plain_workers
from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.broker import BrokerCore
from cbw.core.client import ClientCore
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.hands import Hands
from cbw.core.kept import Kept
from cbw.core.request import State
from cbw.core.tables import Client, Entry, Service, Worker
from cbw.core.worker import WorkerCore
from cbw.core.workers import Workers

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


def _without_check(*patches: Patch) -> list[Patch]:
    """The core's own :meth:`~BrokerCore.check` would notice these at once; so would the rest have to."""
    return [*patches, (BrokerCore, "check", lambda self: None)]


# --- G1


@canary("G1")
def replies_to_somebody_else() -> list[Patch]:
    """Now and then an answer goes to another client."""
    reply = Clients._reply

    def wrong(self: Clients, entry: Entry, answer: m.Answer) -> None:
        others = [client for client in self.by_peer.values() if client is not entry.client and not client.is_plain]
        if others and not entry.client.is_plain and entry.request.id % 7 == 0:
            answer.id = entry.request.id
            self._outbox.tell_client(others[0].peer, answer)
        else:
            reply(self, entry, answer)

    return [(Clients, "_reply", wrong)]


def _lost_lab_workers(plan: Plan) -> None:
    plan.rates.update({"connection": 1.0, "plain worker freeze": 0.5, "partition": 0.5})


@canary("G", _lost_lab_workers)
def owed_answers_are_taken_for_new_ones() -> list[Patch]:
    """A lab worker that comes back with the answer to an earlier task is believed to answer the one it has just got."""

    def frame(worker: Worker, entry: Entry) -> bytes:
        return entry.client.peer if entry.client.is_plain else entry.client.name.encode()

    return [(cbw.core.plain_workers, "_client_frame", frame)]


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

    def recall(self: Dispatcher, now: float) -> list[tuple[Worker, list[int]]]:
        self.recall_at = math.inf
        return []

    return [(Dispatcher, "recall", recall)]


@canary("G2", _quick_then_slow)
def recalls_are_not_answered() -> list[Patch]:
    """The worker keeps what it was asked back."""
    received = WorkerCore.received

    def deaf(self: WorkerCore, messages: list[m.Message], now: float) -> None:
        received(self, [message for message in messages if type(message) is not m.Recall], now)

    return [(WorkerCore, "received", deaf)]


@canary("", _quick_then_slow)
def returned_tasks_are_lost() -> list[Patch]:
    """What a worker gives back is forgotten."""

    def forget(self: Hands, worker: Worker, tasks: list[int]) -> None:
        for task in tasks:
            worker.in_hand.pop(task, None)

    return _without_check((Hands, "give_back", forget))


def _lost_workers_with_long_work(plan: Plan) -> None:
    plan.rates.update({"connection": 1.0})
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs[::5]:
                job.work_s = 4.0


@canary("G", _lost_workers_with_long_work)
def handlers_left_over_are_forgotten() -> list[Patch]:
    """A worker that says hello again wants as much as if its handlers had not still something to do."""
    return [(WorkerCore, "_credit_wanted", property(lambda self: 0 if self.is_leaving else self.credit))]


@canary("")
def free_workers_are_overlooked() -> list[Patch]:
    """A worker that has answered everything is not seen to be free, one time in five."""
    place = Dispatcher.place
    count = [0]

    def lazy(self: Dispatcher, worker: Worker) -> None:
        count[0] += not worker.in_hand
        if worker.in_hand or count[0] % 5:
            place(self, worker)

    return _without_check((Dispatcher, "place", lazy))


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
    return [(cbw.core.dispatch, "_oldest_at", lambda service: -ord(service.name[:1] or "0"))]


# --- G3, G4


def _frozen_workers(plan: Plan) -> None:
    plan.rates.update({"worker freeze": 1.0})


@canary("G3", _frozen_workers)
def silence_is_not_noticed() -> list[Patch]:
    """Nobody looks for workers that say nothing."""

    return [(Workers, "sweep", lambda self: None)]


@canary("G4")
def late_answers_are_not_fenced() -> list[Patch]:
    """The answer of a void attempt ends its request, if that still waits."""
    said = Workers.said
    remove = Hands.remove
    void: dict[int, Entry] = {}

    def remember(self: Hands, worker: Worker, why: str, **options: Any) -> None:
        void.update(worker.in_hand)
        remove(self, worker, why, **options)

    def believe(self: Workers, fact: e.WorkerSaid) -> None:
        for message in fact.messages:
            if type(message) is m.Answer and message.status is m.Status.OK:
                entry = void.pop(message.id, None)
                if entry is not None and entry.state in (State.WAITING, State.SUSPECT):
                    self._hands._clients.end(entry, r.CANCELLED, m.Answer(0, m.Status.OK, message.body), "answered")
        said(self, fact)

    return [(Hands, "remove", remember), (Workers, "said", believe)]


@canary("")
def tasks_of_lost_workers_are_lost() -> list[Patch]:
    """They are not put back."""

    def forget(self: Hands, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        worker.in_hand.clear()
        worker.suspect = None

    return _without_check((Hands, "fail_hand", forget))


@canary("")
def hello_again_is_ignored() -> list[Patch]:
    """A worker that the broker has forgotten does not introduce itself again."""
    received = WorkerCore.received

    def deaf(self: WorkerCore, messages: list[m.Message], now: float) -> None:
        received(self, [message for message in messages if type(message) is not m.HelloAgain], now)

    return [(WorkerCore, "received", deaf)]


@canary("stuck")
def requests_are_not_sent_again() -> list[Patch]:
    """After a lost connection a client does not send what is in flight."""
    say_hello = ClientCore._say_hello

    def short(self: ClientCore, now: float) -> None:
        say_hello(self, now)
        if self.has_met_broker:
            del self._out[1:]

    return [(ClientCore, "_say_hello", short)]


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

    def only_lost(self: Clients, fact: e.PeerUnread) -> None:
        self.lost(fact.peer)

    return [(Clients, "unread", only_lost)]


# --- G5


@canary("G5")
def attempts_count_twice() -> list[Patch]:
    """Each failure is two."""
    fail = Hands._fail

    def double(self: Hands, entry: Entry, worker: Worker, why: str) -> None:
        entry.attempt += 1
        fail(self, entry, worker, why)

    return [(Hands, "_fail", double)]


@canary("G5")
def attempts_never_count() -> list[Patch]:
    """A request may take workers down for ever."""
    fail = Hands._fail

    def forgive(self: Hands, entry: Entry, worker: Worker, why: str) -> None:
        entry.attempt = 0
        fail(self, entry, worker, why)

    return [(Hands, "_fail", forgive)]


@canary("G5", _quick_then_slow)
def returned_tasks_are_blamed() -> list[Patch]:
    """An attempt that has not begun counts."""
    return [(Hands, "_wait_again", lambda self, entry, worker, why: self._fail(entry, worker, why))]


def _poison_among_quick_requests(plan: Plan) -> None:
    for client in plan.clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.work_s, job.kind = 0.0002, "die" if number % 30 == 10 else ""
    plan.workers = [replace(worker, is_sheltered=False) for worker in plan.workers]


@canary("G", _poison_among_quick_requests)
def suspects_travel_in_company() -> list[Patch]:
    """What may have taken a worker down is sent out in batches, together with what was only near to it."""

    def serve(self: Dispatcher, service: Service, now: float) -> None:
        for queue in (service.suspects, service.waiting):
            while queue and (service.free or service.ahead):
                worker = next(iter(service.free or service.ahead))
                self._give(worker, service, queue, max(1, worker.credit - len(worker.in_hand)), now)

    return _without_check((Dispatcher, "_serve_suspects", serve), (Dispatcher, "_serve", serve))


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
    remove = Hands.remove

    def blame(self: Hands, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        remove(self, worker, why, is_blamed=is_blamed or why == "said hello again")

    return [(Hands, "remove", blame)]


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
    return [(Clients, "_refusal", lambda self, service, size: None)]


def _hurried_clients_that_come_and_go(plan: Plan) -> None:
    plan.rates = {"connection": 2.0}
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.work_s, job.ttl_s = 0.1, 0.5


@canary("leak", _hurried_clients_that_come_and_go)
def unwanted_answers_are_kept() -> list[Patch]:
    """What was kept for a client that has come back, and does not ask for it, stays."""
    back = Clients._back

    def keep(self: Clients, client: Client) -> None:
        back(self, client)
        self.returned.clear()

    return [(Clients, "_back", keep)]


def _clients_that_are_often_away(plan: Plan) -> None:
    plan.rates = {"connection": 3.0}
    plan.limits = msgspec.structs.replace(plan.limits, kept_bytes_max=600)


@canary("G9", _clients_that_are_often_away)
def answers_are_kept_without_end() -> list[Patch]:
    """However many wait for clients that are away, all are kept."""

    def hoard(self: Kept, client: Client, envelope: tuple[bytes, ...], answer: m.Answer) -> None:
        self._bytes_max = 1 << 60
        keep(self, client, envelope, answer)

    keep = Kept.keep
    return _without_check((Kept, "keep", hoard))


@canary("stuck", _clients_that_are_often_away)
def dropped_answers_are_not_told() -> list[Patch]:
    """An answer that there is no room for vanishes in silence."""

    def silent(self: Kept, client: Client, key: int) -> None:
        self.take(client, key)

    return [(Kept, "_drop", silent)]
