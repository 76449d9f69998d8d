"""Records as lines: each has one, whatever is in it, and no line is too long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.wire import log
from cbw.wire.records import LINE_BYTES_MAX, lines_of

NAMES = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.binary(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES | st.integers(), children, max_size=3),
    max_leaves=10,
)
RECORDS = st.builds(
    Record,
    at=st.floats(allow_nan=False, allow_infinity=False),
    event=NAMES,
    sender=NAMES,
    text=NAMES,
    fields=st.none() | st.dictionaries(NAMES, VALUES, max_size=3),
)


def lines(*records: Record) -> list[dict[str, Any]]:
    """What the lines of ``records`` say."""
    return [json.loads(line) for line in lines_of(records).splitlines()]


@settings(max_examples=200)
@given(st.lists(RECORDS, max_size=5))
def test_every_record_has_a_line(records: list[Record]) -> None:
    assert [line["at"] for line in lines(*records)] == [record.at for record in records]


def test_what_fits_is_written_as_it_is() -> None:
    assert lines(Record(1.5, catalogue.LOG, text="café", fields={"a": [1, None]})) == [
        {"at": 1.5, "event": "log", "text": "café", "fields": {"a": [1, None]}}
    ]


def test_one_that_does_not_fit_leaves_the_others_alone() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    first, odd, last = lines(
        Record(1, catalogue.LOG, text="a"), Record(2, catalogue.LOG, fields=loop), Record(3, catalogue.LOG, text="c")
    )
    assert (first["text"], last["text"]) == ("a", "c")
    assert odd["fields"] == {"loop": "{'loop': {...}}"}


@pytest.mark.parametrize(
    "record",
    [
        Record(1, catalogue.LOG, text="x" * 9_000_000),
        Record(1, catalogue.LOG, text="\x01" * 9_000_000, fields={"a": "\x01" * 9_000_000}),
        Record(1, catalogue.LOG, text="\x01" * 200_000, sender="\x01" * 200_000, fields={"\x01" * 200_000: 1}),
        Record(1, catalogue.LOG, text="\x01" * 200_000, fields={f"{number}": "\x01" * 40_000 for number in range(40)}),
        Record(1, catalogue.LOG, fields={f"{number}": number for number in range(200_000)}),
    ],
    ids=["text", "escaped", "names", "many fields", "very many fields"],
)
def test_no_line_is_too_long(record: Record) -> None:
    line, other, end = lines_of([record, Record(2, catalogue.LOG, text="other")]).split(b"\n")
    assert len(line) < LINE_BYTES_MAX
    assert json.loads(line)["at"] == 1
    assert (json.loads(other)["text"], end) == ("other", b"")


def test_batches_are_bounded() -> None:
    whole = lines_of([Record(number, catalogue.LOG, text="x" * 500_000) for number in range(50)])
    batches = list(log.split(whole))
    assert b"".join(payload for _, payload in batches) == whole
    assert all(len(payload) <= log.BATCH_BYTES_MAX for _, payload in batches)
    assert [payload.count(b"\n") for _, payload in batches] == [count for count, _ in batches]
    assert len(batches) == 4
    assert list(log.split(lines_of([Record(1, catalogue.LOG)]))) == [(1, lines_of([Record(1, catalogue.LOG)]))]
