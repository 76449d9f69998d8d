"""The worker's core, fact by fact: its session, its credit, what it owes for an earlier session, how it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from cbw.core import messages
from cbw.core.hello import DUPLICATE_PATIENCE_S, HELLO_RETRY_S
from cbw.core.messages import Refusal, Status
from cbw.core.worker.broker_session import (
    LATE_ANSWERS_MAX,
    TRANSITIONS,
    WORKER_BEAT_S,
    WORKER_RECONNECT_S,
    Registration,
)
from cbw.core.worker.core import PREFETCH_MAX, WorkerCore
from cbw.core.worker.events import (
    BatchArrived,
    Begin,
    CancelTasks,
    Connected,
    Disconnected,
    End,
    Order,
    PoolNotReady,
    PoolReady,
    Reconnect,
    ReconnectFailed,
    Send,
    StopRequested,
    TakeBack,
    TasksFinished,
    TasksReturned,
)

LIVENESS_S = 3.0
BODY_BYTES_MAX = 1000
SLOW_S = 1.0
QUICK_S = 1e-5
WELCOME = messages.Welcome("BRO", "0.1", LIVENESS_S, BODY_BYTES_MAX)
TAKEN = messages.Refused(Refusal.DUPLICATE_ID, "W1 is here")


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


# --- the session


def test_says_hello_with_what_it_is() -> None:
    core = WorkerCore("W1", "boot", ["a", "b"], 3)
    assert core.step([], 0.0) == []
    assert sent(core.step([Connected()], 0.0)) == [messages.WorkerHello("W1", "boot", ["a", "b"], 3, 3)]


def test_a_hello_without_an_answer_is_said_again() -> None:
    core = started()
    assert core.step([], WORKER_BEAT_S - 0.01) == []
    assert [type(message) for message in sent(core.step([], WORKER_BEAT_S))] == [messages.WorkerHello]


def test_a_task_is_begun_once_and_answered() -> None:
    core = welcomed()
    assert begun(core.step([arrived(task(1))], 0.0)) == [1]
    assert begun(core.step([], 0.0)) == []
    assert core.step([finished(ok(1))], 0.9) == [Send([ok(1)])]
    assert (core.tasks_done, core.tasks_failed, core.in_hand) == (1, 0, [])


def test_a_task_before_the_welcome_is_of_an_earlier_connection() -> None:
    core = started()
    assert begun(core.step([arrived(task(1), WELCOME, task(2))], 0.0)) == [2]


def test_beats_when_it_is_idle() -> None:
    core = welcomed()
    assert sent(core.step([], WORKER_BEAT_S)) == [messages.Beat()]
    assert core.step([], WORKER_BEAT_S + 0.1) == []
    assert core.wake_at == 2 * WORKER_BEAT_S


def test_connects_again_when_the_broker_is_silent() -> None:
    core = busy(1)
    for second in range(1, 4):
        assert Reconnect() not in core.step([], float(second))
    assert core.step([], LIVENESS_S + 0.1) == [Reconnect(), TakeBack([1])]
    assert core.left_over == [1]
    assert core.sessions[0].registration is Registration.DISCONNECTED


def test_a_broker_that_says_anything_is_not_silent() -> None:
    core = welcomed()
    for second in range(1, 20):
        assert Reconnect() not in core.step([arrived(messages.Beat())] if second % 3 == 0 else [], float(second))
        assert core.wake_at > second


def test_a_reconnection_that_cannot_be_begun_is_tried_again() -> None:
    core = welcomed()
    for second in range(1, 4):
        core.step([], float(second))
    assert core.step([], LIVENESS_S + 0.1) == [Reconnect()]
    now = LIVENESS_S + 0.1
    for _ in range(3):
        assert core.step([ReconnectFailed()], now) == []
        assert core.wake_at == now + WORKER_RECONNECT_S
        now += WORKER_RECONNECT_S
        assert core.step([], now) == [Reconnect()]
    assert core.wake_at == math.inf
    assert [type(message) for message in sent(core.step([Connected()], now + 1))] == [messages.WorkerHello]


def test_one_that_was_frozen_lets_the_broker_speak_first() -> None:
    core = welcomed()
    core.step([], WORKER_BEAT_S)
    assert core.step([], 60.0)[1:] == [Send([messages.Beat()])]  # it tells that it stood still, and beats
    # The broker does not speak: WORKER_BEAT_S is all that it gets.
    assert Reconnect() in core.step([], 60.0 + WORKER_BEAT_S + 0.1)


def test_says_hello_again_when_the_broker_does_not_know_it() -> None:
    core = busy(1)
    (hello,) = sent(core.step([arrived(messages.HelloAgain())], 1.0))
    # Its only slot has the handler of the earlier session.
    assert hello == messages.WorkerHello("W1", "boot", [""], 1, 0, [1])
    assert sent(core.step([arrived(messages.HelloAgain())], 1.1)) == []  # the hello is on its way


def test_what_has_not_begun_is_forgotten_with_the_connection() -> None:
    core = welcomed()
    assert begun(core.step([arrived(task(1)), Disconnected()], 0.5)) == []
    assert not core.in_hand and not core.left_over


def test_what_comes_over_a_connection_that_is_lost_is_void() -> None:
    core = welcomed()
    core.step([Disconnected()], 0.5)
    assert core.step([arrived(WELCOME, task(1), messages.Recall([1]))], 0.5) == []
    assert core.sessions[0].registration is Registration.DISCONNECTED


@pytest.mark.parametrize("reason", [reason for reason in Refusal if reason is not Refusal.DUPLICATE_ID])
def test_a_refusal_ends_it(reason: Refusal) -> None:
    core = started()
    refused = messages.Refused(reason, "why")
    assert core.step([arrived(refused, WELCOME, task(1)), arrived(WELCOME, task(2))], 0.0) == [End(refused)]
    assert core.is_ended
    assert core.refused == refused
    assert core.step([arrived(WELCOME, task(1))], 0.1) == []


def test_a_refused_id_is_tried_again_for_a_while() -> None:
    core = started()
    now = 0.0
    tries = 0
    while not core.is_ended:
        core.step([arrived(TAKEN)], now)
        now += HELLO_RETRY_S
        tries += len(sent(core.step([], now)))
    assert core.refused == TAKEN
    assert tries == DUPLICATE_PATIENCE_S / HELLO_RETRY_S


def test_and_for_longer_if_the_broker_notices_later_that_the_owner_is_dead() -> None:
    core = started()
    refused = messages.Refused(Refusal.DUPLICATE_ID, "W1 is here", 10.0)
    core.step([arrived(refused)], 0.0)
    core.step([arrived(refused)], 10.5)
    assert not core.is_ended
    core.step([arrived(refused)], 11.0)
    assert core.is_ended


def test_a_registered_worker_whose_id_is_refused_says_hello_again() -> None:
    core = busy(1)
    assert core.step([arrived(TAKEN)], 1.0) == [TakeBack([1])]
    assert [type(message) for message in sent(core.step([], 1.0 + HELLO_RETRY_S))] == [messages.WorkerHello]


def test_a_task_that_comes_twice_is_begun_once() -> None:
    core = busy(1)
    assert begun(core.step([arrived(task(2), task(2))], 0.1)) == [2]
    assert begun(core.step([arrived(task(3), task(3), messages.HelloAgain())], 0.2)) == []


def test_a_task_that_still_runs_for_an_earlier_session_is_given_back() -> None:
    core = busy(1)
    core.step([Disconnected()], 0.1)
    core.step([Connected()], 0.2)
    core.step([arrived(WELCOME)], 0.2)
    orders = core.step([arrived(task(1))], 0.3)
    assert begun(orders) == []
    assert sent(orders) == [messages.Returned([1])]


def test_and_for_as_long_after_the_next_connection() -> None:
    core = started()
    core.step([arrived(TAKEN)], 0.0)
    core.step([Disconnected()], 1.0)
    core.step([Connected()], 100.0)
    core.step([arrived(TAKEN)], 100.0)
    assert not core.is_ended


def test_an_id_that_is_free_again_is_had() -> None:
    core = started()
    core.step([arrived(TAKEN)], 0.0)
    core.step([], HELLO_RETRY_S)
    core.step([arrived(WELCOME)], HELLO_RETRY_S)
    core.step([], DUPLICATE_PATIENCE_S + 1)
    assert not core.is_ended


def test_every_session_can_end() -> None:
    for session in (Registration.DISCONNECTED, Registration.GREETING, Registration.REGISTERED):
        assert Registration.ENDED in TRANSITIONS[session]
    assert TRANSITIONS.keys() == set(Registration)


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


# --- handlers of a session that is over


def test_a_left_over_handler_has_its_slot() -> None:
    core = busy(1, concurrency=2)
    (hello,) = sent(core.step([arrived(messages.HelloAgain())], 1.0))
    assert isinstance(hello, messages.WorkerHello)
    assert (hello.concurrency, hello.credit) == (2, 1)
    core.step([arrived(WELCOME)], 1.0)
    # The answer is late: it is for the broker to fence off.
    assert sent(core.step([finished(ok(1))], 1.5)) == [ok(1), messages.Credit(2)]


def test_a_task_that_came_before_the_broker_knew_of_a_left_over_handler_goes_back() -> None:
    """Two welcomes for two hellos: between them a task was begun, and the next one would lie behind its handler."""
    core = busy(1)
    orders = core.step([arrived(WELCOME, task(2))], 0.9)
    assert begun(orders) == []
    assert sent(orders) == [messages.Credit(0), messages.Returned([2])]
    assert sent(core.step([finished(ok(1))], 0.95)) == [ok(1), messages.Credit(1)]
    assert begun(core.step([arrived(task(3))], 1.6)) == [3]


def test_a_task_for_a_slot_beside_a_left_over_handler_is_begun() -> None:
    core = busy(1, concurrency=2)
    orders = core.step([arrived(WELCOME, task(2), task(3))], 0.9)
    assert begun(orders) == [2]
    assert sent(orders) == [messages.Credit(1), messages.Returned([3])]


def test_a_late_answer_waits_for_the_next_session() -> None:
    core = busy(1)
    core.step([Disconnected()], 0.5)
    assert sent(core.step([finished(ok(1))], 1.0)) == []
    assert sent(core.step([Connected()], 2.0)) == [messages.WorkerHello("W1", "boot", [""], 1, 1, [1])]
    assert sent(core.step([arrived(WELCOME)], 2.0)) == [ok(1)]


def test_what_the_pool_has_is_wanted_back_when_the_connection_is_lost() -> None:
    """What has not begun would be run for nobody."""
    core = busy(1, 2, concurrency=2)
    assert wanted_back(core.step([Disconnected()], 1.0)) == [1, 2]


def test_two_welcomes_at_once_leave_nothing_unsaid() -> None:
    """The answers to two hellos, of which the first went unanswered for a while, may come in one batch."""
    core = busy(1)
    (hello,) = sent(core.step([arrived(messages.HelloAgain())], 1.0))
    assert isinstance(hello, messages.WorkerHello) and hello.credit == 0
    core.step([], 1.0 + WORKER_BEAT_S)
    core.step([finished(ok(1))], 2.5)
    assert sent(core.step([arrived(WELCOME, WELCOME)], 2.6)) == [messages.Credit(1), ok(1)]


def test_connections_that_came_and_went_unseen_get_one_hello() -> None:
    core = welcomed()
    orders = core.step([Disconnected(), Connected(), Disconnected(), Connected()], 0.5)
    assert [type(message) for message in sent(orders)] == [messages.WorkerHello]


def test_late_answers_are_bounded() -> None:
    numbers = range(1, LATE_ANSWERS_MAX + 3)
    core = busy(*numbers, concurrency=LATE_ANSWERS_MAX + 2)
    core.step([Disconnected()], 0.5)
    core.step([finished(*map(ok, numbers))], 1.0)
    core.step([Connected()], 2.0)
    late = [message for message in sent(core.step([arrived(WELCOME)], 2.0)) if isinstance(message, messages.Answer)]
    assert [answer.id for answer in late] == list(numbers)[2:]


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


# --- leaving


def test_an_idle_worker_leaves_at_once() -> None:
    core = welcomed()
    assert core.step([StopRequested(by=10.0)], 0.9) == [
        Send([messages.Credit(0), messages.Goodbye()]),
        End(None),
    ]
    assert core.is_ended


def test_a_busy_one_finishes_what_it_began_and_returns_the_rest() -> None:
    core = busy(1, 2, concurrency=1)
    orders = core.step([StopRequested(by=10.0)], 0.9)
    assert not core.is_ended
    assert wanted_back(orders) == [1, 2]
    orders += core.step([TasksReturned([2])], 0.9)
    assert sent(orders) == [messages.Credit(0), messages.Returned([2])]
    assert sent(core.step([arrived(task(3))], 0.95)) == [messages.Returned([3])]  # it was on its way
    orders = core.step([finished(ok(1))], 0.97)
    assert core.is_ended
    assert sent(orders) == [ok(1), messages.Goodbye()]


def test_what_runs_over_the_grace_has_crashed() -> None:
    core = busy(1)
    core.step([StopRequested(by=10.0)], 1.0)
    assert core.wake_at <= 10.0
    *_, crashed, goodbye = sent(core.step([], 10.0))
    assert core.is_ended
    assert isinstance(crashed, messages.Answer)
    assert (crashed.id, crashed.status) == (1, Status.CRASHED)
    assert goodbye == messages.Goodbye()


def test_a_second_stop_shortens_the_grace() -> None:
    core = busy(1)
    core.step([StopRequested(by=10.0)], 1.0)
    core.step([StopRequested(by=3.0)], 2.0)
    core.step([StopRequested(by=20.0)], 2.0)
    core.step([], 3.0)
    assert core.is_ended


def test_leaves_without_a_connection() -> None:
    core = WorkerCore("W1", "boot", [""], 1)
    assert core.step([StopRequested(by=1.0)], 0.0) == [End(None)]
    assert core.is_ended
    assert core.step([Connected()], 0.1) == []


# --- what is easily forgotten


def test_what_the_pool_gives_back_of_an_earlier_session_has_no_slot_any_more() -> None:
    core = busy(1, 2, concurrency=2)
    core.step([arrived(messages.HelloAgain())], 1.0)
    core.step([TasksReturned([1, 2])], 1.0)
    assert sent(core.step([arrived(WELCOME)], 1.0)) == [messages.Credit(2)]


def test_after_the_brokers_goodbye_nothing_is_begun() -> None:
    core = busy(1)
    core.step([arrived(messages.Goodbye())], 1.0)
    assert not core.is_registered
    assert not core.in_hand
    assert begun(core.step([arrived(task(2))], 1.0)) == []


def test_after_a_freeze_the_broker_may_speak_first() -> None:
    core = welcomed()
    assert Reconnect() not in core.step([], 100.0)
    assert Reconnect() not in core.step([], 100.0 + WORKER_BEAT_S / 2)
    assert Reconnect() in core.step([], 100.0 + 1.5 * WORKER_BEAT_S)


def test_with_several_at_once_none_is_quick() -> None:
    """Quick ones run where the socket is, one at a time."""
    for concurrency, is_quick in ((1, True), (2, False)):
        core = busy(1, concurrency=concurrency)
        core.step([finished(ok(1), busy_s=QUICK_S)], 1.0)
        assert core.is_quick is is_quick


def test_it_wakes_when_its_grace_is_over() -> None:
    core = busy(1)
    core.step([StopRequested(by=0.2)], 0.1)
    assert core.wake_at <= 0.2
