"""Handlers that take longer than they may: their tasks are answered, and their slots are not counted on until they end."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.messages import Status, error_body
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import (
    Connected,
    End,
    EndOverdue,
    HandlerCalled,
    Order,
    StopRequested,
    TasksFinished,
    TasksOverdue,
    TasksReturned,
    TellStuck,
)
from cbw.core.worker.time_limits import UNWIND_S

from .sessions import WELCOME, arrived, begun, busy, ok, sent, task, wanted_back

LIMIT_S = 5.0


def late(number: int) -> messages.Answer:
    return messages.Answer(number, Status.FAILED, error_body("TimeLimit", "too long"))


def to_end(orders: list[Order]) -> list[int]:
    return [task for order in orders if isinstance(order, EndOverdue) for task in order.tasks]


def told_stuck(orders: list[Order]) -> list[int]:
    return [task for order in orders if isinstance(order, TellStuck) for task in order.tasks]


def limited(*numbers: int, concurrency: int = 1, exits_when_stuck: bool = False) -> WorkerCore:
    """A worker whose handlers have begun these tasks at time 0."""
    core = WorkerCore("W1", "boot", [""], concurrency, exits_when_stuck=exits_when_stuck)
    core.step([Connected()], 0.0)
    core.step([arrived(WELCOME, *map(task, numbers))], 0.0)
    assert core.step([HandlerCalled(number, LIMIT_S) for number in numbers], 0.0) == []
    return core


def overdue(core: WorkerCore, *numbers: int) -> list[messages.Message]:
    """Let these exceed their limits; what is said then."""
    assert to_end(core.step([], LIMIT_S)) == list(numbers)
    return sent(core.step([TasksOverdue([*map(late, numbers)])], LIMIT_S))


def test_a_task_is_ended_at_its_limit_and_not_before() -> None:
    core = limited(1)
    core.step([], LIMIT_S - 0.01)
    assert core.wake_at <= LIMIT_S
    assert overdue(core, 1) == [late(1), messages.Credit(0)]
    assert (core.tasks_done, core.tasks_failed, core.limits.exceeded) == (1, 1, 1)


def test_a_task_that_has_ended_in_time_is_left_alone() -> None:
    core = limited(1)
    assert sent(core.step([TasksFinished([ok(1)], 0.5)], 0.5)) == [ok(1)]
    assert to_end(core.step([], LIMIT_S)) == []
    assert core.limits.exceeded == 0


def test_a_task_that_ends_while_it_is_ended_has_its_own_answer() -> None:
    """The pool says that there is nothing to end, and has reported the answer already."""
    core = limited(1)
    assert to_end(core.step([], LIMIT_S)) == [1]
    assert sent(core.step([TasksOverdue([])], LIMIT_S)) == []
    assert sent(core.step([TasksFinished([ok(1)], LIMIT_S)], LIMIT_S)) == [ok(1)]


def test_a_handler_that_ends_soon_gives_its_slot_back_and_is_not_answered_for_twice() -> None:
    core = limited(1)
    overdue(core, 1)
    assert sent(core.step([TasksFinished([ok(1)], LIMIT_S)], LIMIT_S + 0.1)) == [messages.Credit(1)]
    assert told_stuck(core.step([], LIMIT_S + 2 * UNWIND_S)) == []
    assert core.tasks_done == 1


def test_a_handler_that_goes_on_is_stuck_and_others_get_what_waits_behind_it() -> None:
    core = limited(1, concurrency=1)
    core.step([arrived(task(2))], 1.0)  # sent ahead: it waits for the slot
    overdue(core, 1)
    orders = core.step([], LIMIT_S + UNWIND_S)
    assert told_stuck(orders) == [1]
    assert wanted_back(orders) == [2]
    assert core.limits.slots_held == 1
    assert not core.is_ended


def test_a_stuck_handler_that_returns_at_last_gives_its_slot_back() -> None:
    core = limited(1, concurrency=2)
    assert overdue(core, 1) == [late(1), messages.Credit(1)]
    assert told_stuck(core.step([], LIMIT_S + UNWIND_S)) == [1]
    assert messages.Credit(2) in sent(core.step([TasksFinished([ok(1)], 60.0)], 60.0))
    assert core.limits.stuck == {}


def test_no_more_is_taken_than_slots_are_left() -> None:
    core = limited(1, 2, concurrency=2)
    overdue(core, 1, 2)
    orders = core.step([arrived(task(3))], LIMIT_S)  # the broker did not know yet
    assert begun(orders) == []
    assert messages.Returned([3]) in sent(orders)


@pytest.mark.parametrize("exits", [True, False])
def test_a_worker_of_which_all_handlers_are_stuck_leaves_if_it_shall(exits: bool) -> None:
    core = limited(1, 2, concurrency=2, exits_when_stuck=exits)
    overdue(core, 1, 2)
    orders = core.step([], LIMIT_S + UNWIND_S)
    assert told_stuck(orders) == [1, 2]
    assert core.has_left_stuck is exits
    assert any(isinstance(order, End) for order in orders) is exits
    assert (messages.Goodbye() in sent(orders)) is exits


def test_it_does_not_leave_while_one_can_work() -> None:
    core = limited(1, concurrency=2, exits_when_stuck=True)
    overdue(core, 1)
    core.step([], LIMIT_S + UNWIND_S)
    assert not core.is_leaving


def test_it_gives_back_what_it_has_not_begun_before_it_leaves() -> None:
    core = limited(1, exits_when_stuck=True)
    core.step([arrived(task(2))], 1.0)
    overdue(core, 1)
    assert 2 in wanted_back(core.step([], LIMIT_S + UNWIND_S))
    orders = core.step([TasksReturned([2])], LIMIT_S + UNWIND_S)
    assert messages.Returned([2]) in sent(orders)
    assert any(isinstance(order, End) for order in orders)


def test_a_worker_that_is_to_end_does_not_wait_for_a_stuck_handler() -> None:
    core = limited(1)
    overdue(core, 1)
    orders = core.step([StopRequested(LIMIT_S + 60.0)], LIMIT_S + 0.1)
    assert any(isinstance(order, End) for order in orders)


def test_a_task_of_an_earlier_session_has_its_limit_too() -> None:
    core = limited(1)
    core.step([Connected()], 1.0)
    core.step([arrived(WELCOME)], 1.0)
    assert messages.Credit(1) not in overdue(core, 1)
    assert core.left_over == []
    assert core.limits.slots_held == 1


def test_quick_handlers_with_a_limit_do_not_run_in_the_thread_that_looks_at_the_time() -> None:
    core = limited(1)
    core.step([TasksFinished([ok(1)], 1e-5)], 0.1)
    assert not core.is_quick
    other = busy(1)
    other.step([TasksFinished([ok(1)], 1e-5)], 0.1)
    assert other.is_quick
