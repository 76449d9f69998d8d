"""The story of a request: found from the end of the log, joined by task, in the order of cause and effect."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.logs import files, find
from cbw.logs.files import opened
from cbw.logs.find import near, records_of
from cbw.logs.story import in_order, tell

from .log import START, life, written

ORDER = ["sent", "accepted", "handed_out", "begun", "done", "answered", "got"]


def names(records: list[Record]) -> list[str]:
    return [record.event for record in records]


def test_a_request_that_was_answered() -> None:
    story = tell("C1/7", life(7, START))
    assert (story.outcome, story.worker, story.client, story.service) == ("answered", "W1", "C1", "echo")
    assert story.took_s == pytest.approx(0.01)
    [attempt] = story.attempts
    assert (attempt.task, attempt.attempt, attempt.worker, attempt.outcome) == (7, 1, "W1", "answered")
    assert attempt.handed_out_s == pytest.approx(0.01 / 3, abs=1e-6)
    assert names(story.records) == ORDER
    assert story.skew_s == 0


@pytest.mark.parametrize("seed", range(20))
def test_clocks_that_differ_do_not_change_the_order(seed: int) -> None:
    draw = random.Random(seed)
    offsets = {sender: draw.uniform(-5, 5) for sender in ("C1", "BRO", "W1")}
    records = life(7, START)
    for record in records:
        record.at += offsets[record.sender]
    draw.shuffle(records)
    records.sort(key=lambda record: record.seq)
    story = tell("C1/7", sorted(records, key=lambda record: record.at))
    assert names(story.records) == ORDER
    assert story.skew_s > 0.1, "and the story says that they differ"


def fenced_story() -> list[Record]:
    """W1 freezes, W2 takes over, W1 wakes. Workers' records, and the fence, know only tasks."""
    at = START
    of_broker = partial(Record, role="broker", sender="BRO", request="C1/7", client="C1")
    return [
        Record(at, catalogue.SENT, role="client", sender="C1", request="C1/7", client="C1"),
        of_broker(at + 0.1, catalogue.ACCEPTED),
        of_broker(at + 0.2, catalogue.HANDED_OUT, worker="W1", task=1, attempt=1),
        Record(at + 0.3, catalogue.BEGUN, role="worker", sender="W1", worker="W1", task=1),
        of_broker(at + 3.2, catalogue.ATTEMPT_FAILED, worker="W1", task=1, attempt=1, text="silent"),
        of_broker(at + 3.3, catalogue.HANDED_OUT, worker="W2", task=2, attempt=2),
        Record(at + 3.4, catalogue.BEGUN, role="worker", sender="W2", worker="W2", task=2),
        Record(at + 4.4, catalogue.DONE, role="worker", sender="W2", worker="W2", task=2),
        of_broker(at + 4.5, catalogue.ANSWERED, worker="W2", task=2, attempt=2),
        Record(at + 4.6, catalogue.GOT, role="client", sender="C1", request="C1/7", client="C1"),
        Record(at + 9.0, catalogue.DONE, role="worker", sender="W1", worker="W1", task=1),
        Record(at + 9.1, catalogue.FENCED, role="broker", sender="BRO", worker="W1", task=1),
    ]


def test_joined_by_task(tmp_path: Path) -> None:
    strangers = [
        Record(START + 2, catalogue.BEGUN, role="worker", sender="W3", worker="W3", task=1),  # of another broker
        Record(START + 2, catalogue.BEGUN, role="worker", sender="W1", worker="W1", task=11),
        Record(START - 2e5, catalogue.BEGUN, role="worker", sender="W1", worker="W1", task=1),  # of another day
    ]
    path = written(tmp_path / "logs", fenced_story() + strangers)
    with opened(path) as parts:
        story = tell("C1/7", records_of(parts, "C1/7"))
    assert names(story.records) == names(fenced_story())
    assert [(attempt.worker, attempt.outcome, attempt.is_fenced) for attempt in story.attempts] == [
        ("W1", "lost", True),
        ("W2", "answered", False),
    ]
    assert story.fenced == ["W1"]
    assert (story.outcome, story.worker) == ("answered", "W2")
    assert story.took_s == pytest.approx(4.6)


def test_a_name_that_was_used_before() -> None:
    records = life(7, START, took=0.5) + life(7, START + 100, worker="W2", boot="c")
    story = tell("C1/7", records)
    assert (story.worker, story.earlier, len(story.records)) == ("W2", 1, 7)


