"""The lab's dialects, row by row of the table in ``docs/reference/wire.md``."""

from __future__ import annotations

import pytest

from cbw.core.messages import Answer, Parts, Status, error_body
from cbw.errors import BadMessage
from cbw.wire import plain
from cbw.wire.plain import Dialect, WorkerWord


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
        assert plain.read_request(frames) == (envelope, body)
        assert plain.write_reply(envelope, b"ho") == [*envelope, b"ho"]

    def test_a_body_of_several_frames(self) -> None:
        envelope, body = plain.read_request([b"", b"a", b"", b"c"])
        assert body == b"ac"
        assert plain.write_reply(envelope, body) == [b"", b"a", b"", b"c"]

    @pytest.mark.parametrize(
        "frames", [[], [b""], [b"hi"], [b"id", b""], [b"x"] * 20, [*[b"x"] * 9, b"", b"hi"], [b"x" * 5000, b"", b"hi"]]
    )
    def test_what_is_no_request(self, frames: list[bytes]) -> None:
        with pytest.raises(BadMessage):
            plain.read_request(frames)

    def test_an_error_is_a_text(self) -> None:
        answer = Answer(1, Status.GAVE_UP, error_body("gave_up", "three workers died"))
        assert plain.reply_body(answer) == b"ERROR GAVE_UP gave_up: three workers died"
        assert plain.reply_body(Answer(1, Status.OK, b"ho")) == b"ho"


class TestWorkers:
    @pytest.mark.parametrize(
        ("frames", "dialect"),
        [
            ([b"", b"", b""], Dialect.LAB),
            ([b"", b"", b"", b""], Dialect.EARLIER_LAB),
            ([b"", b"READY"], Dialect.GUIDE),
        ],
    )
    def test_the_first_message_tells_the_dialect(self, frames: list[bytes], dialect: Dialect) -> None:
        assert plain.read_registration(frames) is dialect

    @pytest.mark.parametrize("frames", [[], [b""], [b"READY"], [b"", b"ready"], [b"", b"C", b"x"], [b""] * 5])
    def test_what_is_no_registration(self, frames: list[bytes]) -> None:
        with pytest.raises(BadMessage):
            plain.read_registration(frames)

    @pytest.mark.parametrize(
        ("dialect", "task"),
        [
            (Dialect.LAB, [b"", b"C1", b"hi"]),
            (Dialect.EARLIER_LAB, [b"", b"C1", b"", b"hi"]),
            (Dialect.GUIDE, [b"", b"C1", b"", b"hi"]),
        ],
    )
    def test_tasks_and_answers(self, dialect: Dialect, task: list[bytes]) -> None:
        assert plain.write_task(dialect, b"C1", b"hi") == task
        assert plain.read_worker(dialect, [*task[:-1], b"ho"]) == WorkerWord(b"C1", b"ho")

    def test_several_frames_for_a_worker_of_the_guide(self) -> None:
        body = Parts((b"a", b"b"))
        assert plain.write_task(Dialect.GUIDE, b"C1", body) == [b"", b"C1", b"", b"a", b"b"]
        word = plain.read_worker(Dialect.GUIDE, [b"", b"C1", b"", b"a", b"b"])
        assert isinstance(word.body, Parts) and word.body.parts == (b"a", b"b")

    def test_the_others_have_room_for_one(self) -> None:
        assert plain.write_task(Dialect.LAB, b"C1", Parts((b"a", b"b"))) == [b"", b"C1", b"ab"]

    @pytest.mark.parametrize("dialect", Dialect)
    @pytest.mark.parametrize("frames", [[], [b"x"], [b"", b"C1"], [b"x", b"C1", b"", b"hi"], [b""] * 7])
    def test_what_is_no_answer(self, dialect: Dialect, frames: list[bytes]) -> None:
        with pytest.raises(BadMessage):
            plain.read_worker(dialect, frames)
