"""Bytes at the logger's record port: a batch, or BadMessage, and nothing else."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core.lines import Ack, Lines, Refused
from cbw.errors import BadMessage
from cbw.wire import log

HEADERS = st.builds(Lines, st.text(max_size=5), st.text(max_size=5), *[st.integers(-2, 9)] * 3, st.booleans())
PAYLOADS = st.one_of(st.binary(max_size=60), st.lists(st.sampled_from([b"{}", b"[]", b"{", b"1", b""])).map(b"\n".join))
FRAMES = st.one_of(
    st.lists(st.one_of(st.binary(max_size=40), st.just(log.MAGIC)), min_size=1, max_size=4),
    st.builds(log.encode_lines, HEADERS, PAYLOADS),
    st.builds(lambda header, lines: log.encode_lines(header, lines + b"\n"), HEADERS, PAYLOADS),
)


@settings(max_examples=1000)
@given(FRAMES)
def test_a_batch_or_a_clear_no(frames: list[bytes]) -> None:
    with contextlib.suppress(BadMessage):
        header, payload = log.read_lines(frames)
        assert payload.count(b"\n") == header.count >= 1
        assert all(line.startswith(b"{") for line in payload.splitlines())


@settings(max_examples=500)
@given(st.lists(st.one_of(st.binary(max_size=40), st.just(log.MAGIC)), min_size=1, max_size=3))
def test_a_reply_or_a_clear_no(frames: list[bytes]) -> None:
    with contextlib.suppress(BadMessage):
        log.read_reply(frames)


@given(st.one_of(st.builds(Ack, st.text(), st.integers(0, 2**60), st.booleans()), st.builds(Refused, st.text())))
def test_replies_come_back_as_they_were(reply: Ack | Refused) -> None:
    assert log.read_reply(log.encode_reply(reply)) == reply
