"""Planted bugs in what becomes of delayed requests. Importing this adds them to the other canaries."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core.broker import workers
from cbw.core.broker.dead_letters import DeadLetters
from cbw.core.broker.delays import Delays

from .canary import Patch, canary
from .plan import Plan


def _handlers_ask_for_more(plan: Plan) -> None:
    """The lab's workers cannot ask for anything, so they are not there, if there are others."""
    if plan.workers:
        plan.plain_workers.clear()
    for client in plan.clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.kind, job.work_s = f"retry{1 + number % 4}", 0.005


@canary("G4", _handlers_ask_for_more)
def a_retry_does_not_wait() -> list[Patch]:
    """Whatever time its handler has asked for."""
    add = Delays.add

    def hasty(self: Delays, entry: Any) -> None:
        entry.delay = msgspec.structs.replace(entry.delay, until=self._outbox.now)
        add(self, entry)

    return [(Delays, "add", hasty)]


@canary("G4", _handlers_ask_for_more)
def workers_are_not_told_of_retries() -> list[Patch]:
    """So that they allow them for ever."""
    tasks_of: Any = workers._tasks_of

    def silent(*arguments: Any, **more: Any) -> Any:
        tasks = tasks_of(*arguments, **more)
        for task in tasks:
            task.retries = 0
        return tasks

    return [(workers, "_tasks_of", silent)]


@canary("stuck", _handlers_ask_for_more)
def what_is_due_is_forgotten() -> list[Patch]:
    """The timer for the next one is not set again."""

    def once(self: Delays, now: float) -> None:
        queue_due(self, now)
        self._timer.clear()

    queue_due = Delays._queue_due
    return [(Delays, "_queue_due", once)]


@canary("G5", _handlers_ask_for_more)
def used_up_retries_leave_nothing() -> list[Patch]:
    """They are not kept as dead letters."""
    return [(DeadLetters, "keep_failed", lambda self, entry, worker, answer, tried: "")]
