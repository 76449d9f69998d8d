"""Paranoid Pirate, command by command of RFC 6."""

from __future__ import annotations

import pytest

from cbw.core.messages import Answer, Beat, Goodbye, HelloAgain, Message, Parts, Status, Task, Welcome, WorkerHello
from cbw.errors import BadMessage
from cbw.wire import dialects
from cbw.wire.paranoid_pirate import WORKER


@pytest.mark.parametrize(("frames", "message"), [([b"\x01"], WorkerHello("W", "W", [""], 1, 1)), ([b"\x02"], Beat())])
def test_ready_and_heartbeat_show_the_dialect(frames: list[bytes], message: Message) -> None:
    assert dialects.of_worker(frames) is WORKER
    assert WORKER.read(b"W", frames) == [message]


def test_an_answer_is_known_only_by_who_sends_it() -> None:
    assert dialects.of_worker([b"901", b"", b"ho"]) is None
    assert WORKER.read(b"W", [b"901", b"", b"ho"]) == [Answer(901, Status.OK, b"ho")]


@pytest.mark.parametrize(
    ("message", "frames"),
    [
        (Task(901, "", b"hi", None, 1), [b"901", b"", b"hi"]),
        (Task(7, "", Parts((b"a", b"b")), None, 1), [b"7", b"", b"a", b"b"]),
        (Beat(), [b"\x02"]),
        (Goodbye(), []),
        (HelloAgain(), []),
        (Welcome("BRO", "b", 3.0, 1), []),
    ],
)
def test_what_a_worker_is_told(message: Message, frames: list[bytes]) -> None:
    assert list(WORKER.write_one(message)) == frames


def test_an_answer_of_several_frames() -> None:
    (answer,) = WORKER.read(b"W", [b"7", b"", b"a", b"", b"c"])
    assert isinstance(answer, Answer) and isinstance(answer.body, Parts) and answer.body.parts == (b"a", b"", b"c")


@pytest.mark.parametrize(
    "frames", [[b"\x03"], [b"7"], [b"7", b"ho"], [b"7", b""], [b"7", b"x", b"", b"ho"], [b"\x01", b"echo"]]
)
def test_what_is_no_message(frames: list[bytes]) -> None:
    assert dialects.of_worker(frames) is None
    with pytest.raises(BadMessage):
        WORKER.read(b"W", frames)


def test_what_can_be_expected_of_it() -> None:
    assert not WORKER.is_self_describing, "an answer does not show that it is one"
    assert not WORKER.registers_once, "RFC 6: a worker that has missed our beats sends READY again"
    assert not WORKER.beats_at_work and not WORKER.returns_tasks and not WORKER.returns_silently
    assert not WORKER.refusal([b"x"], "why"), "there is no word for it"
