"""The logger's decisions: when it writes, syncs and begins a new file, and what it acknowledges to whom.

The position of each sender, see :mod:`cbw.core.log_block`, is kept nowhere but in the log itself: a logger that was killed,
or another one that writes to the same file, finds it there.

Several loggers may share a file. So each pass of the loop takes the file for itself, learns what the others have written,
writes, and releases it. One step asks for one thing to be done with the file at a time; the next step is told how that went.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

import msgspec

from cbw.core import catalogue, log_events
from cbw.core.agenda import Agenda
from cbw.core.batch import Ack, BatchRefused
from cbw.core.catalogue import EventName
from cbw.core.log_block import Author, Block, Composition, Counts, Render, Source
from cbw.core.record import Record

SYNC_S = 0.5
"""With ``--fsync interval``: what is written is on disk after this time at most. Senders keep sending meanwhile: the window of
:mod:`cbw.core.sender` is made for it."""
BEAT_S = 1.0
"""Senders whose records are not yet on disk hear this often that the logger is alive; they leave after 5 s of silence."""
WRITE_RETRY_S = 1.0
"""Time until a file that could not be written is tried again."""
ROTATE_RETRY_S = 60.0
"""Time until a file that could not be renamed is tried again. Meanwhile it grows, which harms nothing."""
POSITIONS_MAX = 10_000
"""Boots that are remembered, in about 2 MB. Of those that have no connection the one not heard for the longest time is forgotten
first, and only then one that has a connection."""
TEXT_BYTES_MAX = 8 << 20
"""Memory for lines of text, of which nobody else has a copy, while nothing can be written: a thirtieth of the 256 MB that
``deploy/cbwl`` gives a container."""
TORN_BYTES = 200
"""Of a line that a crash has cut short so much is told: enough to recognize it."""

_encode = msgspec.json.Encoder().encode


class Fsync(Enum):
    """When the file is synced: after each write, at most half a second after it, or when the system likes."""

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


class Access(Enum):
    """What the logger may do with its file."""

    RELEASED = "released"  #: ask for it
    ASKED = "asked"  #: nothing: an order about it is being carried out
    TAKEN = "taken"  #: write


class LoggerCore:
    """``name`` and ``boot`` are the logger's own. ``epoch`` is what makes monotonic seconds seconds since 1970.

    ``render`` makes the line that is written from a record's JSON, both without their ends; None writes the JSON.
    """

    def __init__(
        self,
        name: str,
        boot: str,
        *,
        epoch: float,
        fsync: Fsync = Fsync.INTERVAL,
        render: Render | None = None,
    ) -> None:
        self.name = name
        self.boot = boot
        self.positions: dict[str, int] = {}  #: boot: its last record that is in the log
        self.counts = Counts()
        self.failure = ""  #: why nothing can be written now
        self._author = Author(name, boot, render)
        self._epoch = epoch
        self._fsync = fsync
        self._now = 0.0
        self._seq = 0  # of the last own record that is in the log
        self._orders: list[log_events.Order] = []
        # what is to be written
        self._items: list[log_events.BatchArrived | Record] = []
        self._texts: deque[bytes] = deque()
        self._texts_bytes = 0
        self._texts_lost = 0
        self._block: Block | None = None  # it is being written, or could not be: then it comes first, and alone
        self._composition: Composition | None = None  # of the block, while it is being written
        # who is to be told
        self._boots: dict[bytes, str] = {}  # of each connection that has sent records: the only one that it may send
        self._taken: dict[Source, None] = {}  # its records are in the block
        self._written: dict[Source, int] = {}  # its records are in the file, up to this one, and perhaps not on disk
        self._asked_again: dict[Source, int] = {}  # at this position it was asked to send everything again
        self._turned_away: dict[Source, None] = {}  # its records were not taken, as nothing can be written
        # the file
        self._access = Access.RELEASED
        self._is_file_wanted = self._is_sync_due = self._is_reopen_wanted = self._is_retry_due = False
        self._has_written = False
        self._is_urgent = False
        self._is_stopping = False
        self._is_sync_failed = False
        self._agenda = Agenda()
        self._sync = self._agenda.timer(self._let_sync)
        self._beat = self._agenda.timer(self._say_beats)
        self._write_retry = self._agenda.timer(self._let_retry)
        self._rotate_retry = self._agenda.timer(lambda _: None)  # while it is set nothing is rotated

    @property
    def can_write(self) -> bool:
        """Whether the file could be written the last time."""
        return not self.failure

    @property
    def waiting_lines(self) -> int:
        """Lines of text that are not written."""
        return len(self._texts) + (len(self._block.texts) if self._block is not None else 0)

    @property
    def wake_at(self) -> float:
        """When :meth:`step` is to be called even if nothing happens; infinity: never."""
        return self._agenda.wake_at

    def step(self, facts: Iterable[log_events.Fact], now: float) -> list[log_events.Order]:
        """What is to be done, in this order, after ``facts`` have happened. Whoever does it reports how it went."""
        self._now = now
        self._agenda.run(now)
        for fact in facts:
            self._take(fact)
        self._ask_for_file()
        orders, self._orders = self._orders, []
        return orders

    def _take(self, fact: log_events.Fact) -> None:
        match fact:
            case log_events.TurnBegan(epoch):
                self._epoch = epoch
                self._is_file_wanted = True
            case log_events.BatchArrived():
                self._receive(fact)
            case log_events.TextArrived(lines):
                self._receive_text(lines)
            case log_events.BadMessageArrived(peer, text):
                self._refuse(peer, text)
            case log_events.SendersLost(peers):
                for peer in peers:
                    self._boots.pop(peer, None)
            case log_events.LoggerStarted(text):
                self._note(catalogue.STARTED, text)
            case log_events.ReopenAsked():
                self._note(catalogue.REOPENED)
                self._is_reopen_wanted = True
            case log_events.StopAsked():
                self._stop()
            case _:
                self._take_outcome(fact)

    def _take_outcome(self, fact: log_events.Fact) -> None:
        """Take in what has become of the last order about the file."""
        match fact:
            case log_events.FileTaken():
                self._begin(fact)
            case log_events.BlockWritten():
                self._end_block()
            case log_events.FileRotated():
                self._write()
            case log_events.RotationFailed(reason):
                self._rotate_retry.set(self._now + ROTATE_RETRY_S)
                self._note(catalogue.NOT_ROTATED, f"{reason}; trying again after {ROTATE_RETRY_S:g} s")
                self._write()
            case log_events.FileSynced():
                self._access = Access.RELEASED
                self._acknowledge()
                if self._is_sync_failed:
                    self._is_sync_failed = False
                    self._let_retry()
            case log_events.FileReopened():
                self._access = Access.RELEASED
                self._let_retry()
            case log_events.WriteFailed(reason):
                self._fail(reason)
            case log_events.SyncFailed(reason):
                self._is_sync_failed = True
                self._fail(reason)
            case _:
                raise TypeError(fact)

    # --- what arrives

    def _receive(self, batch: log_events.BatchArrived) -> None:
        boot = self._boots.setdefault(batch.peer, batch.header.boot)
        if boot != batch.header.boot:
            self._refuse(batch.peer, f"records of boot {batch.header.boot} over the connection of boot {boot}")
        elif self.can_write:
            self._items.append(batch)
        else:
            self._turn_away(batch)

    def _turn_away(self, batch: log_events.BatchArrived) -> None:
        """Say nothing until the file can be written: then ask for these records again."""
        source = (batch.peer, batch.header.boot)
        self._asked_again.pop(source, None)
        _put(self._turned_away, source, None)

    def _receive_text(self, lines: list[bytes]) -> None:
        """Take in lines of text. If nothing can be written and memory is full, the oldest are lost."""
        self._texts.extend(lines)
        self._texts_bytes += sum(map(len, lines))
        while self._texts_bytes > TEXT_BYTES_MAX:
            self._texts_bytes -= len(self._texts.popleft())
            self._texts_lost += 1
            self.counts.lost += 1

    def _refuse(self, peer: bytes, text: str) -> None:
        self.counts.bad_messages += 1
        if self.can_write:  # else they would wait in memory without a bound
            self._note(catalogue.BAD_MESSAGE, text)
        self._orders.append(log_events.Reply(peer, BatchRefused(text)))

    def _stop(self) -> None:
        self._note(catalogue.STOPPED)
        self._is_stopping = True
        self._is_file_wanted = True
        self._let_retry()

    # --- the file

    def _ask(self, order: log_events.Order) -> None:
        self._access = Access.ASKED
        self._orders.append(order)

    def _ask_for_file(self) -> None:
        """One thing at a time: the next order about the file is given when it is known how this one went."""
        if self._access is not Access.RELEASED:
            return
        if self._is_sync_due:
            self._is_sync_due = False
            self._ask(log_events.Sync())
        elif self._is_reopen_wanted:
            self._is_reopen_wanted = False
            self._ask(log_events.Reopen())
        elif self._is_file_wanted and (self.can_write or self._is_retry_due):
            self._ask(log_events.TakeFile())

    def _begin(self, file: log_events.FileTaken) -> None:
        """The file is ours: write what is here, after beginning a new file if it is time for that."""
        self._access = Access.TAKEN
        self._is_file_wanted = False
        for boot, seq in file.positions.items():
            self._remember(boot, max(seq, self.positions.get(boot, 0)))
        if file.torn:
            text = file.torn[:TORN_BYTES].decode(errors="backslashreplace")
            self._note(catalogue.REPAIRED, f"cut off what a crash left of a line: {text}", len(file.torn))
        if self.failure and self._block is None:
            self._recover()
        if file.is_empty:
            # Somebody has emptied it or moved it away: it begins like a rotated one. A log that is new has nothing to tell.
            self._write(self._positions_line() if self._has_written or self.positions else b"")
        elif file.is_full and not self._rotate_retry.is_set:
            self._ask(log_events.Rotate(self._positions_line()))
        else:
            self._write()

    def _write(self, first_line: bytes = b"") -> None:
        """Write what is here, or release the file if that is nothing."""
        if self._block is None:
            self._block = self._collect()
        self._composition = self._compose(self._block)
        payload = first_line + self._composition.payload()
        if payload:
            self._ask(log_events.Write(payload))
            return
        self._block = self._composition = None
        self._orders.append(log_events.ReleaseFile())
        self._access = Access.RELEASED
        if self._sync.at <= self._now:
            self._let_sync()

    def _collect(self) -> Block:
        if self._texts_lost:
            self._note(catalogue.LOST, "lines of text, while the log could not be written", self._texts_lost)
            self._texts_lost = 0
        block = Block(self._items, list(self._texts))
        self._items = []
        self._texts.clear()
        self._texts_bytes = 0
        return block

    def _compose(self, block: Block) -> Composition:
        composition = Composition(block, self._author, self.positions, self._seq, self._now + self._epoch)
        for source in composition.behind:
            self._ask_again(source, composition.position(source[1]))
        for source in composition.sources:
            self._asked_again.pop(source, None)
        if composition.sources:
            self._taken = composition.sources
            self._beat.set_by(self._now + BEAT_S)
        return composition

    def _end_block(self) -> None:
        """The block is in the file."""
        composition, self._block, self._composition = self._composition, None, None
        assert composition is not None
        self._has_written = True
        self._seq = composition.seq
        self.counts.add(composition.counts)
        for boot, seq in composition.positions.items():
            self._remember(boot, seq)
        for source in composition.sources:
            if source[1] in self.positions:  # else so many others were heard since that it is forgotten
                self._written[source] = self.positions[source[1]]
        self._taken = {}
        self._is_urgent |= composition.is_urgent
        if self._fsync is Fsync.NEVER and not self._is_stopping:
            self._acknowledge()
        else:
            is_at_once = self._is_urgent or self._is_stopping or self._fsync is Fsync.ALWAYS
            self._sync.set_by(self._now if is_at_once else self._now + SYNC_S)
        if self.failure:
            self._recover()
        self._write()

    def _remember(self, boot: str, seq: int) -> None:
        """The position of ``boot``. Many starts that come and go push out no sender that is there, and only quiet."""
        self.positions.pop(boot, None)
        self.positions[boot] = seq
        if len(self.positions) > POSITIONS_MAX:
            living = set(self._boots.values())
            del self.positions[next((one for one in self.positions if one not in living), next(iter(self.positions)))]

    def _let_sync(self, _now: float = 0.0) -> None:
        self._sync.clear()
        self._is_sync_due = True

    def _fail(self, reason: str) -> None:
        if self._access is not Access.RELEASED:
            self._orders.append(log_events.ReleaseFile())
            self._access = Access.RELEASED
        self._composition = None
        if self.failure != reason:
            self._orders.append(log_events.TellFailure(reason))
        self.failure = reason
        self._is_retry_due = False
        self._write_retry.set(self._now + WRITE_RETRY_S)
        for item in self._items:
            if isinstance(item, log_events.BatchArrived):
                self._turn_away(item)
        self._items = [item for item in self._items if isinstance(item, Record)]

    def _let_retry(self, _now: float = 0.0) -> None:
        """What could not be synced or written is tried again."""
        if self.failure:
            self._is_sync_due |= self._is_sync_failed
            self._is_file_wanted = self._is_retry_due = not self._is_sync_failed

    def _recover(self) -> None:
        self.failure = ""
        self._write_retry.clear()
        self._orders.append(log_events.TellRecovery())
        for source in self._turned_away:
            self._ask_again(source, self.positions.get(source[1], 0))
        self._turned_away.clear()

    def _note(self, event: EventName, text: str = "", count: int = 0) -> None:
        """Record something about the log itself."""
        self._items.append(self._author.record(self._now + self._epoch, event, text, count))

    def _positions_line(self) -> bytes:
        """What a new file begins with: every position, so that no older file is needed to go on.

        It is JSON in a log for people too, as loggers read it. It has no number of its own, as it may never be written.
        """
        record = self._author.record(self._now + self._epoch, catalogue.POSITIONS)
        record.seq = self._seq
        record.fields = dict(self.positions)
        return _encode(record) + b"\n"

    # --- replies

    def _acknowledge(self) -> None:
        """Everything that was written is on disk, as far as ``--fsync`` asks for that."""
        self._is_urgent = False
        self._orders += [log_events.Reply(peer, Ack(boot, through)) for (peer, boot), through in self._written.items()]
        self._written.clear()

    def _ask_again(self, source: Source, position: int) -> None:
        """Once: what it has sent before it hears that may still arrive, and is no reason to ask another time."""
        if self._asked_again.get(source) != position:
            _put(self._asked_again, source, position)
            self._orders.append(log_events.Reply(source[0], Ack(source[1], 0, True)))

    def _say_beats(self, now: float) -> None:
        waiting = {**self._taken, **dict.fromkeys(self._written)}
        # Not their positions: those count what is written, and perhaps not yet on disk.
        self._orders += [log_events.Reply(peer, Ack(boot, 0)) for peer, boot in waiting]
        if waiting:
            self._beat.set(now + BEAT_S)


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _put(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Make it the last of the table, whose first one goes if there are too many."""
    table.pop(key, None)
    table[key] = value
    if len(table) > POSITIONS_MAX:
        del table[next(iter(table))]
