"""Workers to begin with, what they are told, and what they order."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import BatchArrived, Begin, Connected, Order, Send, TakeBack, TasksFinished

LIVENESS_S = 3.0
BODY_BYTES_MAX = 1000
SLOW_S = 1.0
QUICK_S = 1e-5
WELCOME = messages.Welcome("BRO", "0.1", LIVENESS_S, BODY_BYTES_MAX)


def task(number: int) -> messages.Task:
    return messages.Task(number, "", b"body", None, 1)


def ok(number: int, body: bytes = b"done") -> messages.Answer:
    return messages.Answer(number, Status.OK, body)


def arrived(*batch: messages.Message) -> BatchArrived:
    return BatchArrived([*batch])


def finished(*answers: messages.Answer, busy_s: float = SLOW_S) -> TasksFinished:
    return TasksFinished([*answers], busy_s)


# --- what is ordered


def sent(orders: Iterable[Order]) -> list[messages.Message]:
    return [message for order in orders if isinstance(order, Send) for message in order.messages]


def begun(orders: Iterable[Order]) -> list[int]:
    return [task.id for order in orders if isinstance(order, Begin) for task in order.tasks]


def wanted_back(orders: Iterable[Order]) -> list[int]:
    return [task for order in orders if isinstance(order, TakeBack) for task in order.tasks]


# --- workers to begin with


def started(concurrency: int = 1) -> WorkerCore:
    """A worker that has said hello at time 0."""
    core = WorkerCore("W1", "boot", [""], concurrency)
    orders = core.step([Connected()], 0.0)
    assert [type(message) for message in sent(orders)] == [messages.WorkerHello]
    return core


def welcomed(concurrency: int = 1) -> WorkerCore:
    """A worker that the broker knows."""
    core = started(concurrency)
    assert core.step([arrived(WELCOME)], 0.0) == []
    return core


def busy(*numbers: int, concurrency: int = 1) -> WorkerCore:
    """A worker that has begun these tasks."""
    core = welcomed(concurrency)
    assert begun(core.step([arrived(*map(task, numbers))], 0.0)) == list(numbers)
    return core
