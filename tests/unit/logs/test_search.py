"""Which lines are found, in files rotated and compressed, from either end, and by time."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.logs import files
from cbw.logs.files import SLACK_S, opened
from cbw.logs.search import Query, Search, found, last_found, record_of
from cbw.logs.times import time_of

from .log import START, life, line, written


def lines_of(path: Path, query: Query) -> list[bytes]:
    with opened(path) as parts:
        return [line for lines in found(parts, Search(query)) for line in lines]


def events(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["event"] for line in lines]


@pytest.fixture(params=[1 << 20, 700], ids=["large blocks", "small blocks"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """300 requests of two clients in three files, with text among them; read in blocks larger and smaller than that."""
    monkeypatch.setattr(files, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(files, "_BISECT_BYTES", 2048)
    parts: list[list[Record | bytes]] = [[], [], []]
    for number in range(300):
        client = "C1" if number % 3 else "C2"
        parts[number // 100] += life(number, START + 10 * number, client=client, worker=f"W{number % 2}")
        if number % 50 == 25:
            parts[number // 100].append(b"the broker of the lab says C1 %d\n" % number)
    return written(tmp_path / "logs", *parts, rotated_at=[START + 1000, START + 2000])


def test_everything_in_its_order(path: Path) -> None:
    lines = lines_of(path, Query())
    assert len(lines) == 300 * 7 + 6
    assert lines[0] == line(life(0, START, client="C2", worker="W0")[0])[:-1]
    times = [json.loads(line)["at"] for line in lines if line.startswith(b"{")]
    assert times == sorted(times)


def test_by_field(path: Path) -> None:
    assert events(lines_of(path, Query(fields={"request": ("C1/7",)}))) == [
        "sent", "accepted", "handed_out", "begun", "done", "answered", "got",
    ]  # fmt: skip
    assert len(lines_of(path, Query(fields={"role": ("worker",)}))) == 600
    assert len(lines_of(path, Query(fields={"event": ("done", "begun"), "worker": ("W1",)}))) == 300
    assert len(lines_of(path, Query(fields={"client": ("C2",)}))) == 700, "workers' records too: they name its requests"
    assert len(lines_of(path, Query(fields={"client": ("C2",), "sender": ("BRO",)}))) == 300
    assert not lines_of(path, Query(fields={"request": ("C1/",)}))


def test_by_service(tmp_path: Path) -> None:
    """The nameless service is not written down: it is that of each record of a request without one."""
    named, nameless = life(1, START), life(2, START + 1)
    for record in nameless:
        record.service = ""
    lost = Record(START + 2, catalogue.WORKER_LOST, role="broker", sender="BRO", worker="W1")
    path = written(tmp_path / "logs", [*named, *nameless, lost, b"text\n"])
    for services, requests in (
        (("echo",), {"C1/1"}),
        (("",), {"C1/2"}),
        (("", "echo"), {"C1/1", "C1/2"}),
        (("x",), set()),
    ):
        lines = lines_of(path, Query(fields={"service": services}))
        assert {json.loads(line)["request"] for line in lines} == requests
        assert len(lines) == 7 * len(requests)
    assert events(lines_of(path, Query(fields={"service": ("",), "event": ("done",)}))) == ["done"]


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["accepted", "worker_ready", "worker_lost", "log", "log", "log", "of_a_later_version"]),
        ("info", ["worker_ready", "worker_lost", "log", "log", "of_a_later_version"]),
        ("warning", ["worker_lost", "log", "of_a_later_version"]),
        ("error", ["log"]),
        ("critical", []),
    ],
)
def test_by_level(tmp_path: Path, level: str, shown: list[str]) -> None:
    """A level and those above it. An event has its own, unless its record says otherwise."""
    of_app = partial(Record, role="app", sender="A")
    records = [
        Record(START, catalogue.ACCEPTED, role="broker", sender="BRO", request="C1/1"),
        Record(START, catalogue.WORKER_READY, role="broker", sender="BRO", worker="W1"),
        Record(START, catalogue.WORKER_LOST, role="broker", sender="BRO", worker="W1"),
        of_app(START, catalogue.LOG, level="debug", text='"level":"error"'),
        of_app(START, catalogue.LOG, level="info"),
        of_app(START, catalogue.LOG, level="error"),
        Record(START, catalogue.EventName("of_a_later_version"), role="broker", sender="BRO"),
    ]
    path = written(tmp_path / "logs", [*records, b"text\n"])
    assert events(lines_of(path, Query(level=level))) == shown
    of_broker = [event for event in shown if event != "log"]
    assert events(lines_of(path, Query(level=level, fields={"role": ("broker",)}))) == of_broker
    with opened(path) as parts:
        assert events(last_found(parts, Search(Query(level=level)), 1)) == shown[-1:]


def test_a_field_inside_of_another_is_not_it(tmp_path: Path) -> None:
    records = [
        Record(START, catalogue.LOG, role="app", sender="A", text='"role":"broker"'),
        Record(START, catalogue.LOG, role="app", sender="A", fields={"role": "broker"}),
    ]
    assert not lines_of(written(tmp_path / "logs", records), Query(fields={"role": ("broker",)}))


def test_a_client_whose_name_begins_like_another(tmp_path: Path) -> None:
    records = [
        Record(START, catalogue.BEGUN, role="worker", sender="W", request=name) for name in ("A/1", "A/B/2", "AB/3")
    ]
    found = lines_of(written(tmp_path / "logs", records), Query(fields={"client": ("A",)}))
    assert [json.loads(line)["request"] for line in found] == ["A/1"]


@pytest.mark.parametrize(
    ("pattern", "lines"), [(r"\Atext", [b"text 2"]), (r"1\Z", [b"a text 1"]), ("^a text", [b"a text 1"])]
)
def test_patterns_about_the_ends_of_a_line(tmp_path: Path, pattern: str, lines: list[bytes]) -> None:
    path = written(tmp_path / "logs", [b"a text 1\n", b"text 2\n"])
    assert lines_of(path, Query(patterns=(pattern,))) == lines


def test_a_file_whose_name_only_looks_like_a_time(tmp_path: Path) -> None:
    path = written(tmp_path / "logs", [b"new\n"])
    path.with_name("logs.20259999T999999.999999").write_bytes(b"old\n")
    assert lines_of(path, Query()) == [b"old", b"new"]


def test_names_that_json_escapes(tmp_path: Path) -> None:
    name = 'a"b\\ñ'
    path = written(tmp_path / "logs", life(1, START, client=name))
    assert len(lines_of(path, Query(fields={"client": (name,)}))) == 7


def test_by_pattern(path: Path) -> None:
    assert len(lines_of(path, Query(patterns=("of the lab",)))) == 6
    assert len(lines_of(path, Query(patterns=("says C1 [27]5$",)))) == 2
    assert len(lines_of(path, Query(patterns=("^the", "125")))) == 1
    assert len(lines_of(path, Query(patterns=('"C1/7"',), fields={"role": ("client",)}))) == 2
    with pytest.raises(UsageError, match="regular"):
        Search(Query(patterns=("(",)))


@pytest.mark.parametrize("since,until", [(0, 2999), (1500, 1600), (500, 2500), (995, 1005), (2990, 9999), (3500, 9000)])
def test_by_time(path: Path, since: float, until: float) -> None:
    expected = [
        line(record)[:-1]
        for number in range(300)
        for record in life(number, START + 10 * number, client="C1" if number % 3 else "C2", worker=f"W{number % 2}")
        if START + since <= record.at <= START + until
    ]
    lines = lines_of(path, Query(START + since, START + until))
    assert [line for line in lines if line.startswith(b"{")] == expected
    texts = [int(line.rpartition(b" ")[2]) for line in lines if not line.startswith(b"{")]
    assert texts == [n for n in range(25, 300, 50) if since <= 10 * n + 0.01 <= until], (
        "text is as old as what is before"
    )


def test_the_last_lines(path: Path) -> None:
    whole = lines_of(path, Query())
    with opened(path) as parts:
        for count in (0, 1, 6, 700, 1000, 2106, 5000):
            assert last_found(parts, Search(Query()), count) == (whole[-count:] if count else [])
        done = Query(fields={"event": ("done",)})
        assert last_found(parts, Search(done), 150) == lines_of(path, done)[-150:]
        late = Query(since=START + 2500, fields={"event": ("done",)})
        assert last_found(parts, Search(late), 150) == lines_of(path, done)[-50:]


def test_the_last_lines_are_looked_for_no_further_than_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older file is compressed, and to read it means to unpack all of it."""

    def refuse() -> NoReturn:
        raise AssertionError("unpacked")

    with opened(path) as parts:
        assert len(parts) > 1
        for part in parts[:-1]:
            monkeypatch.setattr(part, "blocks_backward", refuse)
        assert len(last_found(parts, Search(Query()), 3)) == 3


