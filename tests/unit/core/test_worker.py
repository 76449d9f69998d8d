"""The worker's core, fact by fact: its session, its credit, what it owes for an earlier session, how it leaves."""

from __future__ import annotations

import pytest

from cbw.core import messages as m
from cbw.core.hello import DUPLICATE_PATIENCE_S, HELLO_RETRY_S
from cbw.core.messages import Refusal, Status
from cbw.core.worker import (
    AHEAD_MAX,
    BEAT_S,
    LATE_MAX,
    WorkerCore,
)

LIVENESS_S = 3.0
BODY_BYTES_MAX = 1000
SLOW_S = 1.0
QUICK_S = 1e-5
WELCOME = m.Welcome("BRO", "0.1", LIVENESS_S, BODY_BYTES_MAX)


def task(number: int) -> m.Task:
    return m.Task(number, "", b"body", None, 1)


def ok(number: int, body: bytes = b"done") -> m.Answer:
    return m.Answer(number, Status.OK, body)


def started(concurrency: int = 1) -> WorkerCore:
    """A worker that has said hello at time 0."""
    core = WorkerCore("W1", "boot", [""], concurrency)
    core.connected(0.0)
    assert [type(message) for message in core.take_messages()] == [m.WorkerHello]
    return core


def welcomed(concurrency: int = 1) -> WorkerCore:
    """A worker that the broker knows."""
    core = started(concurrency)
    core.received([WELCOME], 0.0)
    assert core.take_messages() == []
    return core


def busy(*numbers: int, concurrency: int = 1) -> WorkerCore:
    """A worker that has begun these tasks."""
    core = welcomed(concurrency)
    core.received([task(number) for number in numbers], 0.0)
    assert [begun.id for begun in core.take_tasks()] == list(numbers)
    return core


# --- the session


def test_says_hello_with_what_it_is() -> None:
    core = WorkerCore("W1", "boot", ["a", "b"], 3)
    assert core.take_messages() == []
    core.connected(0.0)
    assert core.take_messages() == [m.WorkerHello("W1", "boot", ["a", "b"], 3, 3)]


def test_a_hello_without_an_answer_is_said_again() -> None:
    core = started()
    core.tick(BEAT_S - 0.01)
    assert core.take_messages() == []
    core.tick(BEAT_S)
    assert [type(message) for message in core.take_messages()] == [m.WorkerHello]


def test_a_task_is_begun_once_and_answered() -> None:
    core = welcomed()
    core.received([task(1)], 0.0)
    assert [begun.id for begun in core.take_tasks()] == [1]
    assert core.take_tasks() == []
    core.finished([ok(1)], SLOW_S, 1.0)
    assert core.take_messages() == [ok(1)]
    assert (core.done, core.failed, dict(core.in_hand)) == (1, 0, {})


def test_a_task_before_the_welcome_is_of_an_earlier_connection() -> None:
    core = started()
    core.received([task(1), WELCOME, task(2)], 0.0)
    assert [begun.id for begun in core.take_tasks()] == [2]


def test_beats_when_it_is_idle() -> None:
    core = welcomed()
    core.tick(BEAT_S)
    assert core.take_messages() == [m.Beat()]
    core.tick(BEAT_S + 0.1)
    assert core.take_messages() == []
    assert core.wake_at == 2 * BEAT_S


def test_connects_again_when_the_broker_is_silent() -> None:
    core = busy(1)
    for second in range(1, 4):
        core.tick(float(second))
        assert not core.is_reconnect_wanted
    core.tick(LIVENESS_S + 0.1)
    assert core.is_reconnect_wanted
    assert list(core.left_over) == [1]


def test_one_that_was_frozen_lets_the_broker_speak_first() -> None:
    core = welcomed()
    core.tick(BEAT_S)
    core.take_messages()
    core.tick(60.0)
    assert not core.is_reconnect_wanted
    assert core.take_messages() == [m.Beat()]
    core.tick(60.0 + BEAT_S + 0.1)  # it did not: BEAT_S is all that it gets
    assert core.is_reconnect_wanted


def test_says_hello_again_when_the_broker_does_not_know_it() -> None:
    core = busy(1)
    core.received([m.HelloAgain()], 1.0)
    (hello,) = core.take_messages()
    assert hello == m.WorkerHello("W1", "boot", [""], 1, 0)  # its only slot has the handler of the earlier session
    core.received([m.HelloAgain()], 1.1)
    assert core.take_messages() == []  # the hello is on its way


