"""The log on the way to a file: senders, two loggers on one file, connections that lose what is on its way, crashes, a disk that
fails (G11).

Of each sender the records stand in the file in their order and each once; those that are missing are counted as a gap, and
the sender had dropped them; what the sender was told to be on disk is there, also after the machine has lost its power.
"""

from __future__ import annotations

import math
import random
import re
from collections import deque
from typing import Any

import msgspec

from cbw.core import catalogue, log_events
from cbw.core.batch import BatchRefused
from cbw.core.logger import WRITE_RETRY_S, Fsync, LoggerCore
from cbw.core.record import Record
from cbw.core.sender import ABSENT_S, SILENCE_S, SenderCore
from cbw.logger.line import JSON
from cbw.wire import log

from .world import ViolationError

SPOOL_BYTES = 1000
"""Of a sender: eight records of this test or nine, so that some are dropped."""
EPOCH = 1e9
ACTS = 60
"""What happens in a run."""
LATE_S = 0.001
"""Seconds after the time allowed in which a sender that was closed ends: in a step that comes at that time."""
Line = tuple[str, int, tuple[str, range] | None]
"""Of a line in the file: its boot and number, and whose records it says are lost. A text has none of them."""
_GAP = re.compile(r"records (\d+) to (\d+) of \S+ \(boot (\w+)\) are lost")


class LogFile:
    """A file, of which the first ``synced`` bytes survive everything."""

    def __init__(self) -> None:
        self.data = b""
        self.synced = 0
        self.faults: set[str] = set()


class LoggerProcess:
    """A logger's core, and how far it has read the file."""

    def __init__(self, disk: LogFile, number: int, start: int, fsync: Fsync) -> None:
        self.core = LoggerCore(f"LOG{number}", f"log{number}x{start}", epoch=EPOCH, fsync=fsync)
        self.disk = disk
        self.read = 0
        self.inbox: deque[tuple[bytes, list[bytes]]] = deque()
        self.replies: list[tuple[bytes, list[bytes]]] = []
        self.lost: list[bytes] = []  # connections that have ended, of which it is to be told
        self.dies_after: int | None = None  # bytes of the next block

    def turn(self, facts: list[log_events.Fact], now: float) -> bool:
        """One pass of the loop; False if it was killed in it."""
        facts = [log_events.TurnBegan(EPOCH), *facts]
        while facts:
            outcomes = []
            for order in self.core.step(facts, now):
                outcome = self._carry_out(order)
                if self.dies_after == -1:
                    return False
                if outcome is not None:
                    outcomes.append(outcome)
            facts = outcomes
        return True

    def _carry_out(self, order: log_events.Order) -> log_events.Fact | None:
        disk = self.disk
        match order:
            case log_events.TakeFile():
                return log_events.WriteFailed("locked") if "locked" in disk.faults else self._take_file()
            case log_events.Write(block):
                return self._write(block)
            case log_events.Sync():
                if "broken" in disk.faults:
                    return log_events.SyncFailed("broken")
                disk.synced = len(disk.data)
                return log_events.FileSynced()
            case log_events.Reply(peer, reply):
                self.replies.append((peer, log.encode_reply(reply)))
            case log_events.Reopen():
                self.read = 0
                disk.synced = len(disk.data)
                return log_events.FileReopened()
            case log_events.ReleaseFile() | log_events.TellFailure() | log_events.TellRecovery():
                pass
            case _:
                raise AssertionError(order)
        return None

    def _take_file(self) -> log_events.FileTaken:
        disk = self.disk
        whole = disk.data.rfind(b"\n") + 1
        new, torn = disk.data[self.read : whole], disk.data[whole:]
        positions = JSON.positions_in(new, is_beginning=self.read == 0)
        disk.data = disk.data[:whole]
        disk.synced = min(disk.synced, whole)
        self.read = whole
        return log_events.FileTaken(positions, torn, is_empty=not disk.data)

    def _write(self, block: bytes) -> log_events.Fact | None:
        if self.dies_after is not None:
            self.disk.data += block[: self.dies_after]
            self.dies_after = -1
            return None
        if "full" in self.disk.faults:
            return log_events.WriteFailed("full")
        self.disk.data += block
        self.read = len(self.disk.data)
        return log_events.BlockWritten()


