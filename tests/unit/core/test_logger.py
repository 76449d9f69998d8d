"""The logger's decisions: order, gaps, duplicates, who is told when, and what happens while nothing can be written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from cbw.core import log_events
from cbw.core.batch import Ack, BatchHeader, BatchRefused
from cbw.core.logger import (
    BEAT_S,
    ROTATE_RETRY_S,
    SYNC_S,
    TEXT_BYTES_MAX,
    WRITE_RETRY_S,
    Fsync,
    LoggerCore,
)

PEER = b"p"
EPOCH = 1000.0


class Log:
    """A core and, in memory, the file that it writes: its orders are carried out at once."""

    def __init__(self, fsync: Fsync = Fsync.NEVER) -> None:
        self.core = LoggerCore("LOG", "own", epoch=EPOCH, fsync=fsync)
        self.written: list[bytes] = []  # block by block
        self.tried: list[bytes] = []  # those too that could not be written
        self.syncs = 0
        self.told: list[log_events.Order] = []
        self.failing: set[type[log_events.Order]] = set()
        self.next_taken = log_events.FileTaken({})

    def turn(self, *facts: log_events.Fact, now: float = 0.0) -> list[tuple[bytes, Ack | BatchRefused]]:
        """One pass of the loop; the replies."""
        return self.step(log_events.TurnBegan(EPOCH), *facts, now=now)

    def step(self, *facts: log_events.Fact, now: float = 0.0) -> list[tuple[bytes, Ack | BatchRefused]]:
        replies = []
        left = list(facts)
        while left:
            orders = self.core.step(left, now)
            replies += [(order.peer, order.reply) for order in orders if isinstance(order, log_events.Reply)]
            left = [outcome for order in orders if (outcome := self._carry_out(order)) is not None]
        return replies

    def _carry_out(self, order: log_events.Order) -> log_events.Fact | None:
        is_failing = type(order) in self.failing
        match order:
            case log_events.TakeFile():
                taken, self.next_taken = self.next_taken, log_events.FileTaken({})
                return log_events.WriteFailed("locked") if is_failing else taken
            case log_events.Write(block):
                self.tried.append(block)
                if is_failing:
                    return log_events.WriteFailed("full")
                self.written.append(block)
                return log_events.BlockWritten()
            case log_events.Sync():
                self.syncs += 1
                return log_events.SyncFailed("broken") if is_failing else log_events.FileSynced()
            case log_events.Rotate(first_line):
                if is_failing:
                    return log_events.RotationFailed("busy")
                self.written.append(first_line)
                return log_events.FileRotated()
            case log_events.Reopen():
                return log_events.FileReopened()
            case log_events.TellFailure() | log_events.TellRecovery():
                self.told.append(order)
        return None

    def records(self) -> list[dict[str, Any]]:
        """What was written since the last call."""
        lines = b"".join(self.written).splitlines()
        self.written.clear()
        return [json.loads(line) for line in lines if line.startswith(b"{")]


def lines(first: int, count: int, boot: str = "b") -> bytes:
    return b"".join(b'{"boot":"%b","seq":%d}\n' % (boot.encode(), number) for number in range(first, first + count))


def batch(
    first: int,
    count: int,
    *,
    oldest: int | None = None,
    boot: str = "b",
    is_urgent: bool = False,
    peer: bytes | None = None,
) -> log_events.BatchArrived:
    """From the connection of that boot, unless ``peer`` is another one."""
    header = BatchHeader("S", boot, first, count, first if oldest is None else oldest, is_urgent)
    peer = peer or (PEER if boot == "b" else PEER + boot.encode())
    return log_events.BatchArrived(peer, header, lines(first, count, boot))


def text(*lines: bytes) -> log_events.TextArrived:
    return log_events.TextArrived(list(lines))


def numbers(records: list[dict[str, Any]], boot: str = "b") -> list[int]:
    return [record["seq"] for record in records if record["boot"] == boot]


def test_records_are_written_in_order_and_acknowledged() -> None:
    log = Log()
    assert log.turn(batch(1, 3), batch(4, 2)) == [(PEER, Ack("b", 5))]
    assert numbers(log.records()) == [1, 2, 3, 4, 5]


def test_nothing_is_written_before_the_file_is_taken_nor_acknowledged_before_it_is_written() -> None:
    core = LoggerCore("LOG", "own", epoch=EPOCH, fsync=Fsync.NEVER)
    assert core.step([log_events.TurnBegan(EPOCH), batch(1, 3)], 0.0) == [log_events.TakeFile()]
    assert core.step([log_events.FileTaken({})], 0.0) == [log_events.Write(lines(1, 3))]
    reply, release = core.step([log_events.BlockWritten()], 0.0)
    assert reply == log_events.Reply(PEER, Ack("b", 3))
    assert release == log_events.ReleaseFile()


@pytest.mark.parametrize(("fsync", "due_at"), [(Fsync.ALWAYS, 0.0), (Fsync.INTERVAL, SYNC_S)])
def test_nothing_is_acknowledged_before_it_is_synced(fsync: Fsync, due_at: float) -> None:
    core = LoggerCore("LOG", "own", epoch=EPOCH, fsync=fsync)
    core.step([log_events.TurnBegan(EPOCH), batch(1, 3)], 0.0)
    core.step([log_events.FileTaken({})], 0.0)
    orders = core.step([log_events.BlockWritten()], 0.0)
    if due_at:
        assert orders == [log_events.ReleaseFile()]
        assert core.wake_at <= due_at
        assert core.step([], due_at - 0.01) == []
        orders += core.step([], due_at)
    assert orders == [log_events.ReleaseFile(), log_events.Sync()]
    assert core.step([log_events.FileSynced()], due_at) == [log_events.Reply(PEER, Ack("b", 3))]
    assert log_events.Sync() not in core.step([], 1e9)


def test_what_was_written_after_the_sync_began_waits_for_the_next() -> None:
    log = Log(Fsync.INTERVAL)
    log.turn(batch(1, 1))
    assert log.core.step([log_events.TurnBegan(EPOCH), batch(2, 1)], SYNC_S) == [log_events.Sync()]
    reply, take = log.core.step([log_events.FileSynced()], SYNC_S)
    assert reply == log_events.Reply(PEER, Ack("b", 1))
    assert take == log_events.TakeFile()
    assert log.core.step([log_events.FileTaken({})], SYNC_S) == [log_events.Write(lines(2, 1))]


def test_a_sender_that_is_about_to_end_is_synced_for_at_once() -> None:
    log = Log(Fsync.INTERVAL)
    assert log.turn(batch(1, 1, is_urgent=True)) == [(PEER, Ack("b", 1))]
    assert log.syncs == 1


def test_duplicates_are_left_out_and_counted() -> None:
    log = Log()
    log.turn(batch(1, 4))
    log.records()
    log.turn(batch(3, 4))
    written = log.records()
    assert numbers(written) == [5, 6]
    (noted,) = (record for record in written if record.get("event") == "duplicates")
    assert noted["count"] == 2 and log.core.counts.duplicates == 2
    assert log.turn(batch(1, 6))[-1] == (PEER, Ack("b", 6))
    assert numbers(log.records()) == []
    assert log.core.counts.duplicates == 8


def test_what_the_sender_has_dropped_is_a_gap() -> None:
    log = Log()
    log.turn(batch(1, 2))
    log.records()
    log.turn(batch(8, 3))
    written = log.records()
    gap = written[0]
    assert (gap["event"], gap["count"], gap["role"], gap["sender"]) == ("gap", 5, "logger", "LOG")
    assert "3 to 7" in gap["text"]
    assert numbers(written) == [8, 9, 10]
    assert (log.core.counts.gaps, log.core.counts.missing) == (1, 5)


def test_a_start_whose_first_records_are_gone_is_a_gap_too() -> None:
    log = Log()
    log.turn(batch(4, 1))
    assert log.records()[0]["count"] == 3


def test_disorder_is_no_gap() -> None:
    """Batches of an old connection may come after those of a new one: the sender still has what is between."""
    log = Log()
    log.turn(batch(1, 2))
    log.records()
    assert log.turn(batch(5, 2, oldest=3)) == [(PEER, Ack("b", 0, True))]
    assert log.records() == [] and log.core.counts.gaps == 0
    log.turn(batch(3, 2), batch(5, 2))
    assert numbers(log.records()) == [3, 4, 5, 6]


def test_a_sender_is_asked_once_however_much_of_it_is_still_on_its_way() -> None:
    """Else it would begin anew with each batch that it sent before it heard the question."""
    log = Log()
    log.turn(batch(1, 2))
    ahead = [batch(first, 2, oldest=3) for first in (5, 7, 9)]
    assert log.turn(*ahead) == [(PEER, Ack("b", 0, True))]
    log.turn(batch(3, 2))
    assert log.turn(batch(9, 2, oldest=5)) == [(PEER, Ack("b", 0, True))], "it has moved since"


def test_a_gap_before_a_disorder() -> None:
    log = Log()
    assert log.turn(batch(9, 2, oldest=5))[0] == (PEER, Ack("b", 0, True))
    written = log.records()
    assert [record.get("count") for record in written] == [4] and numbers(written) == []


def test_positions_are_found_again_in_the_log() -> None:
    log = Log()
    log.next_taken = log_events.FileTaken({"b": 7})
    log.turn(batch(6, 4))
    assert numbers(log.records()) == [8, 9]
    log.next_taken = log_events.FileTaken({"b": 3})  # by another logger, of a part that we know already
    log.turn(batch(10, 1))
    assert numbers(log.records()) == [10]


def test_a_new_file_begins_with_all_positions() -> None:
    """Of what is in the file before: not of what is only received."""
    log = Log()
    log.turn(batch(1, 2), batch(1, 5, boot="c"))
    log.records()
    log.next_taken = log_events.FileTaken({}, is_full=True)
    log.turn(batch(3, 1), now=2.0)
    first, *others = log.records()
    assert (first["event"], first["fields"], first["at"]) == ("positions", {"b": 2, "c": 5}, 1002.0)
    assert numbers(others) == [3]


def test_also_of_those_that_were_found_in_the_one_before() -> None:
    log = Log()
    log.next_taken = log_events.FileTaken({"b": 7}, is_full=True)
    log.turn()
    assert log.records()[0]["fields"] == {"b": 7}


def test_an_emptied_file_begins_with_all_positions_too() -> None:
    log = Log()
    log.turn(batch(1, 2))
    log.records()
    log.next_taken = log_events.FileTaken({}, is_empty=True)
    log.turn(batch(3, 1))
    first, *others = log.records()
    assert (first["event"], first["fields"]) == ("positions", {"b": 2})
    assert numbers(others) == [3]


def test_a_file_never_begins_with_a_senders_record() -> None:
    """It would be taken for the positions of all others. A new log begins with the logger's start."""
    log = Log()
    log.next_taken = log_events.FileTaken({}, is_empty=True)
    log.turn(log_events.LoggerStarted("here"))
    assert [record["event"] for record in log.records()] == ["started"]
    log.next_taken = log_events.FileTaken({}, is_empty=True)
    log.turn(batch(1, 1))
    assert [record.get("event") for record in log.records()] == ["positions", None]


