"""A worker's session with its broker: its hello, its beats, how it is lost, refused and had again."""

from __future__ import annotations

import math

import pytest

from cbw.core import messages
from cbw.core.hello import DUPLICATE_PATIENCE_S, HELLO_RETRY_S
from cbw.core.messages import Refusal
from cbw.core.worker.broker_session import TRANSITIONS, WORKER_BEAT_S, WORKER_RECONNECT_S, Registration
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import Connected, Disconnected, End, Reconnect, ReconnectFailed, Send, TakeBack

from .sessions import LIVENESS_S, WELCOME, arrived, begun, busy, finished, ok, sent, started, task, welcomed

TAKEN = messages.Refused(Refusal.DUPLICATE_ID, "W1 is here")


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


def test_after_a_freeze_the_broker_may_speak_first() -> None:
    core = welcomed()
    assert Reconnect() not in core.step([], 100.0)
    assert Reconnect() not in core.step([], 100.0 + WORKER_BEAT_S / 2)
    assert Reconnect() in core.step([], 100.0 + 1.5 * WORKER_BEAT_S)