class SenderProcess:
    """A sender's core and its connection: to which logger, and the replies that are on their way. ``start`` tells its program's
    starts apart.
    """

    def __init__(self, number: int, start: int = 0, now: float = 0.0) -> None:
        self.name = f"S{number}"
        self.core = SenderCore(self.name, f"boot{number}" + f".{start}" * bool(start), SPOOL_BYTES, now)
        self.close_at: tuple[float, float] | None = None  # asked then, to end by then
        self.logger: int | None = None
        self.connections = 0
        self.replies: deque[list[bytes]] = deque()
        self.dropped: set[int] = set()

    def step(self, facts: list[log_events.Fact], now: float) -> list[log_events.Order]:
        before = self.core.oldest
        orders = self.core.step(facts, now)
        self.dropped.update(range(max(before, self.core.acknowledged + 1), self.core.oldest))
        assert len(self.dropped) <= self.core.dropped
        return orders

    @property
    def peer(self) -> bytes:
        return f"{self.core.boot}/{self.connections}".encode()

    def added(self, count: int) -> log_events.Fact:
        first = self.core.last + 1
        records = [
            Record(1.0, catalogue.LOG, role="app", sender=self.name, boot=self.core.boot, seq=number)
            for number in range(first, first + count)
        ]
        return log_events.RecordsAdded(count, msgspec.json.Encoder().encode_lines(records))


