"""Planted bugs that leave workers idle while work waits (G2). Importing this adds them to the other canaries."""

from __future__ import annotations

from dataclasses import replace

import cbw.core.broker.dispatch
import cbw.core.broker.req_workers
from cbw.core import messages
from cbw.core.broker.dispatch import Dispatcher
from cbw.core.broker.requests import Requests
from cbw.core.broker.tables import WorkerRow
from cbw.core.worker import events as worker_events
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver

from .canary import Patch, canary, without_check
from .plan import Plan, WorkerPlan


def quick_then_slow(plan: Plan) -> None:
    """Handlers that are quick nearly always, so that workers get much ahead, and then take 3 s."""
    plan.workers = [replace(worker, speed=1.0) for worker in plan.workers]
    for client in plan.clients:
        for _, jobs in client.bursts:
            for number, job in enumerate(jobs):
                job.work_s = 3.0 if number % 20 == 19 else 0.0002


@canary("G2", quick_then_slow)
def recalls_are_dropped() -> list[Patch]:
    """Nothing is ever asked back."""

    return [(Dispatcher, "_recall", lambda self, now: None)]


@canary("G2", quick_then_slow)
def recalls_are_not_answered() -> list[Patch]:
    """The worker keeps what it was asked back."""
    arrived = WorkerCore._batch_arrived

    def deaf(self: WorkerCore, fact: worker_events.BatchArrived, now: float) -> None:
        heard = [message for message in fact.messages if type(message) is not messages.Recall]
        arrived(self, worker_events.BatchArrived(heard), now)

    return [(WorkerCore, "_batch_arrived", deaf)]


@canary("", quick_then_slow)
def what_a_pool_gives_back_at_once_is_not_told() -> list[Patch]:
    """The worker's driver takes tasks back from the pool, and the core never hears of it."""
    carry_out = WorkerDriver._carry_out

    def mute(self: WorkerDriver, order: worker_events.Order) -> worker_events.Fact | None:
        outcome = carry_out(self, order)
        return None if isinstance(outcome, worker_events.TasksReturned) else outcome

    return [(WorkerDriver, "_carry_out", mute)]


def _silent_brokers(plan: Plan) -> None:
    plan.rates = {"partition": 1.0, "broker freeze": 0.5}


@canary("stuck", _silent_brokers)
def reconnections_that_failed_are_not_tried_again() -> list[Patch]:
    """A worker that had no file descriptors left for a new connection goes on without one."""
    carry_out = WorkerDriver._carry_out

    def hopeful(self: WorkerDriver, order: worker_events.Order) -> worker_events.Fact | None:
        outcome = carry_out(self, order)
        return None if isinstance(outcome, worker_events.ReconnectFailed) else outcome

    return [(WorkerDriver, "_carry_out", hopeful)]


@canary("", quick_then_slow)
def returned_tasks_are_lost() -> list[Patch]:
    """What a worker gives back is forgotten."""

    def forget(self: Requests, worker: WorkerRow, tasks: list[int]) -> None:
        for task in tasks:
            worker.in_hand.pop(task, None)

    return without_check((Requests, "return_tasks", forget))


def _lost_workers_with_long_work(plan: Plan) -> None:
    plan.rates.update({"connection": 1.0})
    for client in plan.clients:
        for _, jobs in client.bursts:
            for job in jobs[::5]:
                job.work_s = 4.0


@canary("G", _lost_workers_with_long_work)
def handlers_left_over_are_forgotten() -> list[Patch]:
    """A worker that says hello again wants as much as if its handlers had not still something to do."""
    return [(WorkerCore, "_credit_wanted", lambda self: 0 if self.is_leaving else self.credit)]


@canary("")
def free_workers_are_overlooked() -> list[Patch]:
    """A worker that has answered everything is not seen to be free, one time in five."""
    place = Dispatcher.place
    count = [0]

    def lazy(self: Dispatcher, worker: WorkerRow) -> None:
        count[0] += not worker.in_hand
        if worker.in_hand or count[0] % 5:
            place(self, worker)

    return without_check((Dispatcher, "place", lazy))


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
    return [(cbw.core.broker.dispatch, "_waits_since", lambda service: -ord(service.name[:1] or "0"))]
