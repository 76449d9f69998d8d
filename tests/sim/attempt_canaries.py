"""Planted bugs of how attempts are counted and whom they are blamed on (G5). Importing this adds them to the other canaries."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.requests import Requests
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import Entry, ServiceRow, WorkerRow
from cbw.core.broker.worker_table import WorkerTable

from .canary import Patch, canary, without_check
from .idleness_canaries import quick_then_slow
from .plan import Plan


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


@canary("G5", quick_then_slow)
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
