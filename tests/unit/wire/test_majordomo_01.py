"""Majordomo 0.1, command by command of RFC 7. Frames are those behind the identity frame that a ROUTER adds."""

from __future__ import annotations

import pytest

from cbw.core.messages import (
    Answer,
    Beat,
    CancelTask,
    Goodbye,
    HelloAgain,
    Message,
    Parts,
    Recall,
    Refusal,
    Refused,
    Status,
    Task,
    Welcome,
    WorkerHello,
    error_body,
)
from cbw.core.plain_messages import PlainPartial, PlainReply, PlainRequest
from cbw.errors import BadMessage
from cbw.wire import dialects, majordomo_01
from cbw.wire.majordomo_01 import CLIENT, WORKER

READY = [b"", b"MDPW01", b"\x01", b"echo"]
HEARTBEAT = [b"", b"MDPW01", b"\x04"]
DISCONNECT = [b"", b"MDPW01", b"\x05"]


class TestClient:
    """MDP/Client: REQUEST and REPLY have the same frames; only their direction tells them apart."""

    def test_a_request_and_its_reply(self) -> None:
        (request,) = CLIENT.read(b"C", [b"", b"MDPC01", b"echo", b"hi"])
        assert request == PlainRequest((b"", b"MDPC01", b"echo"), "echo", b"hi")
        reply = PlainReply((b"", b"MDPC01", b"echo"), Answer(1, Status.OK, b"ho"))
        assert CLIENT.write_one(reply) == [b"", b"MDPC01", b"echo", b"ho"]

    def test_a_body_of_several_frames(self) -> None:
        (request,) = CLIENT.read(b"C", [b"", b"MDPC01", b"echo", b"a", b"", b"c"])
        assert isinstance(request, PlainRequest)
        assert isinstance(request.body, Parts) and request.body.parts == (b"a", b"", b"c")
        reply = PlainReply(request.envelope, Answer(1, Status.OK, request.body))
        assert CLIENT.write_one(reply) == [b"", b"MDPC01", b"echo", b"a", b"", b"c"]

    def test_what_a_router_on_the_way_put_in_front_comes_back_in_front(self) -> None:
        (request,) = CLIENT.read(b"C", [b"id", b"", b"MDPC01", b"echo", b"hi"])
        assert request == PlainRequest((b"id", b"", b"MDPC01", b"echo"), "echo", b"hi")

    def test_an_error_is_a_text_in_the_body(self) -> None:
        reply = PlainReply((b"", b"MDPC01", b"s"), Answer(1, Status.FAILED, error_body("KeyError", "tea")))
        assert CLIENT.write_one(reply) == [b"", b"MDPC01", b"s", b"ERROR FAILED KeyError: tea"]

    @pytest.mark.parametrize(
        "frames",
        [
            [b"", b"MDPC01"],
            [b"", b"MDPC01", b"echo"],  # no body
            [b"", b"MDPC01", b"\xff", b"hi"],  # a name that is no text
        ],
    )
    def test_what_is_no_request(self, frames: list[bytes]) -> None:
        assert dialects.of_client(frames) is CLIENT
        with pytest.raises(BadMessage):
            CLIENT.read(b"C", frames)

    def test_there_is_no_word_for_a_part_nor_for_a_refusal(self) -> None:
        assert not CLIENT.takes_partials
        assert not CLIENT.write_one(PlainPartial((b"",), b"part"))
        assert not CLIENT.refusal([b"", b"MDPC01"], "why")