def test_a_file_that_cannot_be_rotated_is_written_on_and_rotated_later() -> None:
    log = Log()
    log.failing = {log_events.Rotate}
    log.next_taken = log_events.FileTaken({}, is_full=True)
    log.turn(batch(1, 1))
    written = log.records()
    assert numbers(written) == [1]
    assert [record["event"] for record in written if "event" in record] == ["not_rotated"]
    log.failing.clear()
    log.next_taken = log_events.FileTaken({}, is_full=True)
    log.turn(batch(2, 1), now=ROTATE_RETRY_S - 1)
    log.next_taken = log_events.FileTaken({}, is_full=True)
    log.turn(batch(3, 1), now=ROTATE_RETRY_S)
    assert [record.get("event") for record in log.records()] == [None, "positions", None]


def test_what_a_crash_has_torn_is_told() -> None:
    log = Log()
    log.next_taken = log_events.FileTaken({}, b"torn line")
    log.turn(now=5.0)
    (record,) = log.records()
    assert (record["event"], record["count"], record["at"]) == ("repaired", 9, 1005.0)
    assert "torn line" in record["text"]


def test_what_could_not_be_written_is_not_acknowledged() -> None:
    """Though it came after something that was, and is synced now."""
    log = Log(Fsync.INTERVAL)
    log.turn(batch(1, 2))
    log.records()
    log.failing = {log_events.Write}
    assert log.turn(batch(3, 2), now=0.1) == []
    assert log.turn(now=0.6) == [(PEER, Ack("b", 2))]
    log.failing.clear()
    log.turn(now=0.2 + WRITE_RETRY_S)
    assert numbers(log.records()) == [3, 4]
    assert log.turn(now=0.2 + WRITE_RETRY_S + SYNC_S) == [(PEER, Ack("b", 4))]