def test_what_has_not_begun_is_forgotten_with_the_connection() -> None:
    core = welcomed()
    core.received([task(1)], 0.0)
    core.disconnected(0.5)
    assert core.take_tasks() == []
    assert not core.in_hand and not core.left_over


@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason is not Refusal.DUPLICATE_ID])
def test_a_refusal_ends_it(reason: Refusal) -> None:
    core = started()
    core.received([m.Refused(reason, "why")], 0.0)
    assert core.is_done
    assert core.refused == m.Refused(reason, "why")
    core.received([WELCOME, task(1)], 0.1)
    assert core.take_tasks() == []


def test_a_refused_id_is_tried_again_for_a_while() -> None:
    core = started()
    refused = m.Refused(Refusal.DUPLICATE_ID, "W1 is here")
    now = 0.0
    tries = 0
    while not core.is_done:
        core.received([refused], now)
        now += HELLO_RETRY_S
        core.tick(now)
        tries += len(core.take_messages())
    assert core.refused == refused
    assert tries == DUPLICATE_PATIENCE_S / HELLO_RETRY_S


def test_and_for_longer_if_the_broker_notices_later_that_the_owner_is_dead() -> None:
    core = started()
    refused = m.Refused(Refusal.DUPLICATE_ID, "W1 is here", 10.0)
    core.received([refused], 0.0)
    core.received([refused], 10.5)
    assert not core.is_done
    core.received([refused], 11.0)
    assert core.is_done


def test_a_task_that_comes_twice_is_begun_once() -> None:
    core = busy(1)
    core.take_tasks()
    core.received([task(2), task(2)], 0.1)
    assert [one.id for one in core.take_tasks()] == [2]
    core.received([task(3), task(3), m.HelloAgain()], 0.2)
    assert core.take_tasks() == []


def test_a_task_that_still_runs_for_an_earlier_session_is_given_back() -> None:
    core = busy(1)
    core.take_tasks()
    core.disconnected(0.1)
    core.connected(0.2)
    core.received([WELCOME], 0.2)
    core.take_messages()
    core.received([task(1)], 0.3)
    assert core.take_tasks() == []
    assert core.take_messages() == [m.Returned([1])]


def test_and_for_as_long_after_the_next_connection() -> None:
    core = started()
    refused = m.Refused(Refusal.DUPLICATE_ID, "W1 is here")
    core.received([refused], 0.0)
    core.disconnected(1.0)
    core.connected(100.0)
    core.received([refused], 100.0)
    assert not core.is_done


def test_an_id_that_is_free_again_is_had() -> None:
    core = started()
    core.received([m.Refused(Refusal.DUPLICATE_ID, "W1 is here")], 0.0)
    core.tick(HELLO_RETRY_S)
    core.received([WELCOME], HELLO_RETRY_S)
    core.tick(DUPLICATE_PATIENCE_S + 1)
    assert not core.is_done


# --- credit


def test_quick_handlers_want_work_ahead() -> None:
    core = busy(1)
    core.finished([ok(1)], QUICK_S, 0.1)
    answer, credit = core.take_messages()
    assert answer == ok(1)
    assert isinstance(credit, m.Credit)
    assert 1 < credit.tasks <= 1 + AHEAD_MAX
    assert core.is_quick


def test_slow_handlers_want_none() -> None:
    core = busy(1, 2, concurrency=2)
    core.finished([ok(1)], QUICK_S, 0.1)
    core.take_messages()
    core.finished([ok(2)], SLOW_S, 1.1)  # one slow one is enough
    assert core.take_messages() == [ok(2), m.Credit(2)]
    assert not core.is_quick


def test_an_answer_over_the_size_of_the_broker_is_an_error() -> None:
    core = busy(1, 2, concurrency=2)
    core.finished([ok(1, b"x" * BODY_BYTES_MAX)], SLOW_S, 1.0)
    core.finished([ok(2, b"x" * (BODY_BYTES_MAX + 1))], SLOW_S, 1.0)
    fits, too_big = core.take_messages()
    assert fits == ok(1, b"x" * BODY_BYTES_MAX)
    assert isinstance(too_big, m.Answer)
    assert (too_big.id, too_big.status) == (2, Status.FAILED)
    assert b"--body-bytes-max" in too_big.body


