"""What a broker tells people of requests is so: where each is and why, and the one sentence about all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.dead_letters import Filter
from cbw.core.broker.finding import RequestFilter, find
from cbw.core.broker.looks import LIVING_STATES
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import request_name
from cbw.core.broker.verdict import sentence
from cbw.core.broker.why import Reasons

from .account import Accepted, entries_of, number_of
from .places import before
from .world import ViolationError

EXACTNESS_S = 1e-6
SOME = 5
"""Requests that are asked after at a time."""
STATES = {RequestState.STORING: "storing", RequestState.DELAYED: "delayed"}
AGE_S = 1.0
"""Requests and dead letters are looked for by whether they are older than this."""


def check_told(core: BrokerCore, accepted: Mapping[int, Accepted], now: float) -> None:
    """
    Raises:
        ViolationError: something else is told than is there.
    """
    clients = core.clients.all
    entries = {number_of(entry): entry for entry in entries_of(core)}
    for request in list(accepted)[:SOME]:
        entry, seen = entries[request], accepted[request]
        told = Reasons(core).of_name(request_name(entry), now)
        _need(told is not None, f"nothing of {seen.token}")
        assert told is not None
        state = STATES.get(entry.state, "waiting" if entry.worker is None else "running")
        _need(told.state == state, f"{seen.token} is {told.state}, not {state}")
        _need(told.attempt == 1 + seen.failed == entry.attempt, f"attempt {told.attempt} of {seen.token}")
        is_told = "failed" in told.text.rpartition(";")[2]
        _need(is_told or not seen.failed or state == "storing", f"{seen.token}: {told.text}, but {seen.failed} failed")
        _need(told.age_s >= -EXACTNESS_S and told.service == entry.request.service, f"{seen.token}: {told}")
        if state == "running" and seen.attempts and not seen.attempts[-1].void:
            _need(told.worker == seen.attempts[-1].worker, f"{seen.token} is with {told.worker}")
        if state == "waiting":
            called = f"service {told.service}" if told.service else "the nameless service"
            is_served = bool(core.requests.dispatcher.services[told.service].workers)
            _need(called in told.text or not is_served, f"{seen.token}: {told.text}")
            service = core.requests.dispatcher.services[told.service]
            true = None if told.before is None else before(service, entry, now)
            _need(told.before == true, f"{told.before} before {seen.token}, not {true}")
    for client in clients:
        for request in list(client.parked)[:1]:
            told = Reasons(core).of_name(client.request_name(request), now)
            is_told = told is not None and (told.state == "dead" or ("is away" in told.text) == client.is_away)
            _need(is_told or request in client.entries, f"{client.name}/{request}: {told}")
    _found(core, accepted, now)


def _found(core: BrokerCore, accepted: Mapping[int, Accepted], now: float) -> None:
    """Filters choose some, and what they do not choose is the rest."""
    all_of_them, _ = find(core, RequestFilter(), LIVING_STATES, now)
    _need(len(all_of_them) <= len(accepted), f"{len(all_of_them)} requests found, of {len(accepted)}")
    older, _ = find(core, RequestFilter(older_than_s=AGE_S), LIVING_STATES, now)
    wanted = [entry for entry in all_of_them if now - entry.accepted_at >= AGE_S]
    _need(older == wanted, f"{len(older)} requests are older than {AGE_S} s, and not {len(wanted)}")
    letters = list(core.requests.dead)[:SOME]
    for letter in letters:
        is_old = now - letter.died_at >= AGE_S
        _need(Filter(older_than_s=AGE_S).chooses(letter, now) == is_old, f"dead letter {letter.id} is older: {is_old}")
        is_meant = Filter(service=letter.service, error=letter.error[:5].upper()).chooses(letter, now)
        _need(is_meant, f"dead letter {letter.id} has another error than {letter.error}")
        _need(
            not Filter(service=letter.service + "?").chooses(letter, now), f"dead letter {letter.id} is of any service"
        )


def check_verdict(status: Mapping[str, Any]) -> None:
    """
    Raises:
        ViolationError: the sentence about the broker is not so.
    """
    told, services = status["verdict"], {service["service"]: service for service in status["services"]}
    kind, waiting = told["kind"], any(service["waiting"] for service in services.values())
    is_stalled, is_full = bool(status["refusal"]), status["is_paused"]
    _need((kind == "stalled") == is_stalled, f"the verdict is {kind}, and the journal says {status['refusal']!r}")
    _need((kind == "paused") == (is_full and not is_stalled), f"the verdict is {kind}, paused is {is_full}")
    if kind in ("unserved", "held", "elsewhere", "drained", "busy"):
        of = services[told["service"]]
        _need(told["waiting"] == of["waiting"] > 0, f"{told['waiting']} wait for {told['service']!r}")
        _need((kind == "unserved") == (not of["workers"]), f"{kind}, with {of['workers']} workers")
        _need(kind != "held" or of["is_paused"], "held, and not paused")
        _need(kind in ("unserved", "held") or (kind == "busy") == bool(of["running"]), f"{kind}: {of}")
        _need(kind != "elsewhere" or of["elsewhere_workers"] == of["workers"], f"{kind}: {of}")
    elif kind not in ("stalled", "paused"):
        _need(not waiting, f"the verdict is {kind}, and something waits")
        _need((kind == "dead") == bool(status["dead_letters"]), f"the verdict is {kind}, beside dead letters")
    text = sentence(told)
    _need("{" not in text and ("1 waits " in text) == (told["waiting"] == 1 and " for " in text), text)


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(f"status: {text}")
