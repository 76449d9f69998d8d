"""Majordomo 0.2, command by command of RFC 18; and the commands of PyPI's ``majortomo``, which differ from it."""

from __future__ import annotations

import pytest

from cbw.core.dialect import ClientDialect
from cbw.core.messages import (
    Answer,
    Beat,
    Goodbye,
    HelloAgain,
    Message,
    Parts,
    Refusal,
    Refused,
    Status,
    Task,
    Welcome,
    WorkerHello,
    error_body,
)
from cbw.core.plain_messages import Partial, PlainPartial, PlainReply, PlainRequest
from cbw.errors import BadMessage
from cbw.wire import dialects
from cbw.wire.majordomo_02 import CLIENT, MAJORTOMO_CLIENT, WORKER, WORKER_WITH_EMPTY_FRAME, MajordomoWorker

FRONTS = [[], [b""]]
"""What stands in front of the mark: nothing, as RFC 18 has it, or an empty frame, which programs send all the same."""
WORKERS = [(WORKER, []), (WORKER_WITH_EMPTY_FRAME, [b""])]


@pytest.mark.parametrize("front", FRONTS)
class TestClient:
    def test_a_request_its_parts_and_its_end(self, front: list[bytes]) -> None:
        frames = [*front, b"MDPC02", b"\x01", b"echo", b"hi"]
        assert dialects.of_client(frames) is CLIENT
        (request,) = CLIENT.read(b"C", frames)
        assert isinstance(request, PlainRequest) and (request.service, request.body) == ("echo", b"hi")
        part = CLIENT.write_one(PlainPartial(request.envelope, b"part"))
        assert part == [*front, b"MDPC02", b"\x02", b"echo", b"part"]
        end = CLIENT.write_one(PlainReply(request.envelope, Answer(1, Status.OK, b"end")))
        assert end == [*front, b"MDPC02", b"\x03", b"echo", b"end"]

    def test_bodies_of_several_frames(self, front: list[bytes]) -> None:
        (request,) = CLIENT.read(b"C", [*front, b"MDPC02", b"\x01", b"echo", b"a", b"", b"c"])
        assert isinstance(request, PlainRequest) and isinstance(request.body, Parts)
        for command, message in (
            (b"\x02", PlainPartial(request.envelope, request.body)),
            (b"\x03", PlainReply(request.envelope, Answer(1, Status.OK, request.body))),
        ):
            assert CLIENT.write_one(message) == [*front, b"MDPC02", command, b"echo", b"a", b"", b"c"]

    @pytest.mark.parametrize(
        "rest",
        [
            [],
            [b"\x01"],
            [b"\x01", b"echo"],  # no body
            [b"\x01", b"\xff", b"hi"],
            [b"\x03", b"echo", b"hi"],  # FINAL: only the broker says that
            [b"\x04", b"echo", b"hi"],
            [b"echo", b"hi"],  # the frames of 0.1 behind the mark of 0.2
        ],
    )
    def test_what_is_no_request(self, front: list[bytes], rest: list[bytes]) -> None:
        frames = [*front, b"MDPC02", *rest]
        assert dialects.of_client(frames) is CLIENT
        with pytest.raises(BadMessage):
            CLIENT.read(b"C", frames)


class TestClientOfMajortomo:
    """It numbers a client's commands like a worker's, and its replies name no service."""

    REQUEST = (b"", b"MDPC02", b"\x02", b"echo", b"hi")

    def test_it_is_answered_as_it_spoke(self) -> None:
        assert dialects.of_client(self.REQUEST) is MAJORTOMO_CLIENT
        (request,) = MAJORTOMO_CLIENT.read(b"C", self.REQUEST)
        assert isinstance(request, PlainRequest) and (request.service, request.body) == ("echo", b"hi")
        part = MAJORTOMO_CLIENT.write_one(PlainPartial(request.envelope, b"part"))
        assert part == [b"", b"MDPC02", b"\x03", b"part"]
        end = MAJORTOMO_CLIENT.write_one(PlainReply(request.envelope, Answer(1, Status.OK, Parts((b"a", b"b")))))
        assert end == [b"", b"MDPC02", b"\x04", b"a", b"b"]

    @pytest.mark.parametrize("rest", [[], [b"echo"], [b"\xff", b"hi"]])
    def test_what_is_no_request(self, rest: list[bytes]) -> None:
        frames = [b"", b"MDPC02", b"\x02", *rest]
        assert dialects.of_client(frames) is MAJORTOMO_CLIENT
        with pytest.raises(BadMessage):
            MAJORTOMO_CLIENT.read(b"C", frames)


