"""Planted bugs in what peers say to each other, and in what is told of it. Importing this adds them to the others."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import catalogue, messages, sender
from cbw.core.broker import requests, snapshot
from cbw.core.broker.events import Side
from cbw.core.broker.fair_queue import FairQueue
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import Entry, WorkerRow
from cbw.core.catalogue import EventName
from cbw.core.client.retries import Retries
from cbw.core.messages import CancelTask
from cbw.core.worker import broker_session
from cbw.core.worker.child_starts import ChildStarts

from .canary import Patch, canary
from .plan import Plan


def _busy(plan: Plan) -> None:
    """Brokers have room for three requests, and clients can wait for more."""
    plan.limits = msgspec.structs.replace(plan.limits, requests_max=3)
    for job in [job for client in plan.clients for _, jobs in client.bursts for job in jobs]:
        job.ttl_s = 20.0


@canary("wire", _busy)
def clients_do_not_wait_for_room() -> list[Patch]:
    """They ask a busy broker again as soon as they may ask any."""
    add = Retries.add

    def add_soon(retries: Retries, request_id: int, hint_s: float | None, deadline_at: float, now: float) -> bool:
        return add(retries, request_id, 0.0, deadline_at, now)

    return [(Retries, "add", add_soon)]


@canary("wire")
def workers_beat_all_the_time() -> list[Patch]:
    """Three times a second."""
    return [(broker_session, "WORKER_BEAT_S", 0.3)]


@canary("wire")
def those_that_are_not_back_are_told_what_nobody_wants() -> list[Patch]:
    """A broker that was restarted speaks to workers that it only knows from its journal."""

    def tell(outbox: Outbox, worker: WorkerRow, task: int) -> None:
        outbox.tell_worker(worker, CancelTask(task))

    return [(Outbox, "tell_unwanted", tell)]


@canary("trace")
def nobody_tells_what_is_due() -> list[Patch]:
    """The trace of a delayed request lacks the end of its delay."""
    trace_entry = Outbox.trace_entry

    def trace_most(outbox: Outbox, event: EventName, *rest: Any, **more: Any) -> None:
        if event is not catalogue.DUE:
            trace_entry(outbox, event, *rest, **more)

    return [(Outbox, "trace_entry", trace_most)]


@canary("G11")
def closed_senders_do_not_wait_for_a_logger() -> list[Patch]:
    """One that is closed before it has a connection leaves, and its records with it."""
    return [(sender, "ABSENT_S", 0.0)]


def _many_strangers(plan: Plan) -> None:
    plan.rates["stranger"] = 2.0


@canary("G9", _many_strangers)
def nonsense_is_counted_and_not_told() -> list[Patch]:
    """Nobody can find out who has sent what makes no sense."""

    def count(outbox: Outbox, side: Side, who: str, why: str) -> None:
        outbox.counts["messages_bad"] += 1

    return [(Outbox, "count_bad", count)]


@canary("status")
def workers_are_always_busy() -> list[Patch]:
    """The page shows no worker that has had a rest."""
    shown_worker = snapshot.shown_worker

    def show(worker: WorkerRow, now: float) -> dict[str, Any]:
        return {**shown_worker(worker, now), "busy": 1.0}

    return [(snapshot, "shown_worker", show)]


@canary("status")
def a_long_queue_is_told_to_be_short() -> list[Patch]:
    """Whoever waits is told that one less is before it."""
    before = FairQueue.before

    def count(queue: FairQueue[Entry], entry: Entry, looked_max: int) -> int | None:
        found = before(queue, entry, looked_max)
        return found - 1 if found else found

    return [(FairQueue, "before", count)]


def _sheltered(plan: Plan) -> None:
    for worker in plan.workers:
        worker.is_sheltered = True
    for job in [job for client in plan.clients for _, jobs in client.bursts for job in jobs[::3]]:
        job.kind = job.kind or "die"


@canary("children", _sheltered)
def children_that_cannot_start_are_tried_at_once() -> list[Patch]:
    """Again and again, which takes all of a core."""
    return [(ChildStarts, "take_turn", lambda starts, now: 0.0)]


@canary("G1")
def what_an_error_says_besides_is_lost() -> list[Patch]:
    """The data of an error that a handler has raised does not come to its client."""

    def parts(body: bytes) -> messages.ErrorParts:
        return messages.error_parts(body)._replace(data=None)

    return [(requests, "error_parts", parts)]