def test_a_request_whose_handler_was_called_again() -> None:
    at = START
    of_broker = partial(Record, role="broker", sender="BRO", request="C1/7", client="C1", worker="W1", attempt=1)
    of_worker = partial(Record, role="worker", sender="W1", worker="W1")
    records = [
        of_broker(at, catalogue.ACCEPTED, worker="", attempt=1),
        of_broker(at + 0.1, catalogue.HANDED_OUT, task=1),
        of_worker(at + 0.2, catalogue.BEGUN, task=1),
        of_worker(at + 0.3, catalogue.ERROR, task=1, text="ConnectionError: gone"),
        of_broker(at + 0.25, catalogue.RETRIED, task=1, text="in 2 s, after ConnectionError: gone"),
        of_broker(at + 2.3, catalogue.DUE, worker="", task=1),
        of_broker(at + 2.3, catalogue.HANDED_OUT, task=2),
        of_broker(at + 2.5, catalogue.ANSWERED, task=2),
    ]
    story = tell("C1/7", records)
    assert [(attempt.outcome, attempt.reason) for attempt in story.attempts] == [
        ("retried", "in 2 s, after ConnectionError: gone"),
        ("answered", ""),
    ]
    order = names(story.records)
    assert order.index("error") < order.index("retried"), "also if clocks differ"


def test_what_is_missing_is_left_open() -> None:
    story = tell("C1/7", [record for record in life(7, START) if record.event in ("accepted", "handed_out")])
    assert (story.outcome, story.took_s, story.attempts[0].outcome) == ("open", None, "open")
    assert tell("C1/7", life(7, START)[3:5]).attempts[0].worker == "W1"


def test_a_circle_is_no_endless_loop() -> None:
    records = life(7, START)
    for record in records:
        record.sender, record.role = "X", record.role
        record.boot = ""
    backwards = list(reversed(records))
    assert sorted(names(in_order(backwards))) == sorted(ORDER)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """1000 requests over three files, a second each, read in small blocks."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(find, "BEFORE_BYTES", 8192)
    records = [life(number, START + number) for number in range(1000)]
    parts = [[record for one in records[cut : cut + 400] for record in one] for cut in (0, 400, 800)]
    return written(tmp_path / "logs", *parts)


@pytest.mark.parametrize("number", [0, 1, 399, 400, 777, 999])
def test_found_wherever_it_is(path: Path, number: int) -> None:
    with opened(path) as parts:
        assert names(records_of(parts, f"C1/{number}")) == ORDER


def test_a_recent_one_needs_only_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    blocks_backward = files.Part.blocks_backward

    def counted(part: files.Part) -> object:
        for block in blocks_backward(part):
            read.append(len(block))
            yield block

    monkeypatch.setattr(files.Part, "blocks_backward", counted)
    with opened(path) as parts:
        assert names(records_of(parts, "C1/990")) == ORDER
    assert sum(read) < 100_000, "of more than a million bytes"


def test_a_batch_that_came_late_does_not_end_the_search(path: Path) -> None:
    """The worker's batch stands in the file long before, and the client's far behind; between them old records of others."""
    with path.open("ab") as file:
        new = life(5000, START + 2000)
        old = [record for number in range(8) for record in life(number, START + number, client="OLD")]
        from .log import line

        for record in [*new[1:6], *old, new[0], new[6]]:
            file.write(line(record))
    with opened(path) as parts:
        assert sorted(names(records_of(parts, "C1/5000"))) == sorted(ORDER)


def test_one_that_is_not_there(path: Path) -> None:
    with opened(path) as parts:
        assert records_of(parts, "C1/1234") == []
        assert near(parts, "C1/1234")[:2] == ["C1/999", "C1/998"]
        assert "C1/55" in near(parts, "C9/55")
        assert near(parts, "nothing like it") == []


@pytest.mark.parametrize("is_traced", [True, False], ids=["traced client", "silent client"])
def test_one_that_was_refused_and_sent_again(is_traced: bool) -> None:
    of_client = partial(Record, role="client", sender="C1", request="C1/7", client="C1")
    of_broker = partial(Record, role="broker", sender="BRO", request="C1/7", client="C1")
    records = [
        of_client(START, catalogue.SENT),
        of_broker(START + 0.1, catalogue.REFUSED, text="full"),
        of_client(START + 0.2, catalogue.RESENT),
        of_broker(START + 0.3, catalogue.REFUSED, text="full"),
        of_client(START + 0.4, catalogue.RESENT),
        of_broker(START + 0.5, catalogue.ACCEPTED),
    ]
    told = [record for record in records if is_traced or record.role == "broker"]
    assert tell("C1/7", told[:-1]).outcome == "refused"
    assert tell("C1/7", told).outcome == "open"
    told.append(of_broker(START + 0.6, catalogue.ANSWERED, worker="W1", task=1, attempt=1))
    story = tell("C1/7", told)
    assert (story.outcome, story.earlier, len(story.records)) == ("answered", 0, len(told))
    told.append(of_client(START + 9, catalogue.SENT))
    assert tell("C1/7", told).earlier == 1
