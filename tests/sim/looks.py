"""What a broker answers to who asks it of its services, workers, requests and dead letters: compared with what is there, and what
was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from cbw.core.broker import dead_services, looks
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.looks import LIVING_STATES
from cbw.core.broker.service_list import SERVICES
from cbw.core.broker.snapshot import shown_worker, state_of
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry, WorkerRow
from cbw.core.broker.why import Reasons
from cbw.core.messages import Request, Status
from cbw.wire import native

from .account import entries_of
from .world import ViolationError

EXACTNESS_S = 0.0011
"""Ages are rounded to a millisecond."""
PAGE = 3
"""Rows of a page: few, so that there are several."""
ASKER = "SOMEBODY"


class Looks:
    """Asks one thing after another, of a chance of its own: what a seed means is the same with it and without."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(f"looks {seed}")
        self._questions = [self._services, self._workers, self._requests, self._letters, self._nonsense]
        self._number = 0

    def look(self, core: BrokerCore) -> None:
        """Ask the next question.

        Raises:
            ViolationError: the answer is not so.
        """
        self._number += 1
        self._questions[self._number % len(self._questions)](core)

    def _ask(self, core: BrokerCore, service: str, fields: Mapping[str, Any], wanted: Status = Status.OK) -> Any:
        request = Request(1, service, msgspec.json.encode(fields))
        answer = core.requests.own.answer(ClientRow(ASKER, "", b"", native.CLIENT), request)
        _need(answer.status is wanted, f"{service} {fields} is {answer.status.name}: {bytes(answer.body)!r}")
        return msgspec.json.decode(answer.body) if answer.status is Status.OK else bytes(answer.body)

    # --- services and workers

    def _services(self, core: BrokerCore) -> None:
        rows = self._ask(core, SERVICES, {})
        services = core.requests.dispatcher.services
        _need([row["service"] for row in rows] == sorted(services), f"services {rows}, not {sorted(services)}")
        running = Counter(
            entry.request.service for worker in core.workers.by_peer.values() for entry in worker.in_hand.values()
        )
        for row in rows:
            name = row["service"]
            service = services[name]
            expected = len(service.workers), service.waiting_count, running[name]
            shown = row["workers"], row["waiting"], row["running"]
            _need(shown == expected, f"service {name!r} has {shown}, not {expected}")
            _need(row["age_s"] >= -EXACTNESS_S, f"service {name!r} is known since {row['age_s']} s")

    def _workers(self, core: BrokerCore) -> None:
        now, workers = core.outbox.now, list(core.workers.by_peer.values())
        core.requests.durations.count()
        some = self._rng.choice(workers) if workers else None
        chosen: list[tuple[dict[str, Any], Callable[[WorkerRow], bool]]] = [({}, lambda worker: True)]
        if some is not None:
            service, state, name = some.services[0].name, state_of(some), some.name
            chosen = [
                ({}, lambda worker: True),
                ({"service": service}, lambda worker: any(each.name == service for each in worker.services)),
                ({"state": state}, lambda worker: state_of(worker) == state),
                ({"worker": name}, lambda worker: worker.name == name),
                ({"takes_requests": True}, _takes_requests),
            ]
        query, is_meant = self._rng.choice(chosen)
        meant = [shown_worker(worker, now) for worker in workers if is_meant(worker)]
        self._pages(core, looks.LIST_WORKERS, query, "workers", msgspec.json.decode(msgspec.json.encode(meant)))

    # --- requests

    def _requests(self, core: BrokerCore) -> None:
        now, rng = core.outbox.now, self._rng
        entries = [entry for entry in entries_of(core) if _place(entry)]
        queries: list[tuple[dict[str, Any], Callable[[Entry], bool]]] = [({}, lambda entry: True)]
        if entries:
            some = rng.choice(entries)
            service, client, place, age_s = some.request.service, some.client.name, _place(some), now - some.accepted_at
            queries += [
                ({"service": service}, lambda entry: entry.request.service == service),
                ({"client": client}, lambda entry: entry.client.name == client),
                ({"state": place}, lambda entry: _place(entry) == place),
                ({"older_than_s": age_s}, lambda entry: now - entry.accepted_at >= age_s),
                (
                    {"service": service, "client": client},
                    lambda entry: entry.request.service == service and entry.client.name == client,
                ),
            ]
        query, is_meant = rng.choice(queries)
        meant = sorted(filter(is_meant, entries), key=_since)
        page = self._ask(core, looks.LIST_REQUESTS, {**query, "limit": PAGE, "why": True})
        _need(
            page["matching"] == len(meant) and page["is_complete"], f"{page['matching']} of {len(meant)} meet {query}"
        )
        rest = self._ask(core, looks.LIST_REQUESTS, {**query, "limit": 1000, "offset": PAGE})
        rows = [*page["requests"], *rest["requests"]]
        ages = [round(now - _since(entry), 3) for entry in meant]
        _need([row["in_state_s"] for row in rows] == ages, f"{query}: {rows} are not the oldest first, {ages}")
        by_name = {entry.client.request_name(entry.request.id): entry for entry in meant}
        _need({row["request"] for row in rows} == by_name.keys(), f"{query}: {rows}, not {[*by_name]}")
        for row in rows:
            _row(row, by_name[row["request"]], now)
        for row in page["requests"]:
            told = Reasons(core).of_name(row["request"], now)
            _need(told is not None and told.state == row["state"], f"{row['request']} is {row['state']}, and {told}")
            assert told is not None
            _need(row["why"] == told.text, f"{row['request']} waits because {row['why']}, and {told.text}")

    # --- dead letters

    def _letters(self, core: BrokerCore) -> None:
        now, letters = core.outbox.now, list(core.requests.dead)
        names = [letter.id for letter in letters]
        self._pages(core, dead_services.LIST, {}, "letters", names, lambda letter: letter["id"])
        self._ask(core, dead_services.SHOW, {"id": "nobody's"}, Status.FAILED)
        if not letters:
            return
        some = self._rng.choice(letters)
        age_s = now - some.died_at
        found = self._ask(core, dead_services.LIST, {"ids": [some.id, "nobody's"]})
        _need([letter["id"] for letter in found["letters"]] == [some.id], f"{found}, not {some.id}")
        older = self._ask(core, dead_services.LIST, {"older_than_s": age_s, "limit": 1000})["letters"]
        newer = self._ask(core, dead_services.LIST, {"newer_than_s": age_s, "limit": 1000})["letters"]
        twice = [each.id for each in letters if now - each.died_at == age_s]
        _need(
            len(older) + len(newer) == len(letters) + len(twice), f"{older} are older, and {newer} newer than {some.id}"
        )
        shown = self._ask(core, dead_services.SHOW, {"id": some.id})
        body = core.requests.own.answer(
            ClientRow(ASKER, "", b"", native.CLIENT),
            Request(1, dead_services.BODY, msgspec.json.encode({"id": some.id})),
        ).body
        _need(shown["body"].encode() == bytes(body) == bytes(some.body), f"{some.id} is shown with another body")
        ago = [(attempt["begun_ago_s"], attempt["ended_ago_s"]) for attempt in shown["attempts"]]
        was = [(now - attempt.begun_at, now - attempt.ended_at) for attempt in some.attempts]
        is_so = len(ago) == len(was) and all(
            abs(told - true) < EXACTNESS_S
            for one, other in zip(ago, was, strict=True)
            for told, true in zip(one, other, strict=True)
        )
        _need(is_so, f"the attempts at {some.id} were {ago} ago, not {was}")
        times = shown["accepted_ago_s"] - (now - some.accepted_at), shown["died_ago_s"] - age_s
        _need(max(map(abs, times)) < EXACTNESS_S, f"{some.id} was accepted and died at other times: {times}")

    def _nonsense(self, core: BrokerCore) -> None:
        """What makes no sense is refused, and nothing is done."""
        count = len(core.requests.dead)
        for service in (dead_services.DROP, dead_services.REQUEUE, "cbw.purge"):
            self._ask(core, service, {}, Status.BAD_REQUEST)
        self._ask(core, "cbw.nothing", {}, Status.BAD_REQUEST)
        self._ask(core, looks.LIST_WORKERS, {"limit": 0}, Status.BAD_REQUEST)
        self._ask(core, looks.TELL_WHY, {"request": "nobody/1"}, Status.FAILED)
        _need(len(core.requests.dead) == count, "dead letters are gone, and nobody has said which")

    def _pages(
        self,
        core: BrokerCore,
        service: str,
        query: Mapping[str, Any],
        key: str,
        expected: Sequence[Any],
        of: Callable[[Any], Any] = lambda row: row,
    ) -> None:
        """A page from anywhere has what stands there."""
        offset = self._rng.randrange(len(expected) + 1)
        page = self._ask(core, service, {**query, "limit": PAGE, "offset": offset})
        _need(page["matching"] == len(expected), f"{service} {query}: {page['matching']}, not {len(expected)}")
        shown, there = [of(row) for row in page[key]], list(expected[offset : offset + PAGE])
        _need(shown == there, f"{service} {query} from {offset}: {shown}, not {there}")