def test_asking_again_acknowledges_nothing() -> None:
    log = Log(Fsync.INTERVAL)
    assert log.turn(batch(1, 2), batch(7, 1, oldest=1)) == [(PEER, Ack("b", 0, True))]


def test_lines_of_text_are_bounded_while_nothing_can_be_written() -> None:
    """They are so also if it is tried again and again."""
    log = Log()
    count = 3 * TEXT_BYTES_MAX // 100_000
    log.failing = {log_events.Write}
    for number in range(count):
        log.turn(text(b"%06d" % number + b"x" * 100_000), now=number * WRITE_RETRY_S)
    assert max(map(len, log.tried)) < 300_000
    log.failing.clear()
    log.turn(now=count * WRITE_RETRY_S)
    texts = [line for line in b"".join(log.written).splitlines() if line[:1] != b"{"]
    assert len(texts) + log.core.counts.lost == count
    assert log.core.counts.lost > count / 2
    assert sum(map(len, texts)) < TEXT_BYTES_MAX + 300_000


def test_a_block_that_could_not_be_written_comes_first_the_next_time() -> None:
    log = Log()
    log.failing = {log_events.Write}
    assert log.turn(batch(1, 2)) == []
    assert not log.core.can_write
    log.turn(text(b"a line"))
    assert log.core.waiting_lines == 1
    log.failing.clear()
    assert log.turn(now=WRITE_RETRY_S)[-1] == (PEER, Ack("b", 2))
    assert log.core.can_write and log.core.waiting_lines == 0
    assert log.written == [lines(1, 2), b"a line\n"]


