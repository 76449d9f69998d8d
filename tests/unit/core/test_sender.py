"""The sender's core: nothing is forgotten before it is acknowledged, and what is dropped leaves a gap in the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cbw.core import log_events
from cbw.core.batch import Ack, BatchRefused, boot_of
from cbw.core.sender import (
    ABSENT_S,
    RECONNECT_RETRY_S,
    SEND_RETRY_S,
    SILENCE_S,
    WINDOW_BYTES,
    SenderCore,
)

CONNECTED = log_events.LoggerConnected()
DISCONNECTED = log_events.LoggerDisconnected()

BOOT = boot_of("secret")


def sender(bytes_max: int = 10_000) -> SenderCore:
    return SenderCore("S", "secret", bytes_max, 0.0)


def add(*counts: int, size: int = 100) -> list[log_events.Fact]:
    """A chunk of ``size`` bytes for each of ``counts``."""
    return [log_events.RecordsAdded(count, b"x" * size) for count in counts]


def acked(through: int, *, resend: bool = False, boot: str = BOOT) -> log_events.Fact:
    return log_events.ReplyArrived(Ack(boot, through, resend))


def sent(core: SenderCore, facts: Sequence[log_events.Fact] = (), now: float = 0.0) -> list[int]:
    """The first numbers of all batches that are sent in answer to ``facts``."""
    return [order.header.first for order in core.step(facts, now) if isinstance(order, log_events.Send)]


def reconnects(core: SenderCore, now: float) -> bool:
    return log_events.Reconnect() in core.step([], now)


def test_chunks_are_numbered_and_sent_once() -> None:
    core = sender()
    assert sent(core, [CONNECTED, *add(3, 1, 5)]) == [1, 4, 5]
    assert sent(core) == []
    assert (core.oldest, core.last, core.acknowledged) == (1, 9, 0)


def test_a_batch_says_who_sends_which_records_and_what_is_left() -> None:
    core = sender()
    sent(core, [CONNECTED, *add(3)])
    (order,) = core.step([acked(3), *add(2)], 0.0)
    assert isinstance(order, log_events.Send)
    header = order.header
    assert (header.sender, header.boot, header.first, header.count, header.oldest) == ("S", BOOT, 4, 2, 4)
    assert not header.is_urgent


def test_nothing_is_sent_without_a_connection() -> None:
    core = sender(1000)
    assert sent(core, add(1)) == []
    assert sent(core, [CONNECTED], 1.0) == [1]


def test_acknowledged_chunks_go_and_half_acknowledged_ones_stay() -> None:
    core = sender()
    core.step([CONNECTED, *add(3, 3, 3)], 0.0)
    core.step([acked(5)], 0.0)
    assert (core.oldest, core.bytes, core.acknowledged) == (4, 200, 5)
    core.step([acked(9)], 0.0)
    assert core.waiting == 0 and core.bytes == 0 and core.oldest == 10


def test_a_lost_connection_sends_everything_again() -> None:
    core = sender()
    core.step([CONNECTED, *add(1, 1, 1)], 0.0)
    assert sent(core, [acked(1), DISCONNECTED]) == []
    assert sent(core, [CONNECTED], 1.0) == [2, 3]


def test_the_logger_can_ask_for_more() -> None:
    core = sender()
    core.step([CONNECTED, *add(1, 1, 1)], 0.0)
    assert sent(core, [acked(1, resend=True)]) == [2, 3]


def test_a_full_spool_drops_the_oldest_and_counts_them() -> None:
    core = sender(bytes_max=200)
    assert sent(core, [CONNECTED, *add(2, 3, 4)]) == [3, 6]
    assert (core.dropped, core.oldest, core.last) == (2, 3, 9)
    assert sent(core, add(1)) == [10]
    assert (core.dropped, core.oldest) == (5, 6)


def test_an_acknowledgement_of_what_was_never_sent_is_ignored() -> None:
    core = sender()
    core.step([CONNECTED, *add(1), acked(7)], 0.0)
    assert (core.acknowledged, core.oldest) == (0, 1)


def test_what_is_said_to_others_and_refusals_acknowledge_nothing() -> None:
    core = sender()
    core.step([CONNECTED, *add(1), acked(1, boot="another"), log_events.ReplyArrived(BatchRefused("no"))], 0.0)
    assert (core.acknowledged, core.oldest) == (0, 1)


def test_no_more_than_a_window_is_on_its_way() -> None:
    core = sender(10 * WINDOW_BYTES)
    assert sent(core, [CONNECTED, *add(1, 1, 1, 1, 1, size=WINDOW_BYTES // 2)]) == [1, 2]
    assert sent(core, [acked(1)]) == [3]


def test_what_could_not_be_sent_is_sent_a_moment_later() -> None:
    core = sender()
    assert sent(core, [CONNECTED, *add(1, 2, 3)]) == [1, 2, 4]
    assert sent(core, [log_events.SendBlocked(2)], 1.0) == []
    assert core.wake_at == 1.0 + SEND_RETRY_S
    assert sent(core, add(1), 1.0) == []
    assert sent(core, [], 1.0 + SEND_RETRY_S) == [2, 4, 7]


def test_what_could_not_be_sent_is_sent_when_the_logger_has_read_something() -> None:
    core = sender()
    core.step([CONNECTED, *add(1, 2)], 0.0)
    core.step([log_events.SendBlocked(2)], 0.0)
    assert sent(core, [acked(1)]) == [2]


def test_a_silent_logger_is_noticed_only_while_it_owes_a_word() -> None:
    core = sender()
    core.step([CONNECTED], 0.0)
    assert core.wake_at == math.inf and not reconnects(core, 100.0)
    core.step(add(1), 100.0)
    assert core.wake_at == 100.0 + SILENCE_S
    core.step([acked(0)], 101.0)  # it is alive, and has not written yet
    assert not reconnects(core, 100.1 + SILENCE_S)
    assert reconnects(core, 101.0 + SILENCE_S)


def test_a_logger_that_is_not_there_is_looked_for_anew() -> None:
    core = sender(1000)
    assert not reconnects(core, 100.0)
    assert log_events.Reconnect() in core.step(add(1), 100.0)
    assert not reconnects(core, 101.0)


def test_a_connection_that_was_just_made_is_not_dropped() -> None:
    core = sender()
    core.step(add(1), 0.0)
    assert sent(core, [CONNECTED], 100.0) == [1]
    assert not reconnects(core, 101.0)


def test_a_connection_that_could_not_be_begun_is_tried_again() -> None:
    core = sender()
    core.step(add(1), 0.0)
    assert reconnects(core, SILENCE_S)
    core.step([log_events.ReconnectFailed()], SILENCE_S)
    assert not reconnects(core, SILENCE_S + RECONNECT_RETRY_S / 2)
    assert reconnects(core, SILENCE_S + RECONNECT_RETRY_S)


def test_who_is_closed_delivers_what_is_left_and_says_that_it_is_urgent() -> None:
    core = sender()
    sent(core, [CONNECTED])
    send, *others = core.step([*add(2), log_events.CloseAsked(2.0)], 0.0)
    assert isinstance(send, log_events.Send) and send.header.is_urgent and not others
    assert core.step([acked(2)], 1.0) == [log_events.Close()]


def test_who_is_closed_waits_only_a_moment_for_a_logger_that_is_absent() -> None:
    core = sender()
    assert core.step([*add(2), log_events.CloseAsked(2.0)], 0.0) == []
    assert core.wake_at == ABSENT_S
    assert core.step([], ABSENT_S) == [log_events.Close()]


def test_who_is_closed_gives_up_a_logger_that_does_not_write() -> None:
    core = sender()
    core.step([CONNECTED, *add(2), log_events.CloseAsked(2.0)], 0.0)
    assert core.step([], ABSENT_S) == []
    assert core.wake_at == 2.0
    assert core.step([], 2.0) == [log_events.Close()]


def test_who_has_nothing_to_deliver_closes_at_once() -> None:
    assert sender().step([log_events.CloseAsked(2.0)], 0.0) == [log_events.Close()]


@given(st.lists(st.tuples(st.sampled_from(["put", "block", "ack", "lose", "connect", "resend"]), st.integers(1, 5))))
def test_every_number_is_acknowledged_dropped_or_here(steps: list[tuple[str, int]]) -> None:
    core = sender(500)
    at_logger = 0  # the logger takes records in order, and jumps over what is gone for ever
    lost = 0

    def deliver(facts: list[log_events.Fact], is_blocked: bool) -> None:
        nonlocal at_logger, lost
        orders = core.step(facts, 0.0)
        sends = [order for order in orders if isinstance(order, log_events.Send)]
        if is_blocked and sends:
            core.step([log_events.SendBlocked(sends[-1].header.first)], 0.0)
            del sends[-1]
        for header in (send.header for send in sends):
            if header.oldest > at_logger + 1:
                lost += header.oldest - at_logger - 1
                at_logger = header.oldest - 1
            if header.first <= at_logger + 1:
                at_logger = max(at_logger, header.first + header.count - 1)

    for step, size in steps:
        facts: dict[str, list[log_events.Fact]] = {
            "put": add(size),
            "block": add(size),
            "ack": [acked(at_logger)],
            "resend": [acked(at_logger, resend=True)],
            "lose": [DISCONNECTED],
            "connect": [CONNECTED],
        }
        deliver(facts[step], step == "block")
        assert core.acknowledged <= at_logger <= core.last
        assert lost <= core.dropped
        assert core.bytes <= 500
    deliver([CONNECTED], False)
    assert at_logger == core.last or core.waiting == 0