def _takes_requests(worker: WorkerRow) -> bool:
    is_there = state_of(worker) in ("free", "busy") and worker.credit > 0
    return is_there or state_of(worker) == "elsewhere"


def _place(entry: Entry) -> str:
    """Its state as people are told; empty: they are not told of it, as it is just being stored or has ended."""
    if entry.state in (RequestState.STORING, RequestState.ENDED):
        return ""
    if entry.worker is not None:
        return "running"
    return "delayed" if entry.state is RequestState.DELAYED else "waiting"


def _since(entry: Entry) -> float:
    """Since when it is in its state."""
    if _place(entry) == "running":
        return entry.handed_out_at
    return entry.accepted_at if _place(entry) == "delayed" else entry.waits_since


def _row(row: Mapping[str, Any], entry: Entry, now: float) -> None:
    """One request of a list."""
    name = row["request"]
    _need(row["state"] == _place(entry) and row["state"] in LIVING_STATES, f"{name} is {row['state']}")
    fixed = row["client"], row["service"], row["attempt"], row["priority"], row["body_bytes"]
    request = entry.request
    true = entry.client.name, request.service, entry.attempt, request.priority, len(request.body)
    _need(fixed == true, f"{name} is shown as {fixed}, not {true}")
    with_worker = entry.worker
    _need((row["worker"], row["task"]) == ((with_worker.name, entry.task) if with_worker else (None, None)), f"{row}")
    times: dict[str, float | None] = {
        "age_s": now - entry.accepted_at,
        "due_s": entry.delay.until - now if _place(entry) == "delayed" and entry.delay is not None else None,
        "deadline_s": None if entry.deadline_at is None else entry.deadline_at - now,
    }
    for key, seconds in times.items():
        is_so = (row[key] is None) == (seconds is None) and abs((row[key] or 0.0) - (seconds or 0.0)) < EXACTNESS_S
        _need(is_so, f"{name} has {key} {row[key]}, not {seconds}")


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(f"status: {text}")