def test_records_that_another_logger_has_written_meanwhile_are_left_out() -> None:
    """Their sender has gone to it, as this one could not write."""
    log = Log()
    log.failing = {log_events.Write}
    log.turn(batch(1, 2), batch(3, 4), batch(1, 1, boot="c"), text(b"a line"))
    log.failing.clear()
    log.next_taken = log_events.FileTaken({"b": 4})
    log.turn(now=WRITE_RETRY_S)
    assert log.written[-1].endswith(lines(5, 2) + lines(1, 1, boot="c") + b"a line\n")
    assert numbers(log.records()) == [5, 6]
    log.turn(batch(5, 3), now=WRITE_RETRY_S)
    assert numbers(log.records()) == [7]


def test_the_loggers_own_records_are_numbered_without_holes_whatever_could_not_be_written() -> None:
    log = Log()
    log.turn(log_events.LoggerStarted("here"))
    log.failing = {log_events.Write}
    log.turn(batch(3, 1))  # a gap, of which another logger has the records
    log.turn(log_events.ReopenAsked())
    log.failing.clear()
    log.next_taken = log_events.FileTaken({"b": 2})
    log.turn(now=WRITE_RETRY_S)
    written = log.records()
    assert [record["event"] for record in written if record["boot"] == "own"] == ["started", "reopened"]
    assert numbers(written, "own") == [1, 2]
    assert log.core.counts.gaps == 0


