"""Beats and silence of workers of Majordomo and Paranoid Pirate, by a clock that the test turns."""

from __future__ import annotations

import pytest

from cbw.core.broker.pulse import TELL_S, USUAL_GAP_S
from tests.unit.core.broker.driven import Broker

from .speech import Speech, V, W, ask, is_known, register, register_busy, replies, speeches, task_of


def beat_for(broker: Broker, speech: Speech, gap_s: float, beats: int, worker: bytes = W) -> None:
    for _ in range(beats):
        broker.wait(gap_s)
        broker.worker_says(worker, *speech.beat)
    broker.take(worker)


@speeches
def test_a_beat_is_answered_with_a_beat(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.worker_says(W, *speech.beat)
    assert broker.take(W) == [speech.beat]


@speeches
def test_the_broker_beats_by_itself_to_workers_with_nothing_to_do(broker: Broker, speech: Speech) -> None:
    """RFC 7: both MUST. ``majortomo`` gives up a broker that is silent for 2.5 s after a long task."""
    register(broker, speech)
    broker.wait(3 * TELL_S + 0.5)
    assert broker.take(W) == [speech.beat] * 3
    ask(broker, service=speech.service)
    task = task_of(broker, speech)
    broker.wait(3 * TELL_S)
    assert broker.take(W) == [], "a worker that does not read them must not find hundreds"
    broker.worker_says(W, *speech.answers(task, b"ho"))
    broker.wait(0.3)
    assert broker.take(W) == [speech.beat], "soon after a long task"


@speeches
def test_the_broker_does_not_beat_more_often_than_the_worker(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    beat_for(broker, speech, 2.5, 3)
    for _ in range(5):
        broker.wait(2.5)
        assert broker.take(W) == []
        broker.worker_says(W, *speech.beat)
        assert broker.take(W) == [speech.beat]
    broker.wait(4.0)
    assert broker.take(W) == [speech.beat]


@speeches
@pytest.mark.parametrize(("gap_s", "patience_s"), [(0.2, 3.0), (1.0, 3.0), (2.5, 7.5), (5.0, 15.0), (30.0, 60.0)])
def test_a_worker_is_lost_after_three_of_its_own_beats(
    broker: Broker, speech: Speech, gap_s: float, patience_s: float
) -> None:
    register(broker, speech)
    beat_for(broker, speech, gap_s, 4)
    broker.wait(patience_s - 0.3)
    assert is_known(broker)
    broker.take(W)
    broker.wait(0.6)
    assert not is_known(broker)
    (lost,) = broker.events("worker_lost")
    assert lost.text == f"silent for {patience_s:g} s"
    told = [frames for frames in broker.take(W) if frames != speech.beat]
    assert told == ([speech.disconnect] if speech.disconnect else []), "so that one that lives registers again"


@speeches
def test_one_that_has_not_beaten_yet_has_a_minute(broker: Broker, speech: Speech) -> None:
    """It may beat that seldom; and one that never does is told to register again."""
    register(broker, speech)
    broker.wait(59.0)
    assert is_known(broker)
    broker.wait(2.0)
    assert not is_known(broker)
    register(broker, speech, V)


@speeches
@pytest.mark.parametrize("gap_s", [1.0, 2.5, 10.0])
def test_a_slow_beat_soon_after_another_word_is_no_fast_one(broker: Broker, speech: Speech, gap_s: float) -> None:
    """A worker whose clock ticks on while it works beats at any time after a task."""
    register(broker, speech)
    for _ in range(5):
        broker.wait(gap_s - 0.02)
        ask(broker, service=speech.service)
        task = task_of(broker, speech)
        broker.worker_says(W, *speech.answers(task, b"ho"))
        broker.wait(0.02)
        broker.worker_says(W, *speech.beat)
        broker.take(W)
    broker.wait(gap_s)
    assert is_known(broker)


@speeches
def test_work_without_a_beat(broker: Broker, speech: Speech) -> None:
    """It has --answer-timeout, and then three beats."""
    register(broker, speech)
    beat_for(broker, speech, 2.5, 3)
    ask(broker, service=speech.service)
    task_of(broker, speech)
    broker.wait(2.0 + 7.5 - 0.3)
    assert is_known(broker)
    broker.wait(0.6)
    assert not is_known(broker)
    (failed,) = broker.events("attempt_failed")
    assert failed.text == "no answer in 2 s (--answer-timeout), and silent for 7.5 s then"
    register_busy(broker, speech, V)


@speeches
def test_work_of_one_that_has_never_beaten(broker: Broker, speech: Speech) -> None:
    """A request must not wait for a minute because its worker froze before its second beat."""
    register(broker, speech)
    ask(broker, service=speech.service)
    task_of(broker, speech)
    broker.wait(2.0 + 3 * USUAL_GAP_S - 0.3)
    assert is_known(broker)
    broker.wait(0.6)
    assert not is_known(broker)


@speeches
def test_the_time_to_answer_can_be_long(speech: Speech) -> None:
    broker = Broker(answer_timeout_s=900.0)
    register(broker, speech)
    ask(broker, service=speech.service)
    task = task_of(broker, speech)
    broker.wait(890.0)
    broker.worker_says(W, *speech.answers(task, b"ho"))
    assert replies(broker) == [b"ho"]


@speeches
def test_one_that_beats_at_work_is_lost_by_its_beats(speech: Speech) -> None:
    """However long it may take, its silence is noticed soon; and as long as it beats, it is waited for."""
    broker = Broker(answer_timeout_s=900.0)
    register(broker, speech)
    ask(broker, service=speech.service)
    task_of(broker, speech)
    beat_for(broker, speech, 1.0, 1000)
    assert is_known(broker)
    broker.wait(3.4)
    assert not is_known(broker)
    register_busy(broker, speech, V)


@speeches
def test_a_beat_that_crosses_with_the_task_is_not_taken_for_one_at_work(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    beat_for(broker, speech, 1.0, 3)
    ask(broker, service=speech.service)
    broker.worker_says(W, *speech.beat)
    broker.wait(4.5)
    assert is_known(broker)


@speeches
def test_a_broker_that_stood_still_blames_nobody(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    beat_for(broker, speech, 1.0, 3)
    broker.now += 30.0
    broker.turn()
    assert is_known(broker)
