"""Whose positions a logger remembers, and over which connection a sender's records may come."""

from __future__ import annotations

from cbw.core import log_events
from cbw.core.batch import Ack, BatchRefused
from cbw.core.logger import POSITIONS_MAX
from tests.unit.core.test_logger import PEER, Log, batch, numbers


def test_a_boot_that_is_forgotten_before_its_sync() -> None:
    log = Log()
    assert len(log.turn(*(batch(1, 1, boot=f"b{number}") for number in range(POSITIONS_MAX + 5)))) == POSITIONS_MAX


def test_boots_not_heard_for_longest_are_forgotten() -> None:
    log = Log()
    for number in range(POSITIONS_MAX + 5):
        log.turn(batch(1, 1, boot=f"b{number}"), log_events.SendersLost([b"pb%d" % number]))
        if number == 10:
            log.turn(batch(2, 1, boot="b0"))
    assert len(log.core.positions) == POSITIONS_MAX
    assert "b0" in log.core.positions and not {"b1", "b5"} & log.core.positions.keys()


def test_a_flood_of_new_boots_pushes_out_no_sender_that_is_connected() -> None:
    """It was quiet and not lost: a gap of all its records was told when it spoke again."""
    log = Log()
    log.turn(batch(1, 5, boot="quiet"))
    for number in range(POSITIONS_MAX + 5):
        log.turn(batch(1, 1, boot=f"b{number}"), log_events.SendersLost([b"pb%d" % number]))
    log.records()
    log.turn(batch(6, 1, boot="quiet"))
    assert log.core.counts.gaps == 0 and numbers(log.records(), "quiet") == [6]


def test_when_all_are_connected_the_one_not_heard_for_longest_is_forgotten() -> None:
    log = Log()
    for number in range(POSITIONS_MAX + 2):
        log.turn(batch(1, 1, boot=f"b{number}"))
    assert len(log.core.positions) == POSITIONS_MAX and "b1" not in log.core.positions


def test_a_connection_carries_records_of_one_boot() -> None:
    log = Log()
    log.turn(batch(1, 2, boot="mine", peer=PEER))
    ((peer, reply),) = log.turn(batch(900_000, 1, boot="b", peer=PEER))
    assert peer == PEER and isinstance(reply, BatchRefused) and "connection" in reply.text
    assert "b" not in log.core.positions and log.core.counts.bad_messages == 1
    log.turn(log_events.SendersLost([PEER]))
    assert log.turn(batch(1, 1, boot="b", peer=PEER)) == [(PEER, Ack("b", 1))]