@pytest.mark.parametrize("dialect", [CLIENT, MAJORTOMO_CLIENT])
def test_both_clients_take_parts_and_get_errors_as_a_text(dialect: ClientDialect) -> None:
    assert dialect.takes_partials
    reply = PlainReply((b"MDPC02", b"\x03"), Answer(1, Status.EXPIRED, error_body("expired", "too late")))
    assert dialect.write_one(reply)[-1] == b"ERROR EXPIRED expired: too late"
    assert not dialect.write_one(Beat())


@pytest.mark.parametrize(("dialect", "front"), WORKERS)
class TestWorker:
    @pytest.mark.parametrize(
        ("rest", "message"),
        [
            ([b"\x01", b"echo"], WorkerHello("W", "W", ["echo"], 1, 1)),
            ([b"\x03", b"901", b"", b"part"], Partial(901, b"part")),
            ([b"\x04", b"901", b"", b"ho"], Answer(901, Status.OK, b"ho")),
            ([b"\x05"], Beat()),
            ([b"\x06"], Goodbye()),
        ],
    )
    def test_what_a_worker_says(
        self, dialect: MajordomoWorker, front: list[bytes], rest: list[bytes], message: Message
    ) -> None:
        frames = [*front, b"MDPW02", *rest]
        assert dialects.of_worker(frames) is dialect
        assert dialect.read(b"W", frames) == [message]

    @pytest.mark.parametrize(
        ("message", "rest"),
        [
            (Task(901, "echo", b"hi", None, 1), [b"\x02", b"901", b"", b"hi"]),
            (Task(7, "echo", Parts((b"a", b"b")), None, 1), [b"\x02", b"7", b"", b"a", b"b"]),
            (Beat(), [b"\x05"]),
            (Goodbye(), [b"\x06"]),
            (HelloAgain(), [b"\x06"]),
            (Refused(Refusal.BAD_HELLO, "why"), [b"\x06"]),
        ],
    )
    def test_what_a_worker_is_told(
        self, dialect: MajordomoWorker, front: list[bytes], message: Message, rest: list[bytes]
    ) -> None:
        assert dialect.write_one(message) == [*front, b"MDPW02", *rest]

    def test_there_is_no_reply_to_a_ready(self, dialect: MajordomoWorker, front: list[bytes]) -> None:
        assert not dialect.write_one(Welcome("BRO", "b", 3.0, 1))

    @pytest.mark.parametrize(
        "rest",
        [
            [],
            [b"\x01"],
            [b"\x01", b"echo", b"more"],
            [b"\x02", b"7", b"", b"hi"],
            [b"\x03", b"7", b""],
            [b"\x04", b"7", b"no empty frame"],
            [b"\x05", b"more"],
            [b"\x07"],
        ],
    )
    def test_what_is_refused_with_a_disconnect(
        self, dialect: MajordomoWorker, front: list[bytes], rest: list[bytes]
    ) -> None:
        frames = [*front, b"MDPW02", *rest]
        assert dialects.of_worker(frames) is dialect
        with pytest.raises(BadMessage):
            dialect.read(b"W", frames)
        told = [*map(dialect.write_one, dialect.refusal(frames, "why"))]
        assert told == [[*front, b"MDPW02", b"\x06"]]
