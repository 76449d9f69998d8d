"""What a worker wants ahead, gives back when it is asked, and tells of what it has done."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.core import PREFETCH_MAX, WorkerCore
from cbw.core.worker.events import Begin, CancelTasks, Connected, PoolNotReady, PoolReady, TakeBack, TasksReturned

from .sessions import (
    BODY_BYTES_MAX,
    QUICK_S,
    SLOW_S,
    WELCOME,
    arrived,
    begun,
    busy,
    finished,
    ok,
    sent,
    task,
    wanted_back,
    welcomed,
)

# --- credit


def test_quick_handlers_want_work_ahead() -> None:
    core = busy(1)
    answer, credit = sent(core.step([finished(ok(1), busy_s=QUICK_S)], 0.1))
    assert answer == ok(1)
    assert isinstance(credit, messages.Credit)
    assert 1 < credit.tasks <= 1 + PREFETCH_MAX
    assert core.is_quick


def test_slow_handlers_want_none() -> None:
    core = busy(1, 2, concurrency=2)
    core.step([finished(ok(1), busy_s=QUICK_S)], 0.1)
    # One slow one is enough.
    assert sent(core.step([finished(ok(2))], 0.9)) == [ok(2), messages.Credit(2)]
    assert not core.is_quick


def test_an_answer_over_the_size_of_the_broker_is_an_error() -> None:
    core = busy(1, 2, concurrency=2)
    fits, too_big = sent(
        core.step([finished(ok(1, b"x" * BODY_BYTES_MAX)), finished(ok(2, b"x" * (BODY_BYTES_MAX + 1)))], 0.9)
    )
    assert fits == ok(1, b"x" * BODY_BYTES_MAX)
    assert isinstance(too_big, messages.Answer)
    assert (too_big.id, too_big.status) == (2, Status.TOO_BIG)
    assert b"--body-bytes-max" in too_big.body


def test_counts_what_failed() -> None:
    core = busy(1, 2, concurrency=2)
    core.step([finished(ok(1), messages.Answer(2, Status.FAILED, b""), busy_s=2 * SLOW_S)], 1.0)
    assert (core.tasks_done, core.tasks_failed) == (2, 1)


def test_with_several_at_once_none_is_quick() -> None:
    """Quick ones run where the socket is, one at a time."""
    for concurrency, is_quick in ((1, True), (2, False)):
        core = busy(1, concurrency=concurrency)
        core.step([finished(ok(1), busy_s=QUICK_S)], 1.0)
        assert core.is_quick is is_quick


# --- recalls


def test_a_recall_is_for_the_pool() -> None:
    core = welcomed()
    orders = core.step([arrived(task(1), task(2), messages.Recall([2]))], 0.0)
    assert [type(order) for order in orders] == [Begin, TakeBack]
    assert wanted_back(orders) == [2]
    assert sent(core.step([TasksReturned([2])], 0.0)) == [messages.Returned([2])]
    assert core.in_hand == [1]


def test_a_recall_of_what_has_begun_is_answered_too() -> None:
    core = busy(1)
    core.step([arrived(messages.Recall([1]))], 0.0)
    assert sent(core.step([TasksReturned([])], 0.0)) == [messages.Returned([])]
    assert core.in_hand == [1]


def test_a_recall_may_be_answered_later() -> None:
    """A pool of processes asks its children, and goes on meanwhile."""
    core = busy(1, 2, 3)
    core.step([arrived(messages.Recall([2, 3]))], 0.0)
    orders = core.step([finished(ok(1), ok(2), busy_s=2 * SLOW_S), TasksReturned([3])], 0.9)
    assert sent(orders) == [ok(1), ok(2), messages.Returned([3])]
    assert not core.in_hand


# --- a pool that cannot run anything


def test_nothing_is_wanted_while_the_pool_is_not_ready() -> None:
    core = WorkerCore("W1", "boot", [""], 2)
    (hello,) = sent(core.step([PoolNotReady(), Connected()], 0.0))
    assert isinstance(hello, messages.WorkerHello)
    assert (hello.concurrency, hello.credit) == (2, 0)
    assert sent(core.step([arrived(WELCOME), PoolNotReady()], 0.0)) == []
    assert sent(core.step([PoolReady(), PoolReady()], 0.0)) == [messages.Credit(2)]


def test_what_comes_for_a_pool_that_is_not_ready_goes_back() -> None:
    core = busy(1)
    orders = core.step([PoolNotReady(), arrived(task(2))], 0.9)  # the task was on its way
    assert begun(orders) == []
    assert sent(orders) == [messages.Credit(0), messages.Returned([2])]
    assert core.in_hand == [1]  # the pool tells what becomes of it
    assert sent(core.step([PoolReady()], 0.9)) == [messages.Credit(1)]


# --- cancels


def test_a_cancelled_task_is_for_the_pool() -> None:
    core = busy(1)
    assert core.step([arrived(messages.CancelTask(1))], 0.0) == [CancelTasks([1])]
