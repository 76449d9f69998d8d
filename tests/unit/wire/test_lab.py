"""The lab's dialects, row by row of the table in ``docs/reference/wire.md``."""

from __future__ import annotations

import pytest

from cbw.core.messages import Answer, Beat, Parts, Status, error_body
from cbw.core.plain_messages import PlainAnswer, PlainReady, PlainReply, PlainRequest, PlainTask
from cbw.errors import BadMessage
from cbw.wire import dialects, lab
from cbw.wire.lab import ReqWorker

WORKERS = (lab.LAB, lab.EARLIER_LAB, lab.GUIDE)


def reply(envelope: tuple[bytes, ...], answer: Answer) -> list[bytes]:
    return [*lab.CLIENT.write_one(PlainReply(envelope, answer))]


class TestClients:
    @pytest.mark.parametrize(
        ("frames", "envelope", "body"),
        [
            ([b"", b"hi"], (b"",), b"hi"),
            ([b"", b""], (b"",), b""),
            ([b"id", b"", b"hi"], (b"id", b""), b"hi"),
            ([b"a", b"b", b"", b"hi"], (b"a", b"b", b""), b"hi"),
        ],
    )
    def test_the_envelope_comes_back_in_front_of_the_reply(
        self, frames: list[bytes], envelope: tuple[bytes, ...], body: bytes
    ) -> None:
        assert lab.CLIENT.read(b"C", frames) == [PlainRequest(envelope, "", body)]
        assert reply(envelope, Answer(1, Status.OK, b"ho")) == [*envelope, b"ho"]

    def test_a_body_of_several_frames(self) -> None:
        (request,) = lab.CLIENT.read(b"C", [b"", b"a", b"", b"c"])
        assert isinstance(request, PlainRequest) and request.body == b"ac"
        assert reply(request.envelope, Answer(1, Status.OK, request.body)) == [b"", b"a", b"", b"c"]

    @pytest.mark.parametrize(
        "frames", [[], [b""], [b"hi"], [b"id", b""], [b"x"] * 20, [*[b"x"] * 9, b"", b"hi"], [b"x" * 5000, b"", b"hi"]]
    )
    def test_what_is_no_request(self, frames: list[bytes]) -> None:
        with pytest.raises(BadMessage):
            lab.CLIENT.read(b"C", frames)

    def test_an_error_is_a_text(self) -> None:
        answer = Answer(1, Status.GAVE_UP, error_body("gave_up", "three workers died"))
        assert reply((b"",), answer) == [b"", b"ERROR GAVE_UP gave_up: three workers died"]


class TestWorkers:
    @pytest.mark.parametrize(
        ("frames", "dialect"),
        [
            ([b"", b"", b""], lab.LAB),
            ([b"", b"", b"", b""], lab.EARLIER_LAB),
            ([b"", b"READY"], lab.GUIDE),
            ([b"", b"\x01"], lab.GUIDE),
        ],
    )
    def test_the_first_message_tells_the_dialect(self, frames: list[bytes], dialect: ReqWorker) -> None:
        assert dialects.of_worker(frames) is dialect
        assert dialect.read(b"W", frames) == [PlainReady()]

    @pytest.mark.parametrize("frames", [[b""], [b"READY"], [b"", b"ready"], [b"", b"C", b"x"], [b""] * 5])
    def test_what_is_no_registration(self, frames: list[bytes]) -> None:
        assert dialects.of_worker(frames) is None

    @pytest.mark.parametrize(
        ("dialect", "task"),
        [
            (lab.LAB, [b"", b"C1", b"hi"]),
            (lab.EARLIER_LAB, [b"", b"C1", b"", b"hi"]),
            (lab.GUIDE, [b"", b"C1", b"", b"hi"]),
        ],
    )
    def test_tasks_and_answers(self, dialect: ReqWorker, task: list[bytes]) -> None:
        assert dialect.write_one(PlainTask(b"C1", b"hi")) == task
        assert dialect.read(b"W", [*task[:-1], b"ho"]) == [PlainAnswer(b"C1", b"ho")]

    def test_several_frames_for_a_worker_of_the_guide(self) -> None:
        body = Parts((b"a", b"b"))
        assert lab.GUIDE.write_one(PlainTask(b"C1", body)) == [b"", b"C1", b"", b"a", b"b"]
        (answer,) = lab.GUIDE.read(b"W", [b"", b"C1", b"", b"a", b"b"])
        assert isinstance(answer, PlainAnswer)
        assert isinstance(answer.body, Parts) and answer.body.parts == (b"a", b"b")

    def test_the_others_have_room_for_one(self) -> None:
        assert lab.LAB.write_one(PlainTask(b"C1", Parts((b"a", b"b")))) == [b"", b"C1", b"ab"]

    @pytest.mark.parametrize("dialect", WORKERS)
    @pytest.mark.parametrize("frames", [[], [b"x"], [b"", b"C1"], [b"x", b"C1", b"", b"hi"], [b""] * 7])
    def test_what_is_no_answer(self, dialect: ReqWorker, frames: list[bytes]) -> None:
        with pytest.raises(BadMessage):
            dialect.read(b"W", frames)

    @pytest.mark.parametrize("dialect", WORKERS)
    def test_there_is_no_word_for_anything_but_a_task(self, dialect: ReqWorker) -> None:
        assert not dialect.write_one(Beat())