def test_counts_what_failed() -> None:
    core = busy(1, 2, concurrency=2)
    core.finished([ok(1), m.Answer(2, Status.FAILED, b"")], 2 * SLOW_S, 1.0)
    assert (core.done, core.failed) == (2, 1)


# --- handlers of a session that is over


def test_a_left_over_handler_has_its_slot() -> None:
    core = busy(1, concurrency=2)
    core.received([m.HelloAgain()], 1.0)
    (hello,) = core.take_messages()
    assert isinstance(hello, m.WorkerHello)
    assert (hello.concurrency, hello.credit) == (2, 1)
    core.received([WELCOME], 1.0)
    core.finished([ok(1)], SLOW_S, 1.5)
    assert core.take_messages() == [ok(1), m.Credit(2)]  # late, for the broker to fence off


def test_a_task_that_came_before_the_broker_knew_of_a_left_over_handler_goes_back() -> None:
    """Two welcomes for two hellos: between them a task was begun, and the next one would lie behind its handler."""
    core = busy(1)
    core.received([WELCOME, task(2)], 1.0)
    assert core.take_tasks() == []
    assert core.take_messages() == [m.Credit(0), m.Returned([2])]
    core.finished([ok(1)], SLOW_S, 1.5)
    assert core.take_messages() == [ok(1), m.Credit(1)]
    core.received([task(3)], 1.6)
    assert [begun.id for begun in core.take_tasks()] == [3]


def test_a_task_for_a_slot_beside_a_left_over_handler_is_begun() -> None:
    core = busy(1, concurrency=2)
    core.received([WELCOME, task(2), task(3)], 1.0)
    assert [begun.id for begun in core.take_tasks()] == [2]
    assert core.take_messages() == [m.Credit(1), m.Returned([3])]


def test_a_late_answer_waits_for_the_next_session() -> None:
    core = busy(1)
    core.disconnected(0.5)
    core.finished([ok(1)], SLOW_S, 1.0)
    assert core.take_messages() == []
    core.connected(2.0)
    assert core.take_messages() == [m.WorkerHello("W1", "boot", [""], 1, 1)]
    core.received([WELCOME], 2.0)
    assert core.take_messages() == [ok(1)]


def test_what_the_pool_has_is_wanted_back_when_the_connection_is_lost() -> None:
    """What has not begun would be run for nobody."""
    core = busy(1, 2, concurrency=2)
    core.disconnected(1.0)
    assert core.to_take_back == [1, 2]


def test_late_answers_are_bounded() -> None:
    numbers = range(1, LATE_MAX + 3)
    core = busy(*numbers, concurrency=LATE_MAX + 2)
    core.disconnected(0.5)
    core.finished([ok(number) for number in numbers], SLOW_S, 1.0)
    core.connected(2.0)
    core.take_messages()
    core.received([WELCOME], 2.0)
    late = [message for message in core.take_messages() if isinstance(message, m.Answer)]
    assert [answer.id for answer in late] == list(numbers)[2:]


# --- recalls


def test_a_recall_is_for_the_pool() -> None:
    core = welcomed()
    core.received([task(1), task(2), m.Recall([2])], 0.0)
    assert core.to_take_back == [2]
    core.returned([2], 0.0)
    assert core.take_messages() == [m.Returned([2])]
    assert list(core.in_hand) == [1]


def test_a_recall_of_what_has_begun_is_answered_too() -> None:
    core = busy(1)
    core.received([m.Recall([1])], 0.0)
    core.returned([], 0.0)
    assert core.take_messages() == [m.Returned([])]
    assert list(core.in_hand) == [1]


def test_a_recall_may_be_answered_later() -> None:
    """A pool of processes asks its children, and goes on meanwhile."""
    core = busy(1, 2, 3)
    core.received([m.Recall([2, 3])], 0.0)
    core.finished([ok(1), ok(2)], 2 * SLOW_S, 1.0)
    core.returned([3], 1.0)
    assert core.take_messages() == [ok(1), ok(2), m.Returned([3])]
    assert not core.in_hand


# --- a pool that cannot run anything


