"""What a deployment prints and logs, as records."""

from __future__ import annotations

import msgspec

from cbw.core.record import Record
from cbw.verify.evidence import Line, begun_in, deployed, logged_in

from .records import begun, broker, done, given, got, sent


def line(at: float, text: str, container: str = "c1") -> Line:
    return Line(at, container, text)


def as_logged(*records: Record) -> list[Record]:
    for number, record in enumerate(records, 1):
        record.boot, record.seq = "b", number
    return list(records)


def events(records: list[Record]) -> list[tuple[str, str, str, int]]:
    return [(record.event, record.worker, record.request, record.task) for record in records]


def test_who_has_begun_it() -> None:
    lines = [
        line(3.0, "WOR_2 begins V_1/1", "c2"),
        line(1.0, "10:00:01.000 WOR_1 begins V_1/1"),
        line(1.0, "WOR_1 begins V_1/11"),
        line(1.0, "WOR_1 works for bro:9999"),
    ]
    assert begun_in(lines, "V_1/1") == [("WOR_1", lines[1]), ("WOR_2", lines[0])]
    assert not begun_in(lines, "V_1/2")


def test_without_a_logger_lines_and_answers_must_do() -> None:
    lines = [
        line(1.0, "WOR_1 begins V_1/1"),
        line(1.5, "WOR_1 begins CLI_7-1"),
        line(2.5, "12:00:00.000 BRO_x fenced worker WOR_1"),
        line(2.6, "12:00:00.000 BRO_x fenced V_1/1 worker WOR_2 attempt 2"),
    ]
    called = [sent(0.9, "V_1/1"), got(2.0, "V_1/1", "V_1/1 WOR_1"), got(2.0, "V_1/2", "nonsense")]
    assert events(deployed(lines, [], called, prefix="V_")) == [
        ("begun", "WOR_1", "V_1/1", 0),
        ("done", "WOR_1", "V_1/1", 0),
        ("fenced", "WOR_1", "", 0),
        ("fenced", "WOR_2", "", 0),
    ]


def test_what_the_log_tells_is_not_told_twice() -> None:
    log = as_logged(
        broker(0.9, "accepted", request="V_1/1"),
        given(1.0, "handed_out", "V_1/1", "WOR_1", 5),
        begun(1.1, "WOR_1", "", 5),
        done(2.0, "WOR_1", "", 5),
        given(2.1, "handed_out", "V_1/2", "WOR_1", 6),
        broker(3.0, "fenced", worker="WOR_1", task=6),
    )
    lines = [
        line(1.1, "WOR_1 begins V_1/1"),
        line(2.2, "WOR_1 begins V_1/2"),
        line(3.0, "12:00:00.000 BRO_x fenced worker WOR_1"),
    ]
    found = deployed(lines, log, [got(2.1, "V_1/1", "V_1/1 WOR_1")], prefix="V_")
    assert events(found) == [
        ("accepted", "", "V_1/1", 0),
        ("handed_out", "WOR_1", "V_1/1", 5),
        ("begun", "WOR_1", "V_1/1", 5),
        ("done", "WOR_1", "V_1/1", 5),
        ("handed_out", "WOR_1", "V_1/2", 6),
        ("begun", "WOR_1", "V_1/2", 6),  # printed only: the worker was killed before it could send that
        ("fenced", "WOR_1", "", 6),
    ]


def test_tasks_are_numbered_anew_by_a_broker_that_was_started_again() -> None:
    log = as_logged(
        given(1.0, "handed_out", "V_1/1", "WOR_1", 1),
        begun(1.1, "WOR_1", "", 1),
        given(9.0, "handed_out", "V_1/2", "WOR_1", 1),
        begun(9.1, "WOR_1", "", 1),
    )
    assert [record.request for record in deployed([], log, [], prefix="V_") if record.event == "begun"] == [
        "V_1/1",
        "V_1/2",
    ]


def test_other_clients_are_not_ours_to_judge() -> None:
    log = as_logged(sent(1.0, "CLI_7/1"), broker(1.1, "accepted", request="CLI_7/1"))
    assert [record.role for record in deployed([], log, [], prefix="V_")] == ["broker"]


def test_a_log_file_is_read_from_a_time_on_and_what_is_no_record_is_passed_over() -> None:
    whole = [broker(1.0, "accepted"), broker(5.0, "accepted"), broker(6.0, "answered")]
    content = msgspec.json.Encoder().encode_lines(whole) + b'a line of the lab\n{"at":1}\n\xff{\n{"at":7.0,"eve'
    assert [record.at for record in logged_in(content, 5.0)] == [5.0, 6.0]
