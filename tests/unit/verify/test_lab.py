"""The clients and workers that a broker of the lab meets, and what is judged of that broker only."""

from __future__ import annotations

from cbw.core.record import Record
from cbw.verify.checks import judge
from cbw.verify.lab_peers import LabClient, LabWorker
from cbw.verify.verdict import Verdict

from .records import begun, done, failed, got, hurt, sent, started


def verdict(name: str, records: list[Record]) -> Verdict:
    every = judge([started(0.0), hurt(0.0, "lab_spoken", "", ""), *records])
    return next(found for found in every if found.name == name)


def told(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.event, record.request) for record in records]


class TestClient:
    def test_it_asks_and_is_answered(self) -> None:
        records: list[Record] = []
        client = LabClient("C", records.append)
        assert client.ask(0.5, 1.0) == [b"", b"C/1 0.5"]
        client.take([b"", b"C/1 0.5 W"], 2.0)
        assert (client.request, client.answered_by) == ("", "W")
        assert client.ask(0, 3.0) == [b"", b"C/2 0"]
        client.give_up(9.0, "no answer")
        client.give_up(9.0, "no answer")
        assert told(records) == [("sent", "C/1"), ("got", "C/1"), ("sent", "C/2"), ("failed", "C/2")]

    def test_answers_that_a_req_socket_would_hide(self) -> None:
        records: list[Record] = []
        client = LabClient("C", records.append)
        client.ask(0.5, 1.0)
        client.take([b"C/1 0.5 W"], 2.0)
        client.take([b"", b"C/1", b"W"], 2.0)
        assert client.request and client.odd_frames == "['', 'C/1', 'W']"
        for _ in range(2):
            client.take([b"", b"C/1 0.5 W"], 2.0)
        assert told(records)[-2:] == [("got", "C/1"), ("unasked", "")]
        assert records[-1].count == 1


class TestWorker:
    def test_it_takes_its_time(self) -> None:
        records: list[Record] = []
        worker = LabWorker("W", records.append)
        worker.take([b"", b"C", b"C/1 0.5"], 1.0)
        assert (worker.request, worker.wakes_at) == ("C/1", 1.5)
        assert worker.work(1.4) == []
        assert worker.work(1.5) == [[b"", b"C", b"C/1 0.5 W"]]
        assert not worker.request
        assert told(records) == [("begun", "C/1"), ("done", "C/1")]

    def test_frozen_it_answers_when_it_wakes(self) -> None:
        worker = LabWorker("W", lambda _: None)
        worker.take([b"", b"C", b"C/1 0.5"], 1.0)
        worker.is_frozen = True
        assert worker.wakes_at is None and worker.work(9.0) == []
        worker.is_frozen = False
        assert len(worker.work(9.0)) == 1

    def test_a_second_task(self) -> None:
        records: list[Record] = []
        worker = LabWorker("W", records.append)
        for number in (1, 2):
            worker.take([b"", b"C", b"C/%d 0.5" % number], 1.0)
        assert (records[-1].event, records[-1].request, records[-1].text) == ("second_task", "C/2", "C/1")
        assert len(worker.work(1.5)) == 1 and worker.request == "C/2"

    def test_frames_of_another_dialect(self) -> None:
        records: list[Record] = []
        worker = LabWorker("W", records.append)
        for frames in ([b"", b"C", b"", b"C/1"], [b"C", b"C/1"], [b"", b"", b"C/1"], [b"\xff", b"C", b"C/1"]):
            worker.take(frames, 1.0)
            assert worker.odd_frames
        assert worker.request == "" and {record.event for record in records} == {"bad_message"}

    def test_a_stranger_s_request_takes_no_time(self) -> None:
        worker = LabWorker("W", lambda _: None)
        for body in (b"\xff\xfe", b"hello", b"C/1 nan", b"C/1 -3", b""):
            worker.take([b"", b"C", body], 1.0)
            assert len(worker.work(1.0)) == 1, body


TURNS = [
    sent(0.0, "A/1"), begun(0.1, "W1", "A/1"), done(0.2, "W1", "A/1"), got(0.3, "A/1", "A/1 W1"),
    sent(0.4, "A/2"), begun(0.5, "W2", "A/2"), done(0.6, "W2", "A/2"), got(0.7, "A/2", "A/2 W2"),
]  # fmt: skip


def test_whose_turn_it_is() -> None:
    right = verdict("least-recently-used", [*TURNS, sent(0.8, "A/3"), begun(0.9, "W1", "A/3")])
    assert right.result == "kept" and right.figures == {"judged": 1, "wrong": 0}
    wrong = verdict("least-recently-used", [*TURNS, sent(0.8, "A/3"), begun(0.9, "W2", "A/3")])
    assert wrong.result == "broken"
    assert wrong.evidence == ["A/3 went to W2, free for 0.300 s, while W1 had been free for 0.700 s"]


def test_whose_turn_it_is_among_many_requests_cannot_be_told() -> None:
    more = [sent(0.8, "A/3"), sent(0.8, "B/1"), begun(0.9, "W2", "A/3")]
    assert verdict("least-recently-used", [*TURNS, *more]).result == "not tried"
    dead = [hurt(0.75, "killed", "W1", "A/9"), sent(0.8, "A/3"), begun(0.9, "W2", "A/3")]
    assert verdict("least-recently-used", [*TURNS, *dead]).result == "not tried"


def test_one_at_a_time() -> None:
    second = Record(0.15, "second_task", role="worker", sender="W1", request="A/2", worker="W1", text="A/1")  # type: ignore[arg-type]
    assert verdict("one-at-a-time", TURNS).result == "kept"
    assert verdict("one-at-a-time", [*TURNS, second]).evidence == ["W1 was given A/2 while it worked on A/1"]


def test_bad_frames() -> None:
    strange = Record(0.8, "strange_sent", role="verify", sender="verify", text="a frame")  # type: ignore[arg-type]
    asked = sent(0.9, "A/3")
    assert verdict("bad-frames", TURNS).result == "not tried"
    assert verdict("bad-frames", [*TURNS, strange, asked, got(1.0, "A/3", "A/3 W1")]).result == "kept"
    broken = verdict("bad-frames", [*TURNS, strange, asked, failed(1.0, "A/3")])
    assert broken.evidence == ["after a frame nobody was answered any more"]


def test_the_broker_is_not_brought_down() -> None:
    names = [found.name for found in judge([started(0.0), hurt(0.0, "lab_spoken", "", "")])]
    assert not [name for name in names if name.endswith("-broker")]
