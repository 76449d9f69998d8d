"""Bytes at the logger's record port: a batch whose lines agree with its header, or BadMessage, and nothing else."""

from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core.batch import Ack, BatchHeader, BatchRefused
from cbw.core.record import Record
from cbw.errors import BadMessage
from cbw.logger.line import JSON, TEXT, Format
from cbw.wire import log

SENDERS = st.sampled_from(["", "S", "T", 'a "quoted" ñ'])
BOOTS = st.sampled_from(["b", "c", "b2"])
HEADERS = st.builds(
    BatchHeader,
    SENDERS | st.text(max_size=5),
    BOOTS | st.text(max_size=5),
    st.integers(-2, 9),
    st.integers(-2, 4),
    st.integers(-2, 9),
    st.booleans(),
)
RECORDS = st.builds(
    Record,
    st.just(1.0),
    st.text(max_size=3),
    sender=SENDERS,
    text=st.sampled_from(["", ',"boot":"b","seq":3}', "\n"]),
    fields=st.none() | st.dictionaries(st.sampled_from(["x", "boot", '"boot', "sender"]), BOOTS, max_size=3),
    boot=BOOTS,
    seq=st.integers(0, 5),
)
PIECES = st.sampled_from(
    [
        *(b"{}", b"[]", b"{", b"1", b"", b"\n", b" ", b',"boot":"b","seq":1}', b'{"x":', b'{"x":1'),
        *(b'{"sender":"S"}', b'{"at":1,"boot":"b","seq":1}', b'{"seq":1,"boot":"b"}', b'{"at":1,"boot":"c","seq":3}'),
        *(b'{"boot":"b","seq":1,"\\"boot":"c","seq":3}', b'{"boot":"b","seq":1,"x":{"a":1,"boot":"c","seq":3}}'),
    ]
)
NEAR = st.builds(BatchHeader, st.just(""), st.just("b"), st.just(1), st.integers(1, 3), st.just(1))
"""Of a batch that some of these pieces make up."""
PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.lists(PIECES, max_size=5).map(b"\n".join),
    st.lists(PIECES, max_size=5).map(b"".join),
    st.lists(RECORDS, max_size=4).map(msgspec.json.Encoder().encode_lines),
)
FRAMES = st.one_of(
    st.lists(st.one_of(st.binary(max_size=40), st.just(log.MAGIC)), min_size=1, max_size=4),
    st.builds(log.encode_batch, HEADERS, PAYLOADS),
    st.builds(lambda header, lines: log.encode_batch(header, lines + b"\n"), HEADERS | NEAR, PAYLOADS),
)


def agree(header: BatchHeader, payload: bytes) -> None:
    """Fail unless every line is a JSON object with the header's sender and boot, and its own number."""
    lines = payload.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == header.count >= 1
    for number, line in enumerate(lines, header.first):
        found = json.loads(line)
        assert (found.get("sender", ""), found["boot"], found["seq"]) == (header.sender, header.boot, number)


@settings(max_examples=400)
@given(FRAMES)
def test_a_batch_or_a_clear_no(frames: list[bytes]) -> None:
    with contextlib.suppress(BadMessage):
        header, payload = log.read_batch(frames)
        assert payload.count(b"\n") == header.count >= 1
        assert all(line.startswith(b"{") for line in payload.splitlines())
        agree(header, payload.replace(b"\xff", b"?"))
        for boot, seq in JSON.positions_in(payload, is_beginning=False).items():
            assert boot == header.boot and header.first <= seq < header.first + header.count


@settings(max_examples=250)
@given(SENDERS, BOOTS, st.integers(1, 10**9), st.lists(RECORDS, min_size=1, max_size=5), st.integers(0, 3))
def test_the_records_of_a_sender_are_a_batch(
    sender: str, boot: str, first: int, records: list[Record], before: int
) -> None:
    for number, record in enumerate(records, first):
        record.sender, record.boot, record.seq = sender, boot, number
    payload = msgspec.json.Encoder().encode_lines(records)
    header = BatchHeader(sender, boot, first, len(records), max(1, first - before))
    assert log.read_batch(log.encode_batch(header, payload)) == (header, payload)
    assert JSON.positions_in(payload, is_beginning=False) == {boot: first + len(records) - 1}


LINES = st.one_of(
    st.binary(max_size=60),
    st.lists(PIECES, max_size=4).map(b"".join),
    RECORDS.map(msgspec.json.encode),
    RECORDS.map(msgspec.json.encode).map(lambda line: b" " + line),
    RECORDS.map(lambda record: b"2026-11-29 12:00 " + record.text.encode() + b" [b %d]" % record.seq),
    st.just(b'{"at":1,"event":"positions","role":"logger","fields":{"b":900}}'),
)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(LINES, min_size=1, max_size=3), st.sampled_from([JSON, TEXT]), st.booleans())
def test_no_line_of_text_moves_a_position_or_is_a_record(
    frames: list[bytes], format: Format, is_beginning: bool
) -> None:
    line = format.text_line(frames) + b"\n"
    assert line.count(b"\n") == 1
    assert format.positions_in(line, is_beginning=is_beginning) == {}
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        msgspec.json.decode(line, type=Record)
        raise AssertionError("a program that reads the log takes it for a record")


@settings(max_examples=250)
@given(st.lists(st.one_of(st.binary(max_size=40), st.just(log.MAGIC)), min_size=1, max_size=3))
def test_a_reply_or_a_clear_no(frames: list[bytes]) -> None:
    with contextlib.suppress(BadMessage):
        log.read_reply(frames)


@given(st.one_of(st.builds(Ack, st.text(), st.integers(0, 2**60), st.booleans()), st.builds(BatchRefused, st.text())))
def test_replies_come_back_as_they_were(reply: Ack | BatchRefused) -> None:
    assert log.read_reply(log.encode_reply(reply)) == reply
