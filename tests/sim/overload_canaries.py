"""Planted bugs in what a broker and its clients do under overload (G9). Importing this adds them to the other canaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cbw.core.broker import fair_queue, recovery
from cbw.core.broker.fair_queue import FairQueue
from cbw.core.client.core import ClientCore

from .canary import Patch, canary
from .plan import JournalPlan, Plan


def _all_for_one_service(plan: Plan) -> None:
    """All ask for one service, and at once: some clients have many requests there, others few."""
    plan.rates.clear()
    plan.plain_clients.clear()
    service = plan.workers[0].services[0] if plan.workers else ""
    for client in plan.clients:
        client.bursts = [(1.0, jobs) for _, jobs in client.bursts]
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.service, job.work_s, job.priority = service, 0.01, number % 10


@canary("G9", _all_for_one_service)
def whoever_had_a_turn_is_next_again() -> list[Patch]:
    """One client is served until it has nothing left; the others wait."""
    take_one_each: Callable[..., None] = FairQueue._take_one_each

    def greedy(self: FairQueue[Any], taken: list[Any], count: int, now: float) -> None:
        for _ in range(count):
            count_before = len(self._clients)
            take_one_each(self, taken, 1, now)
            if len(self._clients) == count_before:
                self._clients.rotate(1)

    return [(FairQueue, "_take_one_each", greedy)]


@canary("G9", _all_for_one_service)
def priorities_are_forgotten() -> list[Patch]:
    """A client's requests are served as they came."""

    def add(self: Any, entry: Any) -> None:
        self.entries.append(entry)

    return [(fair_queue._Line, "add", add)]


def _all_for_one_service_of_brokers_that_die(plan: Plan) -> None:
    _all_for_one_service(plan)
    plan.journal = JournalPlan((0.0005, 0.002), slack_bytes=0, compact_bytes=1, rewrite_bytes=1)
    plan.rates["broker crash"] = 0.6


@canary("G9", _all_for_one_service_of_brokers_that_die)
def a_new_broker_serves_the_youngest_first() -> list[Patch]:
    """What waits is read from the journal in the wrong order."""
    return [
        (recovery, "_in_order", lambda replay: [replay.accepted[number] for number in sorted(replay.accepted)[::-1]])
    ]


@canary("G9")
def a_new_broker_lets_what_was_delayed_go_first() -> list[Patch]:
    """It takes what waits in the order of the journal, as if it could have begun when it was accepted."""
    return [(recovery, "_in_order", lambda replay: [replay.accepted[number] for number in sorted(replay.accepted)])]


def _little_room_and_some_time(plan: Plan) -> None:
    _all_for_one_service(plan)
    plan.limits = msgspec.structs.replace(plan.limits, requests_max=3)
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs:
                job.ttl_s = 30.0


@canary("G9", _little_room_and_some_time)
def nobody_comes_back_to_a_busy_broker() -> list[Patch]:
    """A client takes the first refusal for the last word."""
    return [(ClientCore, "_may_retry", lambda self, answer, now: False)]
