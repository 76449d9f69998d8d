"""A handler wants another try: what a broker is told that takes retries, and one that is too old for them."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import BatchArrived, Connected, Disconnected, Send, TasksFinished

ERROR = messages.error_body("ConnectionError", "gone", "Traceback")
ERROR_FOR_THE_CLIENT = messages.error_body("ConnectionError", "gone")


def welcomed(core: WorkerCore, *, takes_retries: bool) -> None:
    core.step([Connected()], 0.0)
    welcome = messages.Welcome("BRO", "0.1", 3.0, 1000, takes_retries=takes_retries)
    core.step([BatchArrived([welcome])], 0.0)


def finish(core: WorkerCore) -> list[messages.Answer]:
    answer = messages.Answer(1, Status.RETRY, ERROR, 2.5)
    orders = core.step([TasksFinished([answer], 0.1)], 0.2)
    sent = [message for order in orders if isinstance(order, Send) for message in order.messages]
    return [message for message in sent if isinstance(message, messages.Answer)]


@pytest.mark.parametrize(
    ("takes_retries", "told"),
    [
        (True, messages.Answer(1, Status.RETRY, ERROR, 2.5)),
        (False, messages.Answer(1, Status.FAILED, ERROR_FOR_THE_CLIENT)),
    ],
)
def test_what_the_broker_is_told(takes_retries: bool, told: messages.Answer) -> None:
    core = WorkerCore("W1", "b", ["s"], 1)
    welcomed(core, takes_retries=takes_retries)
    core.step([BatchArrived([messages.Task(1, "s", b"", None, 1)])], 0.1)
    assert finish(core) == [told]
    assert core.tasks_failed == 1


def test_the_next_broker_may_be_an_older_one() -> None:
    core = WorkerCore("W1", "b", ["s"], 1)
    welcomed(core, takes_retries=True)
    core.step([BatchArrived([messages.Task(1, "s", b"", None, 1)])], 0.1)
    core.step([Disconnected()], 0.1)
    welcomed(core, takes_retries=False)
    assert finish(core) == [messages.Answer(1, Status.FAILED, ERROR_FOR_THE_CLIENT)]
