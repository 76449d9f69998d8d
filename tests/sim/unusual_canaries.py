"""Planted bugs in what few requests want, and in what is known of who has left. Importing this adds them to the others."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cbw.core.broker import looks
from cbw.core.broker.demands import Demands
from cbw.core.broker.impatience import Impatience
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import ClientRow
from cbw.core.broker.tickets import Tickets
from cbw.core.client.core import ClientCore
from cbw.core.messages import Request
from cbw.core.plain_messages import Envelope

from .canary import Patch, canary
from .plan import Plan


@canary("tickets")
def answers_of_tickets_are_kept_for_ever() -> list[Patch]:
    """Nobody looks how old they are."""
    return [(Tickets, "_expire", lambda tickets, now: None)]


@canary("G1")
def headers_are_lost() -> list[Patch]:
    """A request is taken on without them."""
    accept = Requests.accept

    def accept_bare(rooms: Requests, client: ClientRow, requests: Iterable[Request], envelope: Envelope = ()) -> None:
        bare = list(requests)
        for request in bare:
            request.headers = None
        accept(rooms, client, bare, envelope)

    return [(Requests, "accept", accept_bare)]


def _impatient(plan: Plan) -> None:
    plan.limits = msgspec.structs.replace(plan.limits, unserved_s=0.5)
    plan.rates["worker crash"] = 0.5


@canary("G6", _impatient)
def everybody_waits_for_a_worker() -> list[Patch]:
    """However long nobody has served a service."""
    return [(Impatience, "look", lambda impatience, service: None)]


@canary("G6")
def clients_do_not_look_at_the_clock() -> list[Patch]:
    """What the broker does not end never ends."""
    return [(ClientCore, "_expire", lambda core, now: None)]


def _several(plan: Plan) -> None:
    if plan.workers and plan.servers is None:
        plan.brokers = 2


@canary("leak", _several)
def workers_of_several_brokers_are_remembered() -> list[Patch]:
    """They are remembered also when they are gone."""
    return [(Demands, "left", lambda demands, worker: None)]


@canary("status")
def everybody_takes_requests() -> list[Patch]:
    """Whoever asks for the workers that take requests gets all."""
    return [(looks, "_takes_requests", lambda worker: True)]
