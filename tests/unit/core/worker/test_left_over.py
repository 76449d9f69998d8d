"""Handlers that a session left over: their slots, and their late answers."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.worker.broker_session import LATE_ANSWERS_MAX, WORKER_BEAT_S
from cbw.core.worker.events import Connected, Disconnected, TasksReturned

from .sessions import WELCOME, arrived, begun, busy, finished, ok, sent, task, wanted_back, welcomed


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


def test_what_the_pool_gives_back_of_an_earlier_session_has_no_slot_any_more() -> None:
    core = busy(1, 2, concurrency=2)
    core.step([arrived(messages.HelloAgain())], 1.0)
    core.step([TasksReturned([1, 2])], 1.0)
    assert sent(core.step([arrived(WELCOME)], 1.0)) == [messages.Credit(2)]
