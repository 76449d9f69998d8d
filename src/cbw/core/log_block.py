"""What a logger writes at once: records of senders, records of its own, lines of text; which of them are new, and which lost.

Every sender numbers its records from 1 at each of its starts (*boots*). The last number of a boot that is in the log is its
*position*. A block is composed for the positions that are known when it is written. If that fails it is composed anew the
next time, as if nothing had happened: meanwhile another logger may have written the same records to the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from cbw.core import catalogue
from cbw.core.batch import BatchHeader
from cbw.core.catalogue import EventName
from cbw.core.log_events import BatchArrived
from cbw.core.record import Record

Source = tuple[bytes, str]
"""A connection, and the boot that it sends records of."""
Render = Callable[[bytes], bytes]
"""Makes the line that is written from a record's JSON, both without their ends."""

_encode = msgspec.json.Encoder().encode


class Counts(msgspec.Struct):
    """What a logger has done. ``missing`` records are those in ``gaps``; ``lost`` counts lines of text."""

    records: int = 0
    text_lines: int = 0
    gaps: int = 0
    missing: int = 0
    duplicates: int = 0
    lost: int = 0
    bad_messages: int = 0

    def add(self, others: Counts) -> None:
        """Count these too."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(others, name))


class Block(msgspec.Struct):
    """What is to be written: batches and records of the logger's own, as they came, then lines of text without their ends."""

    items: list[BatchArrived | Record] = []
    texts: list[bytes] = []


class Author(msgspec.Struct, frozen=True):
    """The logger that writes: its id and its boot, and ``render`` if it does not write JSON."""

    name: str
    boot: str
    render: Render | None = None

    def record(self, at: float, event: EventName, text: str = "", count: int = 0) -> Record:
        """A record of its own, which is numbered when it is written."""
        return Record(at, event, role="logger", sender=self.name, text=text, count=count, boot=self.boot)


class Composition:
    """``block`` as ``author`` writes it now, while the log is at ``positions`` and the author's last own record is ``seq``.

    ``counts`` is what it adds to the author's. ``sources`` are those whose records are in it now, if not before; ``behind``
    those who have sent something that cannot be taken before what they sent earlier.
    """

    def __init__(self, block: Block, author: Author, positions: Mapping[str, int], seq: int, now_at: float) -> None:
        self.counts = Counts()
        self.positions: dict[str, int] = {}  #: of the boots in it, when it is written
        self.sources: dict[Source, None] = {}
        self.behind: list[Source] = []
        self.is_urgent = False
        self.seq = seq
        self._author = author
        self._before = positions
        self._now_at = now_at
        self._payloads: list[bytes] = []
        for item in block.items:
            if isinstance(item, Record):
                self._add_own(item)
            else:
                self._add_batch(item)
        if block.texts:
            self.counts.text_lines = len(block.texts)
            self._payloads.append(b"\n".join(block.texts) + b"\n")

    def payload(self) -> bytes:
        """Whole lines."""
        return b"".join(self._payloads)

    def position(self, boot: str) -> int:
        """The last number of ``boot`` once this is written."""
        return self.positions.get(boot) or self._before.get(boot, 0)

    def _add_batch(self, batch: BatchArrived) -> None:
        """Take what continues the position of its boot; leave out what is known; count what will never come."""
        header, payload = batch.header, batch.payload
        boot, source = header.boot, (batch.peer, header.boot)
        position = self.position(boot)
        if header.oldest > position + 1:
            self._add_gap(header, position)
            position = header.oldest - 1
        if header.first > position + 1:
            # Out of order, as after a quick reconnect: the sender still has what is between.
            self.behind.append(source)
            return
        known = min(position + 1 - header.first, header.count)
        if known:
            self.counts.duplicates += known
            text = f"{header.sender} sent records {header.first} to {header.first + known - 1} again"
            self._note(catalogue.DUPLICATES, text, known)
            payload = b"\n".join(payload.split(b"\n")[known:])
        if known < header.count:
            self._add_json(payload)
            self.counts.records += header.count - known
        self.positions[boot] = max(position, header.first + header.count - 1)
        self.sources[source] = None
        self.is_urgent |= header.is_urgent

    def _add_gap(self, header: BatchHeader, position: int) -> None:
        count = header.oldest - position - 1
        self.counts.gaps += 1
        self.counts.missing += count
        text = f"records {position + 1} to {header.oldest - 1} of {header.sender} (boot {header.boot}) are lost"
        self._note(catalogue.GAP, text, count)
        self.positions[header.boot] = header.oldest - 1

    def _note(self, event: EventName, text: str, count: int) -> None:
        self._add_own(self._author.record(self._now_at, event, text, count))

    def _add_own(self, record: Record) -> None:
        self.seq += 1
        record.seq = self.seq
        self._add_json(_encode(record) + b"\n")

    def _add_json(self, payload: bytes) -> None:
        render = self._author.render
        if render is not None:
            payload = b"".join(render(line) + b"\n" for line in payload.split(b"\n")[:-1])
        self._payloads.append(payload)