def test_text_waits_in_bounded_memory_and_what_is_lost_is_counted() -> None:
    log = Log()
    line = b"x" * (TEXT_BYTES_MAX // 4)
    log.failing = {log_events.TakeFile}
    log.turn(*[text(line)] * 7)
    log.failing.clear()
    log.turn(now=WRITE_RETRY_S)
    written = b"".join(log.written).splitlines()
    lost = json.loads(written[0])
    assert (lost["event"], lost["count"]) == ("lost", 3)
    assert written[1:] == [line] * 4
    assert log.core.counts.lost == 3


def test_senders_that_wait_hear_that_the_logger_is_alive() -> None:
    log = Log()
    log.failing = {log_events.Write}
    log.turn(batch(1, 2))
    assert log.turn(now=BEAT_S - 0.01) == []
    assert log.core.wake_at == BEAT_S
    assert log.turn(now=BEAT_S) == [(PEER, Ack("b", 0))]
    assert log.turn(now=2 * BEAT_S) == [(PEER, Ack("b", 0))]
    log.failing.clear()
    log.turn(now=3.0)
    log.turn(now=10.0)
    assert log.core.wake_at == math.inf


def test_records_that_come_while_nothing_can_be_written_are_asked_for_afterwards() -> None:
    """Their senders keep them: here there is no memory for them."""
    log = Log()
    log.failing = {log_events.TakeFile}
    assert log.turn(batch(1, 2)) == []
    assert log.turn(batch(3, 2, oldest=1), now=0.1) == []
    log.failing.clear()
    assert log.turn(now=WRITE_RETRY_S) == [(PEER, Ack("b", 0, True))]
    assert log.records() == []
    log.turn(batch(1, 4), now=1.5)
    assert numbers(log.records()) == [1, 2, 3, 4]


def test_people_are_told_once_that_the_log_cannot_be_written_and_once_that_it_can() -> None:
    log = Log()
    log.failing = {log_events.Write}
    for number in range(4):
        log.turn(batch(1, 2), now=number * WRITE_RETRY_S)
    log.failing = {log_events.TakeFile}
    log.turn(now=4 * WRITE_RETRY_S)
    log.failing.clear()
    log.turn(now=5 * WRITE_RETRY_S)
    failures = [log_events.TellFailure(reason) for reason in ("full", "locked")]
    assert log.told == [*failures, log_events.TellRecovery()]


def test_a_sync_that_fails_acknowledges_nothing_until_one_succeeds() -> None:
    log = Log(Fsync.ALWAYS)
    log.failing = {log_events.Sync}
    assert log.turn(batch(1, 2)) == []
    assert not log.core.can_write
    assert log.turn(now=WRITE_RETRY_S) == [(PEER, Ack("b", 0))]
    log.failing.clear()
    assert (PEER, Ack("b", 2)) in log.turn(now=2 * WRITE_RETRY_S)
    assert log.core.can_write
    assert log.told == [log_events.TellFailure("broken"), log_events.TellRecovery()]
    assert log.written == [lines(1, 2)]


def test_bad_messages_are_counted_told_and_refused() -> None:
    log = Log()
    assert log.turn(log_events.BadMessageArrived(PEER, "no batch")) == [(PEER, BatchRefused("no batch"))]
    (record,) = log.records()
    assert (record["event"], record["text"], log.core.counts.bad_messages) == ("bad_message", "no batch", 1)


def test_a_file_that_was_moved_away_is_opened_anew_before_anything_is_written() -> None:
    core = LoggerCore("LOG", "own", epoch=EPOCH)
    facts = [log_events.TurnBegan(EPOCH), log_events.ReopenAsked(), batch(1, 1)]
    assert core.step(facts, 0.0) == [log_events.Reopen()]
    assert core.step([log_events.FileReopened()], 0.0) == [log_events.TakeFile()]
    (write,) = core.step([log_events.FileTaken({}, is_empty=True)], 0.0)
    assert isinstance(write, log_events.Write)
    events = [json.loads(line).get("event") for line in write.block.splitlines()]
    assert events == ["reopened", None]


def test_who_stops_writes_and_syncs_what_is_here() -> None:
    log = Log(Fsync.INTERVAL)
    log.turn(batch(1, 2))
    assert log.turn(text(b"a line"), log_events.StopAsked()) == [(PEER, Ack("b", 2))]
    assert log.syncs == 1
    assert b"a line\n" in b"".join(log.written)
    assert log.records()[-1]["event"] == "stopped"


def test_who_stops_tries_once_more_what_could_not_be_written() -> None:
    log = Log(Fsync.INTERVAL)
    log.failing = {log_events.Write}
    log.turn(batch(1, 2))
    log.turn(text(b"a line"), log_events.StopAsked())
    assert not log.core.can_write and log.core.waiting_lines == 1
    log.failing.clear()
    assert log.turn(log_events.StopAsked())[-1] == (PEER, Ack("b", 2))
    assert log.core.can_write and log.core.waiting_lines == 0