class LogSystem:
    """Two senders and two loggers, to which everything may happen."""

    def __init__(self, fsync: Fsync) -> None:
        self.now = 100.0
        self.disk = LogFile()
        self.starts = 0
        self.senders = [SenderProcess(number) for number in (0, 1)]
        self.closed: list[SenderProcess] = []
        self.refused: list[bytes] = []  # who was told in the last turn that it is not understood
        self.fsync = fsync
        self._lines: dict[bytes, Line] = {}  # what was read: the file is looked at after each act
        self.loggers = [self._new_logger(number) for number in (0, 1)]

    def _new_logger(self, number: int) -> LoggerProcess:
        self.starts += 1
        return LoggerProcess(self.disk, number, self.starts, self.fsync)

    # --- what senders do

    def _tell(self, sender: SenderProcess, facts: list[log_events.Fact], *, sent_max: int = 1000) -> None:
        """``sent_max`` batches can be sent."""
        left = facts
        while True:
            orders = sender.step(left, self.now)
            left = []
            for order in orders:
                if isinstance(order, log_events.Close):
                    self._has_closed(sender)
                    return
                if isinstance(order, log_events.Reconnect):
                    assert sender.core.waiting, f"{sender.name} connects anew, and no logger owes it anything"
                    self._disconnect(sender)
                elif isinstance(order, log_events.Send) and not left:
                    assert sender.logger is not None
                    if sent_max == 0:
                        left = [log_events.SendBlocked(order.header.first)]
                        continue
                    sent_max -= 1
                    frames = log.encode_batch(order.header, order.payload)
                    self.loggers[sender.logger].inbox.append((sender.peer, frames))
            if not left:
                return

    def _disconnect(self, sender: SenderProcess, arrived: int = 0) -> None:
        """``arrived`` batches had arrived, and may be read later; what else is on its way is lost."""
        if sender.logger is not None:
            self.loggers[sender.logger].lost.append(sender.peer)
            inbox = self.loggers[sender.logger].inbox
            mine = [entry for entry in inbox if entry[0] == sender.peer][arrived:]
            for entry in mine:
                inbox.remove(entry)
        sender.logger = None
        sender.replies.clear()

    def close(self, number: int, timeout_s: float) -> None:
        """The program ends, if it does not already."""
        sender = self.senders[number]
        if sender.close_at is None:
            sender.close_at = self.now, self.now + timeout_s
            self._tell(sender, [log_events.CloseAsked(timeout_s)])

    def _has_closed(self, sender: SenderProcess) -> None:
        """It ends because all is delivered, there is no time left, or no logger is there. Then its program starts again."""
        assert sender.close_at is not None, f"{sender.name} has closed, and nobody has asked for that"
        asked_at, give_up_at = sender.close_at
        is_absent = sender.logger is None and self.now >= asked_at + ABSENT_S
        is_fair = not sender.core.waiting or is_absent or self.now >= give_up_at
        assert is_fair, f"{sender.name} has closed, and {sender.core.waiting} records wait"
        self._disconnect(sender, arrived=1000)
        self.closed.append(sender)
        number = self.senders.index(sender)
        self.senders[number] = SenderProcess(number, len(self.closed), self.now)

    def record(self, number: int, to: int, counts: list[int], sent_max: int) -> None:
        """Send a record, and connect to the logger ``to``, if there is no connection."""
        sender = self.senders[number]
        if sender.close_at is not None:  # its program records nothing any more
            counts = []
        if sender.logger is None:
            sender.logger = to
            sender.connections += 1
            self._tell(sender, [log_events.LoggerConnected()], sent_max=sent_max)
        for count in counts:
            self._tell(sender, [sender.added(count)], sent_max=sent_max)

    def record_and_write(self, number: int, to: int, counts: list[int]) -> None:
        self.record(number, to, counts, 9)
        self.turn(self.senders[number].logger or 0, 9, False)

    def move(self, number: int, arrived: int) -> None:
        """To the other logger, as a name may mean both."""
        before = self.senders[number].logger or 0
        self.lose_connection(number, arrived)
        self.record_and_write(number, 1 - before, [])

    def lose_connection(self, number: int, arrived: int) -> None:
        sender = self.senders[number]
        if sender.logger is not None:
            self._disconnect(sender, arrived)
            self._tell(sender, [log_events.LoggerDisconnected()])

    def hear(self, number: int, heard: int) -> None:
        sender = self.senders[number]
        replies = [sender.replies.popleft() for _ in range(min(heard, len(sender.replies)))]
        self._tell(sender, [log_events.ReplyArrived(log.read_reply(frames)) for frames in replies])

    # --- what loggers do

    def turn(self, number: int, count: int, is_newest_first: bool) -> None:
        """What has come over old connections may be read after what comes over new ones."""
        logger = self.loggers[number]
        if is_newest_first:
            logger.inbox = deque(sorted(logger.inbox, key=lambda entry: entry[0], reverse=True))
        facts: list[log_events.Fact] = []
        for _ in range(min(count, len(logger.inbox))):
            peer, frames = logger.inbox.popleft()
            facts.append(log_events.BatchArrived(peer, *log.read_batch(frames)))
        waiting = [peer for peer, _ in logger.inbox]
        lost = [peer for peer in logger.lost if peer not in waiting]
        logger.lost = [peer for peer in logger.lost if peer in waiting]
        self._turn(number, [*facts, *([log_events.SendersLost(lost)] if lost else [])])

    def _turn(self, number: int, facts: list[log_events.Fact]) -> None:
        logger = self.loggers[number]
        if not logger.turn(facts, self.now):
            self._kill(number)
            return
        self.refused = [peer for peer, frames in logger.replies if isinstance(log.read_reply(frames), BatchRefused)]
        for peer, frames in logger.replies:
            for sender in self.senders:
                if sender.peer == peer and sender.logger == number:
                    sender.replies.append(frames)
        logger.replies.clear()

    def text_arrives(self, number: int, seq: int, of: int) -> None:
        """From somebody who wants to be taken for a sender."""
        boot = self.senders[of].core.boot.encode()
        line = JSON.text_line([b'{"at":1,"event":"x","sender":"S0","boot":"%b","seq":%d}' % (boot, seq)])
        self._turn(number, [log_events.TextArrived([line])])

    def reopen(self, number: int) -> None:
        """SIGHUP."""
        self._turn(number, [log_events.ReopenAsked()])

    def nonsense_arrives(self, number: int) -> None:
        """From somebody who is told so."""
        logger = self.loggers[number]
        count = logger.core.counts.bad_messages
        self._turn(number, [log_events.BadMessageArrived(b"stranger", "nonsense")])
        if self.loggers[number] is logger:
            assert logger.core.counts.bad_messages == count + 1, "nonsense is not counted"
            assert b"stranger" in self.refused, "nobody is told that it was nonsense"

    def stop(self, number: int) -> None:
        """SIGTERM. All that it could write is on disk, and whoever has sent it has been told."""
        logger = self.loggers[number]
        self._turn(number, [log_events.StopAsked()])
        if self.loggers[number] is logger:
            if logger.core.can_write:
                assert self.disk.synced == len(self.disk.data), "a logger has stopped, and has not synced what it wrote"
                last = self.disk.data.splitlines()[-3:]
                assert any(b'"event":"stopped"' in line for line in last), "a logger does not tell that it stops"
            self._kill(number)

    def _kill(self, number: int) -> None:
        self.loggers[number] = self._new_logger(number)
        for sender in self.senders:
            if sender.logger == number:
                sender.logger = None
                sender.replies.clear()
                self._tell(sender, [log_events.LoggerDisconnected()])

    def kill(self, number: int, written: int | None) -> None:
        """At once, or while it writes its next block."""
        if written is None:
            self._kill(number)
        else:
            self.loggers[number].dies_after = written

    def lose_power(self, left: int) -> None:
        """Of what was not synced the machine has written the first ``left`` bytes."""
        self.disk.data = self.disk.data[: self.disk.synced + left]
        for number in (0, 1):
            self._kill(number)

    # --- the rest of the world

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for sender in [*self.senders]:
            self._tell(sender, [])
        for sender in self.senders:
            late_s = 0.0 if sender.close_at is None else self.now - sender.close_at[1]
            assert late_s < LATE_S, f"{sender.name} was to end {late_s:.3f} s ago"
        for number in (0, 1):
            self.turn(number, 0, False)

    def break_disk(self, fault: str, number: int, counts: list[int]) -> None:
        self.disk.faults.add(fault)
        self.record_and_write(number, 0, counts)

    def mend_disk(self, number: int) -> None:
        """The logger ``number`` is the first to notice."""
        self.disk.faults.clear()
        self.now += WRITE_RETRY_S
        self._turn(number, [])

    # --- what holds

    def _found(self, data: bytes, boot: str) -> tuple[list[int], set[int]]:
        """The numbers of the records of ``boot`` in the file, and those that gaps tell of."""
        numbers: list[int] = []
        lost: set[int] = set()
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            if (read := self._lines.get(line)) is None:
                read = self._lines[line] = _read(line)
            of, number, gap = read
            if of == boot:
                numbers.append(number)
            if gap is not None and gap[0] == boot:
                lost.update(gap[1])
        return numbers, lost

    def in_order_and_each_once(self) -> None:
        for sender in [*self.senders, *self.closed]:
            numbers, lost = self._found(self.disk.data, sender.core.boot)
            assert numbers == sorted(set(numbers))
            # A logger may tell of a gap while the other has yet to read what an old connection brought.
            assert lost <= sender.dropped
            last = max([0, *numbers])
            assert lost.issuperset(set(range(1, last)).difference(numbers)), "a gap that nobody counted"

    def what_is_acknowledged_is_on_disk(self) -> None:
        for sender in [*self.senders, *self.closed]:
            numbers, lost = self._found(self.disk.data[: self.disk.synced], sender.core.boot)
            assert lost.union(numbers).issuperset(range(1, sender.core.acknowledged + 1))

    def settle(self) -> None:
        """Once everything works again all that is still there arrives."""
        self.mend_disk(0)
        for _ in range(20):
            for number in (0, 1):
                self.record(number, 0, [], 9)
                self.hear(number, 100)
                self.turn(number, 100, False)
            self.pass_time(0.6)
        for sender in self.senders:
            assert sender.core.waiting == 0 and sender.core.acknowledged == sender.core.last
            assert sender.core.wake_at == math.inf, f"{sender.name} has nothing to do, and wants to be woken"
        self.in_order_and_each_once()
        self.what_is_acknowledged_is_on_disk()