def test_nothing_is_wanted_while_the_pool_is_not_able() -> None:
    core = WorkerCore("W1", "boot", [""], 2)
    core.able(False)
    core.connected(0.0)
    (hello,) = core.take_messages()
    assert isinstance(hello, m.WorkerHello)
    assert (hello.concurrency, hello.credit) == (2, 0)
    core.received([WELCOME], 0.0)
    core.able(False)
    assert core.take_messages() == []
    core.able(True)
    core.able(True)
    assert core.take_messages() == [m.Credit(2)]


def test_what_comes_for_a_pool_that_is_not_able_goes_back() -> None:
    core = busy(1)
    core.able(False)
    core.received([task(2)], 1.0)  # was on its way
    assert core.take_tasks() == []
    assert core.take_messages() == [m.Credit(0), m.Returned([2])]
    assert list(core.in_hand) == [1]  # the pool tells what becomes of it
    core.able(True)
    assert core.take_messages() == [m.Credit(1)]


# --- cancels


def test_a_cancelled_task_is_for_the_pool() -> None:
    core = busy(1)
    core.received([m.CancelTask(1)], 0.0)
    assert core.to_cancel == [1]


# --- leaving


def test_an_idle_worker_leaves_at_once() -> None:
    core = welcomed()
    core.stop_requested(1.0, by=10.0)
    assert core.is_done
    assert core.take_messages() == [m.Credit(0), m.Goodbye()]


def test_a_busy_one_finishes_what_it_began_and_returns_the_rest() -> None:
    core = busy(1, 2, concurrency=1)
    core.stop_requested(1.0, by=10.0)
    assert not core.is_done
    assert core.to_take_back == [1, 2]
    core.returned([2], 1.0)
    assert core.take_messages() == [m.Credit(0), m.Returned([2])]
    core.received([task(3)], 1.1)  # was on its way
    assert core.take_messages() == [m.Returned([3])]
    core.finished([ok(1)], SLOW_S, 2.0)
    assert core.is_done
    assert core.take_messages() == [ok(1), m.Goodbye()]


def test_what_runs_over_the_grace_has_crashed() -> None:
    core = busy(1)
    core.stop_requested(1.0, by=10.0)
    core.take_messages()
    assert core.wake_at <= 10.0
    core.tick(10.0)
    assert core.is_done
    *_, crashed, goodbye = core.take_messages()
    assert isinstance(crashed, m.Answer)
    assert (crashed.id, crashed.status) == (1, Status.CRASHED)
    assert goodbye == m.Goodbye()


def test_a_second_stop_shortens_the_grace() -> None:
    core = busy(1)
    core.stop_requested(1.0, by=10.0)
    core.stop_requested(2.0, by=3.0)
    core.stop_requested(2.0, by=20.0)
    core.tick(3.0)
    assert core.is_done


def test_leaves_without_a_connection() -> None:
    core = WorkerCore("W1", "boot", [""], 1)
    core.stop_requested(0.0, by=1.0)
    assert core.is_done
    assert core.take_messages() == []
    core.connected(0.1)
    assert core.take_messages() == []


# --- what is easily forgotten


def test_what_the_pool_gives_back_of_an_earlier_session_has_no_slot_any_more() -> None:
    core = busy(1, 2, concurrency=2)
    core.received([m.HelloAgain()], 1.0)
    core.returned([1, 2], 1.0)
    core.take_messages()
    core.received([WELCOME], 1.0)
    assert core.take_messages() == [m.Credit(2)]


def test_after_the_brokers_goodbye_nothing_is_begun() -> None:
    core = busy(1)
    core.received([m.Goodbye()], 1.0)
    assert core.broker is None
    assert not core.in_hand
    core.received([task(2)], 1.0)
    assert core.take_tasks() == []


def test_after_a_freeze_the_broker_may_speak_first() -> None:
    core = welcomed()
    core.tick(100.0)
    assert not core.is_reconnect_wanted
    core.tick(100.0 + BEAT_S / 2)
    assert not core.is_reconnect_wanted
    core.tick(100.0 + 1.5 * BEAT_S)
    assert core.is_reconnect_wanted


def test_with_several_at_once_none_is_quick() -> None:
    """Quick ones run where the socket is, one at a time."""
    for concurrency, is_quick in ((1, True), (2, False)):
        core = busy(1, concurrency=concurrency)
        core.finished([ok(1)], QUICK_S, 1.0)
        assert core.is_quick is is_quick


def test_it_wakes_when_its_grace_is_over() -> None:
    core = busy(1)
    core.stop_requested(0.1, 0.2)
    assert core.wake_at <= 0.2
