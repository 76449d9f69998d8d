"""Planted bugs of the broker's driver, part by part. Importing this adds them to the other canaries."""

from __future__ import annotations

from typing import Any

from cbw.core.broker.backlog import Backlog
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import Event, Side, WorkerSaid
from cbw.wire import dialects

from .canary import Patch, canary, clients_that_do_not_read
from .plan import Plan


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


@canary("", clients_that_do_not_read)
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
    clients_that_do_not_read(plan)
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
