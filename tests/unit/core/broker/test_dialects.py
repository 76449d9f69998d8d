"""What the broker does for peers of Majordomo, Paranoid Pirate and the guide, from frame to frame and without a socket."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from cbw.core import messages
from cbw.core.broker.events import Side
from cbw.core.broker.pulse import TELL_S, USUAL_GAP_S
from tests.unit.core.broker.driven import Broker

W, V, C = b"W1", b"W2", b"C1"


class Speech(NamedTuple):
    """How workers of a dialect say what they say; ``disconnect`` is empty if there is no word for it."""

    name: str
    service: bytes
    ready: list[bytes]
    beat: list[bytes]
    disconnect: list[bytes]
    task: list[bytes]  # in front of the task's number
    answer: list[bytes]

    def answers(self, task: list[bytes], *body: bytes) -> list[bytes]:
        """The answer to a task, whose frames end with its number, an empty one and a body."""
        number = task[len(self.task)]
        return [*self.answer, number, b"", *body]


MDP_1 = Speech(
    "mdp-0.1",
    b"echo",
    [b"", b"MDPW01", b"\x01", b"echo"],
    [b"", b"MDPW01", b"\x04"],
    [b"", b"MDPW01", b"\x05"],
    [b"", b"MDPW01", b"\x02"],
    [b"", b"MDPW01", b"\x03"],
)
MDP_2 = Speech(
    "mdp-0.2",
    b"echo",
    [b"MDPW02", b"\x01", b"echo"],
    [b"MDPW02", b"\x05"],
    [b"MDPW02", b"\x06"],
    [b"MDPW02", b"\x02"],
    [b"MDPW02", b"\x04"],
)
MAJORTOMO = Speech("mdp-0.2", b"echo", *([b"", *frames] for frames in MDP_2[2:]))
PPP = Speech("ppp", b"", [b"\x01"], [b"\x02"], [], [], [])
SPEECHES = [MDP_1, MDP_2, MAJORTOMO, PPP]
MAJORDOMO = SPEECHES[:3]

speeches = pytest.mark.parametrize("speech", SPEECHES, ids=["0.1", "0.2", "0.2-with-empty-frame", "ppp"])
majordomo = pytest.mark.parametrize("speech", MAJORDOMO, ids=["0.1", "0.2", "0.2-with-empty-frame"])


@pytest.fixture
def broker() -> Broker:
    return Broker(answer_timeout_s=2.0, liveness_s=3.0, absence_s=60.0)


def ask(broker: Broker, body: bytes = b"hi", service: bytes = b"echo", client: bytes = C) -> None:
    """A Majordomo 0.1 client asks. (It may name the nameless service too.)"""
    broker.client_says(client, b"", b"MDPC01", service, body)


def replies(broker: Broker, client: bytes = C) -> list[bytes]:
    return [b"|".join(frames[3:]) for frames in broker.take(client)]


def register(broker: Broker, speech: Speech, worker: bytes = W) -> None:
    broker.worker_says(worker, *speech.ready)
    assert broker.take(worker) == [], "there is no reply to a READY"


def task_of(broker: Broker, speech: Speech, worker: bytes = W) -> list[bytes]:
    """The one task that ``worker`` has got."""
    (task,) = (frames for frames in broker.take(worker) if frames not in (speech.beat, speech.disconnect))
    return task


def register_busy(broker: Broker, speech: Speech, worker: bytes) -> list[bytes]:
    """Register while a request waits; the task that comes at once."""
    broker.worker_says(worker, *speech.ready)
    return task_of(broker, speech, worker)


def is_known(broker: Broker, worker: bytes = W) -> bool:
    return worker in broker.core.workers.by_peer


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


# --- workers that fail


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


# --- beats and silence


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


# --- answers in parts


def part(broker: Broker, task: list[bytes], *body: bytes, worker: bytes = W) -> None:
    broker.worker_says(worker, b"MDPW02", b"\x03", task[2], b"", *body)


def test_parts_are_passed_to_the_client_as_they_come(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    part(broker, task, b"one")
    assert broker.take(C) == [[b"MDPC02", b"\x02", b"echo", b"one"]]
    part(broker, task, b"two", b"frames")
    assert broker.take(C) == [[b"MDPC02", b"\x02", b"echo", b"two", b"frames"]]
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [[b"MDPC02", b"\x03", b"echo", b"end"]]
    part(broker, task, b"too late")
    assert broker.take(C) == [] and broker.counts["answers_fenced"] == 1


def test_parts_for_a_client_of_majortomo(broker: Broker) -> None:
    register(broker, MAJORTOMO)
    broker.client_says(C, b"", b"MDPC02", b"\x02", b"echo", b"hi")
    task = task_of(broker, MAJORTOMO)
    broker.worker_says(W, b"", b"MDPW02", b"\x03", task[3], b"", b"one")
    broker.worker_says(W, *MAJORTOMO.answers(task, b"end"))
    assert broker.take(C) == [[b"", b"MDPC02", b"\x03", b"one"], [b"", b"MDPC02", b"\x04", b"end"]]


@pytest.mark.parametrize("frames", [[b"", b"MDPC01", b"", b"hi"], [b"", b"hi"]])
def test_parts_for_other_clients_are_counted_and_dropped(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, b"MDPW02", b"\x01", b"")
    broker.client_says(C, *frames)
    task = task_of(broker, MDP_2)
    part(broker, task, b"one")
    part(broker, task, b"two")
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 2
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [[*frames[:-1], b"end"]]


def test_parts_for_a_client_that_is_away_are_dropped_and_its_end_is_parked(broker: Broker) -> None:
    register(broker, MDP_2)
    request = [b"MDPC02", b"\x01", b"echo", b"hi"]
    broker.client_says(C, *request)
    task = task_of(broker, MDP_2)
    broker.clients.lose(C)
    broker.turn()
    part(broker, task, b"one")
    broker.worker_says(W, *MDP_2.answers(task, b"end"))
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 1
    broker.clients.connect(C)
    broker.wait(0.5)
    assert broker.take(C) == [[b"MDPC02", b"\x03", b"echo", b"end"]]


def test_parts_for_a_client_of_uncertain_identity_are_dropped(broker: Broker) -> None:
    """G1: another program may have its identity. Its end waits until that is known."""
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    broker.clients.uncertain.append((C, True))
    part(broker, task, b"one")
    assert broker.take(C) == [] and broker.counts["partials_dropped"] == 1


def test_a_part_that_cannot_be_delivered_is_counted_as_dropped(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    broker.clients.there.discard(C)
    part(broker, task, b"one")
    assert broker.counts["partials_dropped"] == 1


def test_after_a_part_of_a_worker_that_failed_come_those_of_the_next(broker: Broker) -> None:
    """At least once: RFC 18 has no ids by which a client could be told to begin anew."""
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    late = task_of(broker, MDP_2)
    part(broker, late, b"one of W1")
    broker.lose_worker(W)
    task = register_busy(broker, MDP_2, V)
    part(broker, late, b"two of W1")
    part(broker, task, b"one of W2", worker=V)
    broker.worker_says(V, *MDP_2.answers(task, b"end"))
    assert [frames[-1] for frames in broker.take(C)] == [b"one of W1", b"one of W2", b"end"]


def test_a_part_is_a_sign_of_life(broker: Broker) -> None:
    register(broker, MDP_2)
    broker.client_says(C, b"MDPC02", b"\x01", b"echo", b"hi")
    task = task_of(broker, MDP_2)
    for _ in range(20):
        broker.wait(5.0)
        part(broker, task, b"more")
    assert is_known(broker)


# --- services of the broker (RFC 8)


@pytest.mark.parametrize("front", [[b"", b"MDPC01"], [b"MDPC02", b"\x01"], [b"", b"MDPC02", b"\x02"]])
@pytest.mark.parametrize(
    ("service", "body", "code"),
    [
        (b"mmi.service", b"echo", b"200"),
        (b"mmi.service", b"tea", b"404"),
        (b"mmi.service", b"asked for, but not served", b"404"),
        (b"mmi.service", b"\xff", b"404"),
        (b"mmi.service", b"mmi.service", b"404"),
        (b"mmi.service", b"cbw.dead.list", b"200"),
        (b"mmi.workers", b"echo", b"501"),
        (b"mmi.", b"", b"501"),
    ],
)
def test_mmi(broker: Broker, front: list[bytes], service: bytes, body: bytes, code: bytes) -> None:
    register(broker, MDP_1)
    ask(broker, service=b"asked for, but not served", client=b"C2")
    broker.client_says(C, *front, service, body)
    (reply,) = broker.take(C)
    assert reply[-1] == code
    assert broker.core.requests.count == 1, "the broker answers by itself"


def test_mmi_when_the_last_worker_is_gone(broker: Broker) -> None:
    register(broker, MDP_1)
    broker.lose_worker(W)
    ask(broker, b"echo", b"mmi.service")
    assert replies(broker) == [b"404"]


def test_replies_of_the_broker_wait_for_clients_like_all_others(broker: Broker) -> None:
    """Two that could not be sent are two, not one; and one of an uncertain identity gets neither (G1)."""
    ask(broker, b"one", b"mmi.service")
    broker.take(C)
    broker.clients.uncertain.append((C, True))
    ask(broker, b"two", b"mmi.service")
    ask(broker, b"three", b"mmi.nothing")
    assert broker.take(C) == []
    broker.clients.uncertain.append((C, False))
    broker.turn()
    assert replies(broker) == [b"404", b"501"]


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