class TestWorker:
    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (READY, WorkerHello("W", "W", ["echo"], 1, 1)),
            ([b"", b"MDPW01", b"\x01", b""], WorkerHello("W", "W", [""], 1, 1)),  # serves lab clients too
            ([b"", b"MDPW01", b"\x03", b"901", b"", b"ho"], Answer(901, Status.OK, b"ho")),
            (HEARTBEAT, Beat()),
            (DISCONNECT, Goodbye()),
        ],
    )
    def test_what_a_worker_says(self, frames: list[bytes], message: Message) -> None:
        assert dialects.of_worker(frames) is WORKER
        assert WORKER.read(b"W", frames) == [message]

    @pytest.mark.parametrize(
        ("message", "frames"),
        [
            (Task(901, "echo", b"hi", 2.5, 1), [b"", b"MDPW01", b"\x02", b"901", b"", b"hi"]),
            (Task(7, "echo", Parts((b"a", b"b")), None, 2), [b"", b"MDPW01", b"\x02", b"7", b"", b"a", b"b"]),
            (Beat(), HEARTBEAT),
            (Goodbye(), DISCONNECT),
            (HelloAgain(), DISCONNECT),
            (Refused(Refusal.DUPLICATE_ID, "why"), DISCONNECT),
            (Welcome("BRO", "b", 3.0, 1), []),
            (CancelTask(901), []),
            (Recall([901]), []),
        ],
    )
    def test_what_a_worker_is_told(self, message: Message, frames: list[bytes]) -> None:
        assert list(WORKER.write_one(message)) == frames

    def test_an_answer_of_several_frames(self) -> None:
        (answer,) = WORKER.read(b"W", [b"", b"MDPW01", b"\x03", b"7", b"", b"a", b"", b"c"])
        assert isinstance(answer, Answer) and isinstance(answer.body, Parts)
        assert answer.body.parts == (b"a", b"", b"c")

    @pytest.mark.parametrize("address", [b"C1", b"", b"-7", b"9" * 20, "٣".encode()])
    def test_an_address_that_is_not_ours_is_that_of_no_task(self, address: bytes) -> None:
        (answer,) = WORKER.read(b"W", [b"", b"MDPW01", b"\x03", address, b"", b"ho"])
        assert isinstance(answer, Answer) and answer.id == 0

    @pytest.mark.parametrize(
        "rest",
        [
            [],
            [b"\x01"],  # READY without a service
            [b"\x01", b"echo", b"more"],
            [b"\x01", b"\xff"],
            [b"\x02", b"7", b"", b"hi"],  # REQUEST: only the broker says that
            [b"\x03"],
            [b"\x03", b"7", b""],  # REPLY without a body
            [b"\x03", b"7", b"second address", b"", b"ho"],
            [b"\x04", b"more"],
            [b"\x05", b"more"],
            [b"\x06"],
            [b"READY", b"echo"],
        ],
    )
    def test_what_is_refused_with_a_disconnect(self, rest: list[bytes]) -> None:
        frames = [b"", b"MDPW01", *rest]
        assert dialects.of_worker(frames) is WORKER
        with pytest.raises(BadMessage):
            WORKER.read(b"W", frames)
        assert [*map(WORKER.write_one, WORKER.refusal(frames, "why"))] == [DISCONNECT]

    def test_a_worker_without_an_identity_is_named_by_its_bytes(self) -> None:
        (hello,) = WORKER.read(b"\0\1\2\3\4", READY)
        assert isinstance(hello, WorkerHello) and hello.worker == "0001020304"

    def test_what_can_be_expected_of_it(self) -> None:
        assert not WORKER.has_sessions and not WORKER.beats_at_work and not WORKER.returns_tasks
        assert WORKER.registers_once and not WORKER.returns_silently


def test_memoryviews_are_read_like_bytes() -> None:
    frames = [b"", b"MDPW01", *(memoryview(frame) for frame in (b"\x03", b"7", b"", b"ho"))]
    assert WORKER.read(b"W", frames) == [Answer(7, Status.OK, b"ho")]
    request = [b"id", b"", *(memoryview(frame) for frame in (b"MDPC01", b"echo", b"hi"))]
    assert CLIENT.recognises(request)
    assert CLIENT.read(b"C", request) == [PlainRequest((b"id", b"", b"MDPC01", b"echo"), "echo", b"hi")]


def test_the_commands_are_those_of_the_rfc() -> None:
    commands = (majordomo_01.READY, majordomo_01.REQUEST, majordomo_01.REPLY)
    assert (*commands, majordomo_01.HEARTBEAT, majordomo_01.DISCONNECT) == (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05")