def test_records_that_came_late_are_found_by_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of different senders overtake each other by up to the slack."""
    monkeypatch.setattr(files, "_BISECT_BYTES", 1024)
    draw = random.Random(1)
    records = [Record(START + number, catalogue.LOG, role="app", sender="A", count=number) for number in range(5000)]
    records.sort(key=lambda record: record.at + draw.uniform(0, SLACK_S - 1))
    path = written(tmp_path / "logs", records)
    for since in (100, 2500, 4900):
        lines = lines_of(path, Query(START + since, START + since + 50))
        assert sorted(json.loads(line)["count"] for line in lines) == list(range(since, since + 51))


def test_long_lines_and_torn_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 100)
    content = [b"x" * 1000 + b"\n", b"\n", b"short\n", b'{"at":17, torn']
    path = written(tmp_path / "logs", content)
    expected = [line.rstrip(b"\n") for line in content]
    assert lines_of(path, Query()) == expected
    with opened(path) as parts:
        assert last_found(parts, Search(Query()), 10) == expected


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = written(tmp_path / "logs", [b"old\n"], [b"older\n"] * 100_000, [b"new\n"])
    packed = next(tmp_path.glob("*.gz"))
    packed.write_bytes(packed.read_bytes()[:-9])
    with opened(path) as parts:
        lines = [line for lines in found(parts, Search(Query())) for line in lines]
        assert parts[0].damage
    assert lines[-1] == b"new"


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"), opened(tmp_path / "logs"):
        pass


def test_times() -> None:
    now = time_of("2025-06-01T12:00:00", 0.0)
    assert time_of("10m", now) == now - 600
    assert time_of("2h ago", now) == now - 7200
    assert time_of("1.5d", now) == now - 129600
    assert time_of("11:30", now) == now - 1800
    assert time_of("11:59:30", now) == now - 30
    assert time_of("13:00", now) == now - 23 * 3600, "it has not been 13:00 today"
    assert time_of("2025-06-01T12:00:00Z", now) == 1748779200.0
    for wrong in ("soon", "25:00", "10 parsecs", ""):
        with pytest.raises(UsageError, match="is no time"):
            time_of(wrong, now)


def test_text_that_is_nested_deeper_than_anybody_can_read() -> None:
    assert record_of(b'{"at":1,"event":"x","fields":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}") is None
