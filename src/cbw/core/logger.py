"""The logger's decisions: what is written, in what order, what is a gap or a duplicate, who is told that it is on disk.

Every sender numbers its records from 1 at each of its starts (its *boots*). The logger knows the last number of each boot
that it has taken, its *position*, and the last that is in the file. The log itself is the only place where positions are
kept, so a logger that was killed, or another one that writes to the same file, finds them there again.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

from cbw.core.events import Record
from cbw.core.lines import Ack, Lines

SYNC_S = 0.5
"""With ``interval``: what is written is on disk after so long at most."""
BEAT_S = 1.0
"""Senders whose records are not yet on disk hear so often that the logger lives."""
POSITIONS_MAX = 10_000
"""Boots that are remembered; those not heard for the longest time are forgotten first."""
TEXT_BYTES_MAX = 8 << 20
"""Lines from the text port, which nobody else keeps, wait in so much memory while nothing can be written."""

_encode = msgspec.json.Encoder().encode


class Fsync(Enum):
    """When the file is synced: after each write, at most half a second after it, or when the system likes."""

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


class LoggerCore:
    """``name`` and ``boot`` are the logger's own; ``now`` is monotonic seconds, ``epoch`` what makes them seconds since 1970.

    ``render`` makes the line that is written from a JSON line, without its end; None leaves it as it is.
    """

    def __init__(
        self,
        name: str,
        boot: str,
        *,
        epoch: float,
        fsync: Fsync = Fsync.INTERVAL,
        render: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.name = name
        self.boot = boot
        self.positions: dict[str, int] = {}
        self._in_file: dict[str, int] = {}  # the same, of what is written
        self.can_write = True
        self.records = self.text_lines = self.gaps = self.missing = self.duplicates = self.lost = self.bad_messages = 0
        self.epoch = epoch
        self._fsync = fsync
        self._render = render
        self._seq = 0
        self._block: list[bytes] = []
        self._texts: deque[bytes] = deque()
        self._texts_bytes = 0
        self._texts_lost = 0
        self._owed: dict[tuple[bytes, str], None] = {}  # (peer, boot): its records are not yet on disk
        self._written: dict[tuple[bytes, str], int] = {}  # (peer, boot): they are written, up to this one
        self._replies: list[tuple[bytes, Ack]] = []
        self._sync_at = math.inf
        self._is_urgent = False
        self._beat_at = math.inf

    # --- facts

    def absorb(self, positions: Mapping[str, int]) -> None:
        """The log says that these records are in it, from before or by another logger."""
        for boot, seq in positions.items():
            _move(self._in_file, boot, max(seq, self._in_file.get(boot, 0)))
            _move(self.positions, boot, max(seq, self.positions.get(boot, 0)))

    def received(self, peer: bytes, header: Lines, payload: bytes, now: float) -> None:
        """A batch of records from the connection ``peer``."""
        boot = header.boot
        position = self.positions.get(boot, 0)
        if header.oldest > position + 1:
            self._missing(header, position, now)
            position = header.oldest - 1
        if header.first > position + 1:
            # Out of order, as after a quick reconnect: the sender still has what is between.
            self._replies.append((peer, Ack(boot, 0, True)))
            return
        known = min(position + 1 - header.first, header.count)
        if known:
            self.duplicates += known
            text = f"{header.sender} sent records {header.first} to {header.first + known - 1} again"
            self._note("duplicates", text, now, known)
            payload = b"\n".join(payload.split(b"\n")[known:])
        if known < header.count:
            self._add(payload)
            self.records += header.count - known
        _move(self.positions, boot, max(position, header.first + header.count - 1))
        self._owed[peer, boot] = None
        self._is_urgent |= header.is_urgent
        if self._beat_at == math.inf:
            self._beat_at = now + BEAT_S

    def said(self, line: bytes) -> None:
        """A line from the text port. The oldest ones go if nothing can be written and there is no room."""
        self._texts.append(line)
        self._texts_bytes += len(line)
        while self._texts_bytes > TEXT_BYTES_MAX:
            self._texts_bytes -= len(self._texts.popleft())
            self._texts_lost += 1
            self.lost += 1

    def noticed(self, event: str, text: str, now: float, count: int = 0) -> None:
        """Something about the log itself is to be in it."""
        self._note(event, text, now, count)

    def bad_message(self, text: str, now: float) -> None:
        """Bytes that are no message arrived at the record port."""
        self.bad_messages += 1
        self._note("bad_message", text, now)

    def written(self, now: float) -> None:
        """The last block is in the file."""
        self.can_write = True
        for key in self._owed:
            boot = key[1]
            if boot in self.positions:  # else so many others were heard since that it is forgotten
                self._written[key] = self.positions[boot]
                _move(self._in_file, boot, self.positions[boot])
        self._owed.clear()
        if self._fsync is Fsync.NEVER:
            self.synced()
        elif self._sync_at == math.inf or self._is_urgent or self._fsync is Fsync.ALWAYS:
            self._sync_at = now if self._is_urgent or self._fsync is Fsync.ALWAYS else now + SYNC_S

    def failed(self, block: bytes) -> None:
        """``block`` could not be written; it comes first the next time."""
        self.can_write = False
        if block:
            self._block.insert(0, block)

    def synced(self) -> None:
        """Everything that was written is on disk."""
        self._sync_at = math.inf
        self._is_urgent = False
        self._replies += [(peer, Ack(boot, through)) for (peer, boot), through in self._written.items()]
        self._written.clear()

    # --- what the shell asks

    def take_block(self, now: float) -> bytes:
        """What is to be written now, whole lines. What could not be written comes alone: the rest waits where it is bounded."""
        if not self.can_write and self._block:
            block, self._block = b"".join(self._block), []
            return block
        if self._texts_lost:
            lost, self._texts_lost = self._texts_lost, 0
            self._note("lost", "lines of text, while the log could not be written", now, lost)
        if self._texts:
            self.text_lines += len(self._texts)
            self._block.append(b"\n".join(self._texts) + b"\n")
            self._texts.clear()
            self._texts_bytes = 0
        block, self._block = b"".join(self._block), []
        return block

    def positions_line(self, now: float) -> bytes:
        """What a new file begins with: every position, so that no older file is needed to go on."""
        record = self._record("positions", "", now, 0)  # it may come to nothing: it has no number of its own
        record.fields = dict(self._in_file)
        return _encode(record) + b"\n"  # never for people: it is read again

    def take_replies(self, now: float) -> list[tuple[bytes, Ack]]:
        """Who is to be told what."""
        if now >= self._beat_at:
            waiting = {**self._owed, **dict.fromkeys(self._written)}
            # Not their position: that counts what is written, and perhaps not yet on disk.
            self._replies += [(peer, Ack(boot, 0)) for peer, boot in waiting]
            self._beat_at = now + BEAT_S if waiting else math.inf
        replies, self._replies = self._replies, []
        return replies

    def is_sync_due(self, now: float) -> bool:
        """Whether the file is to be synced now."""
        return now >= self._sync_at

    @property
    def waiting_lines(self) -> int:
        """Lines of text that are not written."""
        return len(self._texts)

    @property
    def wake_at(self) -> float:
        """When there is something to do even if nothing arrives; infinity: never."""
        return min(self._sync_at, self._beat_at)

    # --- inside

    def _missing(self, header: Lines, position: int, now: float) -> None:
        count = header.oldest - position - 1
        self.gaps += 1
        self.missing += count
        text = f"records {position + 1} to {header.oldest - 1} of {header.sender} (boot {header.boot}) are lost"
        self._note("gap", text, now, count)
        _move(self.positions, header.boot, header.oldest - 1)

    def _note(self, event: str, text: str, now: float, count: int = 0) -> None:
        record = self._record(event, text, now)
        record.count = count
        self._add(_encode(record) + b"\n")

    def _record(self, event: str, text: str, now: float, step: int = 1) -> Record:
        self._seq += step
        return Record(now + self.epoch, event, "logger", self.name, text=text, boot=self.boot, seq=self._seq)

    def _add(self, payload: bytes) -> None:
        if self._render is not None:
            payload = b"".join(self._render(line) + b"\n" for line in payload.split(b"\n")[:-1])
        self._block.append(payload)


def _move(positions: dict[str, int], boot: str, seq: int) -> None:
    positions.pop(boot, None)
    positions[boot] = seq  # last in order: heard most recently
    if len(positions) > POSITIONS_MAX:
        del positions[next(iter(positions))]
