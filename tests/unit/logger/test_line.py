"""How lines stand in the log: no line of text looks like a record, and positions are found again."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core.catalogue import EventName
from cbw.core.record import Record
from cbw.logger.line import JSON, TEXT, Format
from cbw.logs.search import record_of

FORMATS = pytest.mark.parametrize("format", [JSON, TEXT], ids=["json", "text"])
POSITIONS = b'{"at":1.0,"event":"positions","role":"logger","fields":{"b":900,"c":7},"boot":"own","seq":3}\n'


def record(**fields: object) -> bytes:
    return msgspec.json.encode({"at": 1.0, "event": "x", "sender": "S", **fields, "boot": "b", "seq": 9})


@FORMATS
@pytest.mark.parametrize(
    "line",
    [
        record(),
        b" " + record(),
        POSITIONS[:-1],
        b'{"event":"x","at":1}',
        b'{"at":"then","event":1,"boot":"b","seq":9}',
        b"2026-11-29 12:00:00.000 S x [b 9]",
    ],
)
def test_a_line_of_text_that_could_be_taken_for_a_record_is_quoted(format: Format, line: bytes) -> None:
    written = format.text_line([line])
    assert format.positions_in(written + b"\n", is_beginning=True) == {}
    assert record_of(written) is None
    assert written in (line, b"> " + line), "people can read it"


@FORMATS
@pytest.mark.parametrize(
    "line", [b"GET / took 3 ms [a 200]", b'{"level":30,"msg":"hello"}', b"[1]", "ñ > ü".encode(), b""]
)
def test_any_other_line_of_text_stays_as_it_is(format: Format, line: bytes) -> None:
    assert format.text_line([line]) == line


def test_what_would_break_a_line_is_written_out() -> None:
    assert JSON.text_line([b"a\nb\x1b\r", b"\xff\tc"]) == b"a\\nb\\u001b\\r \\xff\tc"


@FORMATS
def test_positions_of_records(format: Format) -> None:
    lines = b"".join(
        (line if format.render is None else format.render(line)) + b"\n" for line in (record(), record(text="[c 10]"))
    )
    assert format.positions_in(lines, is_beginning=False) == {"b": 9}


@FORMATS
def test_only_the_first_line_of_a_file_tells_the_positions_of_others(format: Format) -> None:
    """Senders may write records of every event, this one too."""
    own = {"own": 3} if format is JSON else {}
    assert format.positions_in(POSITIONS, is_beginning=True) == {"b": 900, "c": 7, **own}
    assert format.positions_in(POSITIONS, is_beginning=False) == own
    assert format.positions_in(b"text\n" + POSITIONS, is_beginning=True) == own


def test_positions_that_are_none() -> None:
    line = b'{"at":1.0,"event":"positions","role":"logger","fields":{"b":-1,"c":"7","d":true,"e":1e3,"f":4}}\n'
    assert JSON.positions_in(line, is_beginning=True) == {"f": 4}


def test_a_record_for_people_is_one_line_that_ends_with_its_number() -> None:
    assert TEXT.render is not None
    record = Record(0.0, EventName("x"), role="app", sender="S", text="a\nb [c 1]", boot="b", seq=9)
    line = TEXT.render(msgspec.json.encode(record))
    assert line.endswith(b" S x (a\\nb [c 1]) [b 9]")


def test_json_of_another_shape_is_written_as_it_is() -> None:
    assert TEXT.render is not None
    for line in (b'{"at":"then"}', b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        assert TEXT.render(line) == line
