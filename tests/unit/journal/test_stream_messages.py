"""The messages of a journal's stream: what is cut for them comes back, whoever dies in the middle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.errors import JournalDamaged, JournalTooNew
from cbw.journal.stream_messages import (
    MESSAGE_MARK,
    OVERHEAD_BYTES,
    Assembler,
    Batches,
    BatchPart,
    Ownership,
    StreamMessage,
    cut,
    decode_message,
    encode_message,
    next_after,
    position_behind,
)

BYTES_MAX = OVERHEAD_BYTES + 100


def assembled(messages: list[StreamMessage], first: int = 1) -> list[tuple[int, bytes]]:
    assembler = Assembler(first)
    return [
        found
        for sequence, message in enumerate(messages, 1)
        for found in assembler.batches(sequence, decode_message(sequence, encode_message(message)))
    ]


@given(st.lists(st.binary(max_size=350), max_size=30), st.integers(1, 1 << 40))
def test_batches_come_back_and_no_message_is_too_large(batches: list[bytes], position: int) -> None:
    messages = list(cut(7, position, batches, BYTES_MAX))
    assert all(len(encode_message(message)) <= BYTES_MAX for message in messages)
    assert assembled(messages) == list(enumerate(batches, position))
    if messages:
        assert next_after(messages[-1]) == position_behind(messages[-1]) == position + len(batches)


def test_as_few_messages_as_can_be() -> None:
    assert len(list(cut(7, 1, [b"x" * 20] * 12, BYTES_MAX))) == 3


def test_the_beginning_of_a_batch_whose_writer_died_is_no_batch() -> None:
    old = list(cut(7, 5, [b"a" * 250], BYTES_MAX))
    new = list(cut(9, 5, [b"b" * 250], BYTES_MAX))
    owner = Ownership("B", 1, 5, b"token")
    assert next_after(old[1]) == 5
    assert assembled([*old[:2], owner, *new]) == [(5, b"b" * 250)]
    assert assembled([*old[:2], *new]) == [(5, b"b" * 250)], "the same writer may begin again"
    assert assembled([*old[:2], owner, Batches(9, 5, [b"c"])]) == [(5, b"c")]


def test_what_is_below_the_first_position_is_left_out() -> None:
    assert assembled([Batches(7, 1, [b"1", b"2", b"3"])], first=3) == [(3, b"3")]
    parts = list(cut(7, 1, [b"x" * 250], BYTES_MAX))
    assert assembled([*parts[1:], Batches(7, 2, [b"2"])], first=2) == [(2, b"2")]


@pytest.mark.parametrize(
    "messages",
    [
        [Batches(7, 1, [b"1"]), Batches(7, 3, [b"3"])],
        [Batches(7, 1, [b"1"]), Batches(7, 1, [b"1"])],
        [BatchPart(7, 1, 0, 3, b"a"), BatchPart(7, 1, 2, 3, b"c")],
    ],
)
def test_what_is_missing_is_noticed(messages: list[StreamMessage]) -> None:
    with pytest.raises(JournalDamaged, match=r"message 2|before message"):
        assembled(messages)


@pytest.mark.parametrize("data", [b"", b"CBWN", b"hello", MESSAGE_MARK + b"\x01", MESSAGE_MARK + b"\x01\x93\x01"])
def test_a_message_that_is_none(data: bytes) -> None:
    with pytest.raises(JournalDamaged, match="message 12 of the stream"):
        decode_message(12, data)


def test_a_message_of_a_later_version() -> None:
    with pytest.raises(JournalTooNew, match="has format 2; this version reads up to 1"):
        decode_message(12, MESSAGE_MARK + b"\x02\x90")
