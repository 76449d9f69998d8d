"""What the broker does for peers of Majordomo, Paranoid Pirate and the guide, from frame to frame and without a socket."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker.events import Side
from tests.unit.core.broker.driven import Broker

from .speech import (
    MDP_1,
    MDP_2,
    PPP,
    C,
    Speech,
    V,
    W,
    ask,
    is_known,
    majordomo,
    register,
    register_busy,
    replies,
    speeches,
    task_of,
)

# --- the usual course


@speeches
def test_tasks_and_answers(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    for body in (b"one", b"two"):
        ask(broker, body, speech.service)
        task = task_of(broker, speech)
        number = task[len(speech.task)]
        assert task == [*speech.task, number, b"", body]
        assert number.isdigit(), "the task's number is the reply address"
        broker.worker_says(W, *speech.answers(task, body + b"!"))
        assert replies(broker) == [body + b"!"]
    assert broker.counts["answered"] == 2


@speeches
def test_one_task_at_a_time(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    for number in range(3):
        ask(broker, b"%d" % number, speech.service)
    for number in range(3):
        task = task_of(broker, speech)
        assert task[-1] == b"%d" % number
        broker.worker_says(W, *speech.beat)  # a beat is no call for more work
        assert broker.take(W) == [speech.beat]
        broker.worker_says(W, *speech.answers(task, b"done"))


@speeches
def test_bodies_keep_their_frames(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.client_says(C, b"", b"MDPC01", speech.service, b"a", b"", b"c")
    task = task_of(broker, speech)
    assert task[-3:] == [b"a", b"", b"c"]
    broker.worker_says(W, *speech.answers(task, b"x", b"", b"z"))
    assert broker.take(C) == [[b"", b"MDPC01", speech.service, b"x", b"", b"z"]]


def test_services_are_kept_apart(broker: Broker) -> None:
    broker.worker_says(W, b"", b"MDPW01", b"\x01", b"tea")
    broker.worker_says(V, b"MDPW02", b"\x01", b"coffee")
    ask(broker, b"1", b"coffee")
    ask(broker, b"2", b"tea")
    ask(broker, b"3", b"cake")
    assert task_of(broker, MDP_1, W)[-1] == b"2"
    assert task_of(broker, MDP_2, V)[-1] == b"1"
    assert broker.core.requests.count == 3


@pytest.mark.parametrize(
    ("frames", "reply"),
    [
        ([b"", b"MDPC01", b"echo", b"hi"], [b"", b"MDPC01", b"echo", b"ho"]),
        ([b"id", b"", b"MDPC01", b"echo", b"hi"], [b"id", b"", b"MDPC01", b"echo", b"ho"]),
        ([b"MDPC02", b"\x01", b"echo", b"hi"], [b"MDPC02", b"\x03", b"echo", b"ho"]),
        ([b"", b"MDPC02", b"\x01", b"echo", b"hi"], [b"", b"MDPC02", b"\x03", b"echo", b"ho"]),
        ([b"", b"MDPC02", b"\x02", b"echo", b"hi"], [b"", b"MDPC02", b"\x04", b"ho"]),  # majortomo
    ],
)
def test_each_client_is_answered_as_it_spoke(broker: Broker, frames: list[bytes], reply: list[bytes]) -> None:
    register(broker, MDP_1)
    broker.client_says(C, *frames)
    broker.worker_says(W, *MDP_1.answers(task_of(broker, MDP_1), b"ho"))
    assert broker.take(C) == [reply]


@majordomo
def test_a_native_client_and_a_majordomo_worker(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    broker.says(Side.CLIENT, C, messages.ClientHello("C1", "b"), messages.Request(7, "echo", b"hi", 5.0))
    broker.batch(C)
    broker.worker_says(W, *speech.answers(task_of(broker, speech), b"ho"))
    assert broker.batch(C) == [messages.Answer(7, messages.Status.OK, b"ho")]


def test_a_majordomo_client_and_a_native_worker(broker: Broker) -> None:
    broker.says(Side.WORKER, W, messages.WorkerHello("W1", "b", ["echo"], 1, 1))
    ask(broker)
    (task,) = (message for message in broker.batch(W) if isinstance(message, messages.Task))
    error = messages.error_body("KeyError", "tea")
    broker.says(Side.WORKER, W, messages.Answer(task.id, messages.Status.FAILED, error))
    assert replies(broker) == [b"ERROR FAILED KeyError: tea"]


def test_a_lab_client_and_a_paranoid_pirate(broker: Broker) -> None:
    register(broker, PPP)
    broker.client_says(C, b"", b"hi")
    broker.worker_says(W, *PPP.answers(task_of(broker, PPP), b"ho"))
    assert broker.take(C) == [[b"", b"ho"]]


def test_a_lab_client_and_a_majordomo_worker_of_the_nameless_service(broker: Broker) -> None:
    broker.worker_says(W, b"", b"MDPW01", b"\x01", b"")
    broker.client_says(C, b"", b"hi")
    broker.worker_says(W, *MDP_1.answers(task_of(broker, MDP_1), b"ho"))
    assert broker.take(C) == [[b"", b"ho"]]


def test_a_majordomo_client_and_a_lab_worker_through_the_nameless_service(broker: Broker) -> None:
    broker.worker_says(W, b"", b"", b"")
    ask(broker, service=b"")
    ((_, client, body),) = broker.take(W)
    assert client.startswith(C) and body == b"hi"
    broker.worker_says(W, b"", client, b"ho")
    assert replies(broker) == [b"ho"]


@pytest.mark.parametrize("ready", [b"READY", b"\x01"])
def test_an_lru_worker_of_the_guide_with_either_ready(broker: Broker, ready: bytes) -> None:
    broker.worker_says(W, b"", ready)
    broker.client_says(C, b"", b"hi")
    assert broker.take(W) == [[b"", C, b"", b"hi"]]
    broker.worker_says(W, b"", C, b"", b"ho")
    assert broker.take(C) == [[b"", b"ho"]]


# --- registration


@majordomo
def test_a_second_ready_is_answered_with_disconnect(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    ask(broker)
    broker.take(W)
    broker.worker_says(W, *speech.ready)
    assert broker.take(W) == [speech.disconnect]
    assert not is_known(broker)
    (failed,) = broker.events("attempt_failed")
    assert failed.text == "registered twice"
    assert register_busy(broker, speech, V)[-1] == b"hi"


@majordomo
def test_a_ready_over_a_new_connection_of_the_same_identity_is_a_new_program(broker: Broker, speech: Speech) -> None:
    register(broker, speech)
    ask(broker)
    first = task_of(broker, speech)
    broker.worker_says(W, *speech.ready, is_replaced=True)  # the loss of its last connection is not told yet
    second = task_of(broker, speech)
    assert second[-1] == b"hi" and second != first, "the same request, as another task"
    assert [record.text for record in broker.events("attempt_failed")] == ["said hello again"]
    broker.worker_says(W, *speech.answers(first, b"late"))
    assert replies(broker) == []
    broker.worker_says(W, *speech.answers(second, b"ho"))
    assert replies(broker) == [b"ho"]


def test_a_pirate_that_has_missed_our_beats_says_ready_again_over_the_same_connection(broker: Broker) -> None:
    """RFC 6. It has given up the task, which may be why it did: so that costs an attempt."""
    register(broker, PPP)
    ask(broker, service=b"")
    tasks = []
    for _ in range(3):
        tasks.append(task_of(broker, PPP))
        assert replies(broker) == []
        broker.worker_says(W, *PPP.ready)
    assert len({task[0] for task in tasks}) == 3
    (reply,) = replies(broker)
    assert reply.startswith(b"ERROR GAVE_UP gave_up: 3 workers failed at it")
    assert is_known(broker)


@majordomo
@pytest.mark.parametrize("service", [b"mmi.service", b"mmi.", b"mmi.mine", b"x" * 201])
def test_a_service_that_no_worker_may_register(broker: Broker, speech: Speech, service: bytes) -> None:
    broker.worker_says(W, *speech.ready[:-1], service)
    assert broker.take(W) == [speech.disconnect]
    assert not is_known(broker)
    (record,) = broker.events("bad_message")
    assert record.text.startswith("a bad hello: ")


@majordomo
def test_a_name_that_is_taken_is_answered_with_disconnect(broker: Broker, speech: Speech) -> None:
    broker.says(Side.WORKER, b"\0\0\0\0\1", messages.WorkerHello("W1", "b", ["s"], 1, 1))
    broker.worker_says(W, *speech.ready)
    assert broker.take(W) == [speech.disconnect]
    assert broker.counts["hellos_refused"] == 1


@majordomo
def test_whoever_speaks_before_its_ready_is_disconnected(broker: Broker, speech: Speech) -> None:
    for frames in (speech.beat, [*speech.answer, b"901", b"", b"ho"]):
        broker.worker_says(W, *frames)
        assert broker.take(W) == [speech.disconnect]
    assert broker.counts["answers_fenced"] == 1
    broker.worker_says(W, *speech.disconnect)
    assert broker.take(W) == [], "RFC 7: no further commands after its DISCONNECT"


def test_a_pirate_that_is_not_known_hears_nothing(broker: Broker) -> None:
    broker.worker_says(W, *PPP.beat)
    broker.worker_says(W, b"901", b"", b"ho")
    assert broker.take(W) == [], "its own clock tells it to say READY again"
    assert broker.counts["answers_fenced"] == 1


# --- what does not fit


@pytest.mark.parametrize(
    "frames",
    [
        [b"", b"MDPC01", b"echo"],
        [b"", b"MDPC03", b"echo", b"hi"],
        [b"id", b"MDPC02", b"\x01", b"echo", b"", b"hi"],
        [b"", b"", b"MDPC02", b"\x01", b"echo", b"hi"],
    ],
)
def test_a_majordomo_clients_frames_never_reach_a_lab_worker(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, b"", b"", b"")
    broker.client_says(C, *frames)
    assert broker.take(W) == [] and broker.core.requests.count == 0
    assert broker.counts["messages_bad"] == 1
    (record,) = broker.events("bad_message")
    assert record.client == "C1" and "ajordomo" in record.text


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([b"", b"MDPW01", b"\x01", b"echo"], []),
        ([b"MDPW02", b"\x01", b"echo"], []),
    ],
)
def test_a_worker_at_the_clients_port_is_told_about_in_the_trace(
    broker: Broker, frames: list[bytes], told: list[list[bytes]]
) -> None:
    broker.client_says(C, *frames)
    assert broker.take(C) == told
    (record,) = broker.events("bad_message")
    assert record.text == "this port is for clients; workers connect to port 9999"


@pytest.mark.parametrize("frames", [[b"", b"MDPC01", b"echo", b"hi"], [b"MDPC02", b"\x01", b"echo", b"hi"]])
def test_a_client_at_the_workers_port_is_told_about_in_the_trace(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, *frames)
    (record,) = broker.events("bad_message")
    assert record.text == "this port is for workers; clients connect to port 9998"


@pytest.mark.parametrize("mark", [b"MDPW01", b"MDPW02", b"MDPC01"])
def test_a_client_that_is_called_like_a_mark_does_not_confuse_a_lab_worker(broker: Broker, mark: bytes) -> None:
    """The worker's answer would otherwise be ``"" MDPW01 body``: a Majordomo command, and a bad one."""
    broker.worker_says(W, b"", b"", b"")
    broker.client_says(mark, b"", b"hi")
    ((empty, client, body),) = broker.take(W)
    assert client != mark
    broker.worker_says(W, empty, client, body + b"!")
    assert broker.take(mark) == [[b"", b"hi!"]]
    assert broker.counts["messages_bad"] == 0


def test_another_program_with_the_identity_of_an_earlier_worker(broker: Broker) -> None:
    """From a Majordomo program no later message is read as that of the lab worker before it."""
    broker.worker_says(W, b"", b"", b"")
    broker.lose_worker(W)
    register(broker, MDP_1)
    broker.worker_says(W, b"", b"C1", b"hi")
    assert broker.take(W) == [MDP_1.disconnect]
    broker.worker_says(W, b"", b"", b"")
    broker.client_says(C, b"", b"hi")
    assert broker.take(W) == [[b"", b"C1", b"hi"]]
