"""The sender's spool: nothing is forgotten before it is acknowledged, and what is dropped leaves a gap in the numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cbw.core.spool import SILENCE_S, WINDOW_BYTES, Spool


def spool_with(*counts: int, bytes_max: int = 10_000) -> Spool:
    """A connected spool with a chunk of 100 bytes for each of ``counts``."""
    spool = Spool(bytes_max, 0.0)
    spool.connected(0.0)
    for count in counts:
        spool.put(count, b"x" * 100)
    return spool


def send_all(spool: Spool, now: float = 0.0) -> list[int]:
    """The first numbers of all chunks that can be sent now."""
    sent = []
    while (chunk := spool.next(now)) is not None:
        sent.append(chunk.first)
        spool.sent()
    return sent


def test_chunks_are_numbered_and_sent_once() -> None:
    spool = spool_with(3, 1, 5)
    assert send_all(spool) == [1, 4, 5]
    assert send_all(spool) == []
    assert (spool.oldest, spool.last, spool.acked) == (1, 9, 0)


def test_nothing_is_sent_without_a_connection() -> None:
    spool = Spool(1000, 0.0)
    spool.put(1, b"x")
    assert send_all(spool) == []
    spool.connected(1.0)
    assert send_all(spool) == [1]


def test_acknowledged_chunks_go_and_half_acknowledged_ones_stay() -> None:
    spool = spool_with(3, 3, 3)
    send_all(spool)
    spool.acknowledged(5, 0.0)
    assert (spool.oldest, spool.bytes, spool.acked) == (4, 200, 5)
    spool.acknowledged(9, 0.0)
    assert spool.is_empty and spool.bytes == 0 and spool.oldest == 10


def test_a_lost_connection_sends_everything_again() -> None:
    spool = spool_with(1, 1, 1)
    send_all(spool)
    spool.acknowledged(1, 0.0)
    spool.disconnected(0.0)
    assert send_all(spool) == []
    spool.connected(1.0)
    assert send_all(spool) == [2, 3]


def test_the_logger_can_ask_for_more() -> None:
    spool = spool_with(1, 1, 1)
    send_all(spool)
    spool.acknowledged(1, 0.0, is_resend_wanted=True)
    assert send_all(spool) == [2, 3]


def test_a_full_spool_drops_the_oldest_and_counts_them() -> None:
    spool = spool_with(2, 3, 4, bytes_max=200)
    assert (spool.dropped, spool.oldest, spool.last) == (2, 3, 9)
    assert send_all(spool) == [3, 6]
    spool.put(1, b"x" * 100)
    assert (spool.dropped, spool.oldest) == (5, 6)
    assert send_all(spool) == [10]


def test_an_acknowledgement_of_what_was_never_sent_is_ignored() -> None:
    spool = spool_with(1)
    spool.acknowledged(7, 0.0)
    assert (spool.acked, spool.oldest) == (0, 1)


def test_no_more_than_a_window_is_on_its_way() -> None:
    spool = Spool(10 * WINDOW_BYTES, 0.0)
    spool.connected(0.0)
    for _ in range(5):
        spool.put(1, b"x" * (WINDOW_BYTES // 2))
    assert send_all(spool) == [1, 2]
    spool.acknowledged(1, 0.0)
    assert send_all(spool) == [3]


def test_a_silent_logger_is_noticed_only_while_it_owes_a_word() -> None:
    spool = spool_with()
    assert not spool.is_silent(100.0)
    spool.put(1, b"x")
    send_all(spool, 100.0)
    assert not spool.is_silent(100.0 + SILENCE_S)
    assert spool.is_silent(100.1 + SILENCE_S)
    spool.acknowledged(0, 101.0)  # it lives, and has not written yet
    assert not spool.is_silent(100.1 + SILENCE_S)


def test_a_logger_that_is_not_there_is_looked_for_anew() -> None:
    spool = Spool(1000, 0.0)
    assert not spool.is_silent(100.0)
    spool.put(1, b"x")
    assert spool.is_silent(100.0)
    spool.disconnected(100.0)
    assert not spool.is_silent(101.0)


@given(st.lists(st.tuples(st.sampled_from(["put", "send", "ack", "lose", "connect", "resend"]), st.integers(1, 5))))
def test_every_number_is_acknowledged_dropped_or_here(steps: list[tuple[str, int]]) -> None:
    spool = Spool(500, 0.0)
    at_logger = 0  # the logger takes records in order, and jumps over what is gone for ever
    lost = 0
    for step, size in steps:
        match step:
            case "put":
                spool.put(size, b"x" * 100)
            case "send":
                chunk = spool.next(0.0)
                if chunk is not None:
                    spool.sent()
                    if chunk.first > at_logger + 1 and spool.oldest > at_logger + 1:
                        lost += spool.oldest - at_logger - 1
                        at_logger = spool.oldest - 1
                    if chunk.first <= at_logger + 1:
                        at_logger = max(at_logger, chunk.first + chunk.count - 1)
            case "ack":
                spool.acknowledged(at_logger, 0.0)
            case "resend":
                spool.acknowledged(at_logger, 0.0, is_resend_wanted=True)
            case "lose":
                spool.disconnected(0.0)
            case "connect":
                spool.connected(0.0)
        assert spool.acked <= at_logger <= spool.last
        assert lost <= spool.dropped
        assert spool.bytes <= 500
    spool.connected(0.0)
    while (chunk := spool.next(0.0)) is not None:
        spool.sent()
        if spool.oldest > at_logger + 1:
            lost += spool.oldest - at_logger - 1
        at_logger = chunk.first + chunk.count - 1
    assert at_logger == spool.last or spool.is_empty
