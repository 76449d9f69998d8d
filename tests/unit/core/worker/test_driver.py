"""The worker's driver: in which order it takes in what has happened, and what becomes of each order."""

from __future__ import annotations

import math
from collections import deque

import pytest
from msgspec import structs

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.port import UNSENT_RETRY_S
from cbw.core.worker.broker_session import WORKER_RECONNECT_S, Registration
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver
from cbw.core.worker.events import HandlerCalled, PoolFact, TasksFinished, TasksReturned

WELCOME = messages.Welcome("BRO", "boot", 3.0, 1000)


def task(number: int) -> messages.Task:
    return messages.Task(number, "", b"body", None, 1)


def ok(number: int) -> messages.Answer:
    return messages.Answer(number, Status.OK, b"done")


class Part:
    """Pool and link in one, which writes down what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.changes: list[bool] = [True]
        self.batches: deque[list[messages.Message]] = deque()
        self.reports: list[PoolFact] = []
        self.back: list[int] | None = []
        self.has_unsent = False
        self.can_reconnect = True

    def begin(self, tasks: list[messages.Task]) -> None:
        self.told.append(("begin", [task.id for task in tasks]))

    def end_overdue(self, task: int) -> messages.Answer | None:
        self.told.append(("end", task))
        return messages.Answer(task, Status.FAILED, b"late")

    def tell_stuck(self, task: int) -> None:
        self.told.append(("stuck", task))

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        self.told.append(("stood still", for_s, is_busy))

    def take_back(self, tasks: list[int]) -> list[int] | None:
        self.told.append(("take back", tasks))
        return self.back

    def cancel(self, task: int) -> None:
        self.told.append(("cancel", task))

    def take_reports(self) -> list[PoolFact]:
        reports, self.reports = self.reports, []
        return reports

    def watch(self) -> list[bool]:
        changes, self.changes = self.changes, []
        return changes

    def receive(self) -> list[messages.Message] | None:
        return self.batches.popleft() if self.batches else None

    def send(self, batch: list[messages.Message]) -> None:
        self.told.append(batch)

    def reconnect(self) -> bool:
        self.told.append("reconnect")
        return self.can_reconnect

    def take_told(self) -> list[object]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def part() -> Part:
    return Part()


@pytest.fixture
def driver(part: Part) -> WorkerDriver:
    """A worker that the broker knows."""
    driver = WorkerDriver(WorkerCore("W1", "boot", [""], 1), part, part)
    part.batches.append([WELCOME])
    driver.turn(0.0)
    assert driver.core.sessions[0].registration is Registration.REGISTERED
    part.take_told()
    return driver


def test_the_hello_goes_out_before_anything_is_read(part: Part) -> None:
    driver = WorkerDriver(WorkerCore("W1", "boot", [""], 1), part, part)
    part.batches.append([WELCOME, task(1)])
    driver.turn(0.0)
    assert part.told == [[messages.WorkerHello("W1", "boot", [""], 1, 1)], ("begin", [1])]


def test_answers_go_out_before_the_next_tasks_are_begun(part: Part, driver: WorkerDriver) -> None:
    part.batches.append([task(1)])
    driver.turn(0.1)
    part.reports.append(TasksFinished([ok(1)], 1.0))
    part.batches.append([task(2)])
    driver.turn(0.2)
    assert part.told == [("begin", [1]), [ok(1)], ("begin", [2])]


def test_a_broker_hears_that_a_task_has_not_begun_that_the_hello_has_named(part: Part, driver: WorkerDriver) -> None:
    """The connection was lost and made again in one turn, so the pool gave the task back after the hello."""
    part.batches.append([task(1)])
    driver.turn(0.1)
    part.changes, part.back = [False, True], [1]
    driver.turn(0.2)
    assert messages.WorkerHello("W1", "boot", [""], 1, 0, [1]) in [each[0] for each in part.told if type(each) is list]
    part.take_told()
    part.batches.append([structs.replace(WELCOME, tasks=[1])])
    driver.turn(0.3)
    assert messages.Returned([1]) in [word for each in part.told if type(each) is list for word in each]


def test_answers_need_not_wait_for_a_turn(part: Part, driver: WorkerDriver) -> None:
    part.batches.append([task(1)])
    driver.turn(0.1)
    part.reports.append(TasksFinished([ok(1)], 1.0))
    part.batches.append([task(2)])
    driver.report(0.2)
    assert part.told == [("begin", [1]), [ok(1)]]


def test_what_the_pool_gives_back_at_once_is_told_in_the_same_turn(part: Part, driver: WorkerDriver) -> None:
    part.back = [2]
    part.batches.append([task(1), task(2), messages.Recall([1, 2])])
    driver.turn(0.1)
    assert part.told == [("begin", [1, 2]), ("take back", [1, 2]), [messages.Returned([2])]]


def test_what_the_pool_gives_back_later_is_told_when_it_reports(part: Part, driver: WorkerDriver) -> None:
    part.back = None
    part.batches.append([task(1), task(2), messages.Recall([1, 2])])
    driver.turn(0.1)
    assert part.take_told() == [("begin", [1, 2]), ("take back", [1, 2])]
    part.reports.append(TasksReturned([2]))
    driver.turn(0.2)
    assert part.told == [[messages.Returned([2])]]


def test_cancels_come_behind_what_they_cancel(part: Part, driver: WorkerDriver) -> None:
    part.batches.append([task(1), messages.CancelTask(1), messages.CancelTask(7)])
    driver.turn(0.1)
    assert part.told == [("begin", [1]), ("cancel", 1), ("cancel", 7)]


def test_quick_handlers_read_one_batch_a_turn(part: Part, driver: WorkerDriver) -> None:
    part.batches.append([task(1)])
    driver.turn(0.1)
    part.reports.append(TasksFinished([ok(1)], 1e-5))
    part.batches.extend([[task(2)], [task(3)]])
    driver.turn(0.2)
    assert len(part.batches) == 1
    driver.turn(0.3)
    assert not part.batches


def test_a_reconnection_that_fails_is_tried_again(part: Part, driver: WorkerDriver) -> None:
    for second in range(1, 4):
        driver.turn(float(second))
    part.take_told()
    part.can_reconnect = False
    driver.turn(3.1)
    assert part.take_told() == ["reconnect"]
    assert driver.wake_at == 3.1 + WORKER_RECONNECT_S
    part.can_reconnect = True
    driver.turn(3.1 + WORKER_RECONNECT_S)
    assert part.take_told() == ["reconnect"]
    assert driver.wake_at == math.inf


def test_what_could_not_be_sent_is_tried_again_soon(part: Part, driver: WorkerDriver) -> None:
    part.has_unsent = True
    driver.turn(0.1)
    assert driver.wake_at == 0.1 + UNSENT_RETRY_S
    assert part.take_told() == [[]]
    part.has_unsent = False
    driver.turn(0.2)
    assert part.take_told() == []


def test_it_ends_when_it_is_stopped(part: Part, driver: WorkerDriver) -> None:
    assert not driver.is_over
    driver.turn(0.1, stop_by=5.0)
    assert part.told == [[messages.Credit(0), messages.Goodbye()]]
    assert driver.is_over
    part.changes = [True]
    part.batches.append([WELCOME])
    driver.turn(0.2)
    assert len(part.told) == 1


def test_it_ends_with_the_refusal(part: Part) -> None:
    refused = messages.Refused(messages.Refusal.VERSION, "why")
    driver = WorkerDriver(WorkerCore("W1", "boot", [""], 1), part, part)
    part.batches.append([refused])
    driver.turn(0.0)
    assert driver.is_over
    assert driver.core.refused == refused


def test_a_task_that_takes_too_long_is_answered_in_the_same_turn(part: Part, driver: WorkerDriver) -> None:
    part.batches.append([task(1)])
    driver.turn(0.0)
    part.reports = [HandlerCalled(1, 2.0)]
    driver.report(0.0)
    part.take_told()
    assert driver.wake_at <= 2.0
    driver.turn(2.0)
    told = part.take_told()
    assert told.index(("end", 1)) < told.index([messages.Answer(1, Status.FAILED, b"late"), messages.Credit(0)])
    driver.turn(3.0)
    assert ("stuck", 1) in part.take_told()