def _read(line: bytes) -> Line:
    if not line.startswith(b"{"):
        return "", 0, None
    record: dict[str, Any] = msgspec.json.decode(line)
    gap = _GAP.fullmatch(record.get("text", "")) if record["event"] == "gap" else None
    if gap is None:
        return record["boot"], record["seq"], None
    lost = range(int(gap[1]), int(gap[2]) + 1)
    assert record["count"] == len(lost)
    return record["boot"], record["seq"], (gap[3], lost)


def run_log(rng: random.Random) -> None:
    """Let anything happen, and look after each act.

    Raises:
        ViolationError: a promise was broken.
    """
    system = LogSystem(rng.choice([Fsync.ALWAYS, Fsync.INTERVAL]))
    try:
        for _ in range(ACTS):
            _act(system, rng)
            system.in_order_and_each_once()
            system.what_is_acknowledged_is_on_disk()
        system.settle()
    except AssertionError as error:
        raise ViolationError(f"G11: {error or 'the log'}") from error


def _act(system: LogSystem, rng: random.Random) -> None:
    number, to = rng.randrange(2), rng.randrange(2)
    counts = [rng.randint(1, 4) for _ in range(rng.randrange(4))]
    match rng.randrange(16):
        case 0 | 1:
            system.record(number, to, counts, rng.choice([9, 9, 1, 0]))
        case 2 | 3:
            system.record_and_write(number, to, counts)
        case 4:
            system.move(number, rng.randrange(4))
        case 5:
            system.lose_connection(number, rng.randrange(4))
        case 6:
            system.hear(number, rng.randint(1, 9))
        case 7:
            system.turn(number, rng.randint(1, 9), rng.random() < 0.5)
        case 8:
            system.text_arrives(number, rng.randint(1, 50), to)
        case 9:
            system.pass_time(rng.choice([0.02, 0.3, 1.0, 1.0, 1.0, SILENCE_S + 0.1]))
        case 10 if rng.random() < 0.5:
            system.kill(number, rng.choice([None, rng.randrange(400)]))
        case 10:
            system.lose_power(rng.randrange(500))
        case 11 if rng.random() < 0.5:
            system.break_disk(rng.choice(["full", "full", "locked", "broken"]), number, counts)
        case 12:
            system.close(number, rng.choice([0.0, 0.1, 1.0, 6.0]))
        case 13:
            system.reopen(number)
        case 14 if rng.random() < 0.5:
            system.nonsense_arrives(number)
        case 14:
            system.stop(number)
        case _:
            system.mend_disk(number)
