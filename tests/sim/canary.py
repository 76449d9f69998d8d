"""Planted bugs: each breaks a promise in the real cores, and the checker has to notice within some seeds.

A simulation that finds nothing may be blind. Most of these bugs were there once, and were found by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import msgspec

import cbw.core.broker.dispatch
import cbw.core.broker.req_workers
import tests.sim.checker
from cbw.core import catalogue, messages
from cbw.core.broker import events
from cbw.core.broker.clients import Clients
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.parked_replies import ParkedReplies
from cbw.core.broker.refusals import Refusals
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import Change, RequestState
from cbw.core.broker.tables import ClientRow, Entry, WorkerRow
from cbw.core.broker.worker_table import WorkerTable
from cbw.core.broker.workers import Workers
from cbw.core.client import events as client_events
from cbw.core.client.core import ClientCore
from cbw.core.plain_messages import Envelope
from cbw.core.worker import events as worker_events
from cbw.core.worker.core import WorkerCore

from .plan import Plan

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


def clients_that_do_not_read(plan: Plan) -> None:
    """They are frozen now and then, and their connections have room for two messages."""
    plan.queue_max = 2
    plan.faults_s = 12.0
    plan.rates = {"client freeze": 0.5}
    plan.limits = msgspec.structs.replace(plan.limits, requests_max=1000, requests_bytes_max=1 << 20)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s = None


@canary("stuck", clients_that_do_not_read)
def unread_clients_are_not_told() -> list[Patch]:
    """A client that did not read for long does not learn that answers were dropped."""

    def only_lost(self: Clients, fact: events.PeerUnread) -> None:
        self.lost(fact.peer)

    return [(Clients, "unread", only_lost)]


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
