"""The logger's decisions: order, gaps, duplicates, who is told when, and what happens while nothing can be written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbw.core.lines import Ack, Lines
from cbw.core.logger import BEAT_S, POSITIONS_MAX, SYNC_S, TEXT_BYTES_MAX, Fsync, LoggerCore

PEER = b"p"


def logger(fsync: Fsync = Fsync.NEVER) -> LoggerCore:
    return LoggerCore("LOG", "own", epoch=1000.0, fsync=fsync)


def lines(first: int, count: int, boot: str = "b") -> bytes:
    return b"".join(b'{"boot":"%b","seq":%d}\n' % (boot.encode(), number) for number in range(first, first + count))


def send(
    core: LoggerCore, first: int, count: int, *, oldest: int | None = None, boot: str = "b", now: float = 0.0
) -> None:
    header = Lines("S", boot, first, count, first if oldest is None else oldest)
    core.received(PEER, header, lines(first, count, boot), now)


def write(core: LoggerCore, now: float = 0.0) -> list[dict[str, Any]]:
    """Take what is to be written, write it, and read it."""
    block = core.take_block(now)
    if block:
        core.written(now)
    return [json.loads(line) for line in block.splitlines()]


def numbers(records: list[dict[str, Any]], boot: str = "b") -> list[int]:
    return [record["seq"] for record in records if record["boot"] == boot]


def test_records_are_written_in_order_and_acknowledged() -> None:
    core = logger()
    send(core, 1, 3)
    send(core, 4, 2)
    assert numbers(write(core)) == [1, 2, 3, 4, 5]
    assert core.take_replies(0.0) == [(PEER, Ack("b", 5))]


def test_nothing_is_acknowledged_before_it_is_written() -> None:
    core = logger()
    send(core, 1, 3)
    assert core.take_replies(0.0) == []


@pytest.mark.parametrize(("fsync", "due_at"), [(Fsync.ALWAYS, 0.0), (Fsync.INTERVAL, SYNC_S)])
def test_nothing_is_acknowledged_before_it_is_synced(fsync: Fsync, due_at: float) -> None:
    core = logger(fsync)
    send(core, 1, 3)
    write(core)
    assert core.take_replies(0.0) == []
    assert core.wake_at <= due_at
    assert not core.is_sync_due(due_at - 0.01) and core.is_sync_due(due_at)
    core.synced()
    assert core.take_replies(0.0) == [(PEER, Ack("b", 3))]
    assert not core.is_sync_due(1e9)


def test_what_was_written_after_the_sync_began_waits_for_the_next() -> None:
    core = logger(Fsync.INTERVAL)
    send(core, 1, 1)
    write(core)
    send(core, 2, 1)  # taken, but not yet written
    core.synced()
    replies = core.take_replies(0.0)
    assert [ack.boot for _, ack in replies] == ["b"]
    assert core.take_block(0.0)


def test_a_sender_that_is_about_to_end_is_synced_for_at_once() -> None:
    core = logger(Fsync.INTERVAL)
    core.received(PEER, Lines("S", "b", 1, 1, 1, True), lines(1, 1), 0.0)
    write(core)
    assert core.is_sync_due(0.0)


def test_duplicates_are_left_out_and_counted() -> None:
    core = logger()
    send(core, 1, 4)
    write(core)
    send(core, 3, 4)
    written = write(core)
    assert numbers(written) == [5, 6]
    (noted,) = (record for record in written if record.get("event") == "duplicates")
    assert noted["count"] == 2 and core.duplicates == 2
    send(core, 1, 6)
    assert numbers(write(core)) == []
    assert core.duplicates == 8
    assert core.take_replies(0.0)[-1] == (PEER, Ack("b", 6))


def test_what_the_sender_has_dropped_is_a_gap() -> None:
    core = logger()
    send(core, 1, 2)
    write(core)
    send(core, 8, 3)
    written = write(core)
    gap = written[0]
    assert (gap["event"], gap["count"], gap["role"], gap["sender"]) == ("gap", 5, "logger", "LOG")
    assert "3 to 7" in gap["text"]
    assert numbers(written) == [8, 9, 10]
    assert (core.gaps, core.missing) == (1, 5)


def test_a_start_whose_first_records_are_gone_is_a_gap_too() -> None:
    core = logger()
    send(core, 4, 1)
    assert write(core)[0]["count"] == 3


def test_disorder_is_no_gap() -> None:
    """Batches of an old connection may come after those of a new one: the sender still has what is between."""
    core = logger()
    send(core, 1, 2)
    write(core)
    core.take_replies(0.0)
    send(core, 5, 2, oldest=3)
    assert write(core) == [] and core.gaps == 0
    assert core.take_replies(0.0) == [(PEER, Ack("b", 0, True))]
    send(core, 3, 2)
    send(core, 5, 2)
    assert numbers(write(core)) == [3, 4, 5, 6]


def test_a_gap_before_a_disorder() -> None:
    core = logger()
    send(core, 9, 2, oldest=5)
    written = write(core)
    assert [record.get("count") for record in written] == [4] and numbers(written) == []
    assert core.take_replies(0.0)[0] == (PEER, Ack("b", 0, True))


def test_positions_are_found_again_in_the_log() -> None:
    core = logger()
    core.absorb({"b": 7})
    send(core, 6, 4)
    assert numbers(write(core)) == [8, 9]
    core.absorb({"b": 3})  # by another logger, of a part that we know already
    send(core, 10, 1)
    assert numbers(write(core)) == [10]


def test_a_new_file_begins_with_all_positions() -> None:
    """Of what is in the file before: not of what is only received."""
    core = logger()
    send(core, 1, 2)
    send(core, 1, 5, boot="c")
    write(core)
    send(core, 3, 1, boot="b")
    line = json.loads(core.positions_line(2.0))
    assert (line["event"], line["fields"], line["at"]) == ("positions", {"b": 2, "c": 5}, 1002.0)


def test_also_of_those_that_were_found_in_the_one_before() -> None:
    core = logger()
    core.absorb({"b": 7})
    assert json.loads(core.positions_line(0.0))["fields"] == {"b": 7}


def test_what_the_shell_has_noticed_is_in_the_log() -> None:
    core = logger()
    core.noticed("repaired", "a torn line", 5.0, 9)
    (record,) = write(core)
    assert (record["event"], record["text"], record["count"], record["at"]) == ("repaired", "a torn line", 9, 1005.0)


def test_what_could_not_be_written_is_not_acknowledged() -> None:
    """Though it came after something that was, and is synced now."""
    core = logger(Fsync.INTERVAL)
    send(core, 1, 2)
    write(core)
    send(core, 3, 2)
    core.failed(core.take_block(0.1))
    core.synced()
    assert core.take_replies(0.6) == [(PEER, Ack("b", 2))]
    assert numbers(write(core)) == [3, 4]
    core.synced()
    assert core.take_replies(0.7) == [(PEER, Ack("b", 4))]


def test_asking_again_acknowledges_nothing() -> None:
    core = logger()
    send(core, 1, 2)
    send(core, 7, 1, oldest=1)
    assert core.take_replies(0.0) == [(PEER, Ack("b", 0, True))]


def test_lines_of_text_are_bounded_while_nothing_can_be_written() -> None:
    """Also if it is tried again and again."""
    core = logger()
    count = 3 * TEXT_BYTES_MAX // 100_000
    blocks = [b""]
    for number in range(count):
        core.said(b"%06d" % number + b"x" * 100_000)
        blocks.append(core.take_block(0.0))
        core.failed(blocks[-1])
    assert max(map(len, blocks)) < 300_000
    written = b""
    for _ in range(2):
        written += core.take_block(0.0)
        core.written(0.0)
    texts = [line for line in written.splitlines() if line[:1] != b"{"]
    assert len(texts) + core.lost == count
    assert core.lost > count / 2
    assert sum(map(len, texts)) < TEXT_BYTES_MAX + 300_000


def test_a_boot_that_is_forgotten_before_its_sync() -> None:
    core = logger()
    for number in range(POSITIONS_MAX + 5):
        send(core, 1, 1, boot=f"b{number}")
    write(core)
    assert len(core.take_replies(0.0)) == POSITIONS_MAX


def test_boots_not_heard_for_longest_are_forgotten() -> None:
    core = logger()
    for number in range(POSITIONS_MAX + 5):
        send(core, 1, 1, boot=f"b{number}")
        if number == 10:
            send(core, 2, 1, boot="b0")
    assert len(core.positions) == POSITIONS_MAX
    assert "b0" in core.positions and not {"b1", "b5"} & core.positions.keys()


def test_a_block_that_could_not_be_written_comes_first_the_next_time() -> None:
    core = logger()
    send(core, 1, 2)
    core.failed(core.take_block(0.0))
    assert not core.can_write and core.take_replies(0.0) == []
    core.said(b"a line")
    assert core.take_block(1.0) == lines(1, 2)
    core.written(1.0)
    assert core.can_write and core.take_replies(1.0) == [(PEER, Ack("b", 2))]
    assert core.waiting_lines == 1
    assert core.take_block(1.0) == b"a line\n"


def test_text_waits_in_bounded_memory_and_what_is_lost_is_counted() -> None:
    core = logger()
    line = b"x" * (TEXT_BYTES_MAX // 4)
    core.failed(b"")
    for _ in range(7):
        core.said(line)
    written = core.take_block(0.0).splitlines()
    lost = json.loads(written[0])
    assert (lost["event"], lost["count"]) == ("lost", 3)
    assert written[1:] == [line] * 4
    assert core.lost == 3


def test_senders_that_wait_hear_that_the_logger_lives() -> None:
    core = logger()
    send(core, 1, 2)
    core.failed(core.take_block(0.0))
    assert core.take_replies(BEAT_S - 0.01) == []
    assert core.wake_at == BEAT_S
    assert core.take_replies(BEAT_S) == [(PEER, Ack("b", 0))]
    assert core.take_replies(2 * BEAT_S) == [(PEER, Ack("b", 0))]
    core.take_block(0.0)
    core.written(3.0)
    core.take_replies(3.0)
    core.take_replies(10.0)
    assert core.wake_at == math.inf


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 8), st.integers(0, 3), st.sampled_from(["ok", "fail", "crash"])),
        max_size=30,
    )
)
def test_the_log_is_always_in_order_and_accounts_for_every_number(steps: list[tuple[int, int, int, str]]) -> None:
    """Whatever arrives, again, out of order or with holes, and however often the logger is killed."""
    core = logger()
    log: list[dict[str, Any]] = []
    for back, count, dropped, end in steps:
        position = core.positions.get("b", 0)
        first = max(1, position + 1 - back + dropped)
        send(core, first, count, oldest=max(1, first - (0 if dropped else back)))
        if end == "fail":
            core.failed(core.take_block(0.0))
        elif end == "crash":
            core = logger()
            core.absorb({"b": max(numbers(log) + [gap_end(record) for record in log], default=0)})
        else:
            log += write(core)
    log += write(core)
    written = numbers(log)
    assert written == sorted(set(written)), "in order, and none twice"
    missing = sum(record["count"] for record in log if record.get("event") == "gap")
    last = max(written + [gap_end(record) for record in log], default=0)
    assert len(written) + missing == last, "every number is there or counted"


def gap_end(record: dict[str, Any]) -> int:
    """The last number of a gap."""
    return int(record["text"].split(" of ")[0].split(" to ")[1]) if record.get("event") == "gap" else 0
