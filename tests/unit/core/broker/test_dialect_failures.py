"""Workers of Majordomo and Paranoid Pirate that fail, leave or talk nonsense, from frame to frame."""

from __future__ import annotations

import pytest

from tests.unit.core.broker.driven import Broker

from .speech import Speech, V, W, ask, is_known, majordomo, register, register_busy, replies, speeches, task_of


@majordomo
@pytest.mark.parametrize("command", [b"\x09", b"\x02", b"nonsense"])
def test_a_command_that_is_none_ends_the_conversation(broker: Broker, speech: Speech, command: bytes) -> None:
    register(broker, speech)
    ask(broker)
    broker.take(W)
    broker.worker_says(W, *speech.task[:-1], command)
    assert broker.take(W) == [speech.disconnect]
    assert broker.counts["messages_bad"] == 1
    assert register_busy(broker, speech, V)[-1] == b"hi"


@majordomo
def test_after_a_disconnect_nothing_else_is_sent(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.workers.arrive(W, speech.beat)
    broker.workers.arrive(W, [*speech.task[:-1], b"\x09"])
    broker.turn()
    assert broker.take(W) == [speech.beat, speech.disconnect]
    ask(broker)
    assert broker.take(W) == []


@speeches
def test_what_is_of_no_dialect_ends_a_conversation_too(broker: Broker, speech: Speech) -> None:
    """Without ids nothing tells whether it was to be the answer, so it must not be waited for any longer."""
    register(broker, speech)
    ask(broker, service=speech.service)
    broker.take(W)
    broker.worker_says(W, b"what", b"is", b"this")
    assert broker.take(W) == ([speech.disconnect] if speech.disconnect else [])
    assert not is_known(broker)
    (failed,) = broker.events("attempt_failed")
    assert failed.text.startswith("sent a bad message: ")
    assert register_busy(broker, speech, V)[-1] == b"hi"


@speeches
def test_an_answer_that_is_too_large_ends_the_conversation(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    ask(broker, service=speech.service)
    task = task_of(broker, speech)
    broker.worker_says(W, *speech.answers(task), fault="a message of more than 65 MiB")
    assert broker.take(W) == ([speech.disconnect] if speech.disconnect else [])
    assert register_busy(broker, speech, V)[-1] == b"hi"


@speeches
def test_a_worker_that_is_lost_in_the_middle_of_a_task(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    ask(broker, service=speech.service)
    late = task_of(broker, speech)
    broker.lose_worker(W)
    task = register_busy(broker, speech, V)
    assert task[-1] == b"hi" and broker.counts["attempts_failed"] == 1
    broker.worker_says(W, *speech.answers(late, b"late"))
    assert broker.take(W) == ([speech.disconnect] if speech.disconnect else [])
    assert broker.counts["answers_fenced"] == 1
    broker.worker_says(V, *speech.answers(task, b"ho"))
    assert replies(broker) == [b"ho"]


@speeches
def test_after_three_workers_the_client_is_told(broker: Broker, speech: Speech) -> None:
    ask(broker, service=speech.service)
    for worker in (b"A", b"B", b"D"):
        register_busy(broker, speech, worker)
        broker.lose_worker(worker)
    (reply,) = replies(broker)
    assert reply.startswith(
        b"ERROR GAVE_UP gave_up: 3 workers failed at it; the last was D: lost its connection; kept as "
    )


@majordomo
def test_a_worker_that_leaves_with_a_task_costs_an_attempt(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    ask(broker)
    broker.take(W)
    broker.worker_says(W, *speech.disconnect)
    assert broker.take(W) == [] and not is_known(broker)
    (failed,) = broker.events("attempt_failed")
    assert (failed.worker, failed.text) == ("W1", "said goodbye")
    task = register_busy(broker, speech, V)
    broker.worker_says(V, *speech.answers(task, b"ho"))
    assert replies(broker) == [b"ho"]


@majordomo
def test_a_worker_that_leaves_with_nothing_costs_none(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.worker_says(W, *speech.disconnect)
    assert not is_known(broker)
    assert [record.event for record in broker.events("worker_left", "worker_lost")] == ["worker_left"]


@speeches
def test_a_worker_with_an_identity_that_goes_on_over_a_new_connection(broker: Broker, speech: Speech) -> None:
    """Its task may have been lost with the old one, and it would beat on without it."""
    register(broker, speech)
    ask(broker, service=speech.service)
    broker.take(W)
    broker.worker_says(W, *speech.beat, is_replaced=True)
    assert broker.take(W) == ([speech.disconnect] if speech.disconnect else [])
    assert not is_known(broker)
    assert broker.counts["attempts_failed"] == 1
    task = register_busy(broker, speech, W)
    broker.worker_says(W, *speech.answers(task, b"ho"))
    assert replies(broker) == [b"ho"]


@speeches
def test_a_task_that_cannot_be_delivered_goes_to_another(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    register(broker, speech, V)
    broker.workers.there.discard(W)
    ask(broker, service=speech.service)
    assert task_of(broker, speech, V)[-1] == b"hi"
    assert broker.counts["attempts_failed"] == 0


@speeches
def test_an_answer_to_a_request_that_nobody_wants_any_more(broker: Broker, speech: Speech) -> None:
    """There is no word to stop a task, so the worker keeps its slot until it answers."""
    register(broker, speech)
    ask(broker, service=speech.service, client=b"\0\0\0\0\1")
    task = task_of(broker, speech)
    broker.clients.lose(b"\0\0\0\0\1")
    broker.turn()
    ask(broker, b"next", speech.service)
    assert broker.take(W) == []
    broker.worker_says(W, *speech.answers(task, b"ho"))
    assert broker.counts["answers_fenced"] == 1
    assert task_of(broker, speech)[-1] == b"next"


@pytest.mark.parametrize("address", [b"C1", b"0", b"", b"99"])
@speeches
def test_an_answer_for_something_that_it_has_not_got(broker: Broker, speech: Speech, address: bytes) -> None:
    register(broker, speech)
    ask(broker, service=speech.service)
    task = task_of(broker, speech)
    broker.worker_says(W, *speech.answer, address, b"", b"ho")
    assert replies(broker) == [] and broker.counts["answers_fenced"] == 1
    broker.worker_says(W, *speech.answers(task, b"ho"))
    assert replies(broker) == [b"ho"]


@majordomo
def test_when_the_broker_stops(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.driver.turn(broker.now, broker.now)
    broker.turn()
    assert broker.take(W) == [speech.disconnect]
