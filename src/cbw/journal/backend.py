"""What a broker's journal is, to the broker: an append-only sequence of batches, each of them bytes that only the core reads.

Batches have consecutive positions from 1. There are no snapshots: to get rid of old batches the core appends what is still
alive in them again, as new batches, waits until those are durable, and then lets :meth:`Backend.compact` drop the old ones. A
reader therefore never sees less than everything; after a crash between the two steps it sees some of it twice.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from enum import Enum, auto
from typing import Any, Protocol

BATCHES_MAX = 1000
"""Batches in one append: a statement of SQLite may have 32,766 values, of which each batch needs two."""


class Append(Enum):
    """How an append ended."""

    DURABLE = auto()  #: on disk: a crash of the machine does not lose it
    FENCED = auto()  #: not stored, and never will be: the next position is another, so somebody else has written
    UNKNOWN = auto()  #: stored or not: only calling append again with the same arguments tells


class Backend(Protocol):
    """Keeps the batches. One thread at a time may use it; after a :class:`~cbw.errors.JournalError` other than
    ``JournalFull`` and ``JournalUnreachable``, only :meth:`close` may be called."""

    def open(self) -> Generator[tuple[int, bytes], None, None]:
        """Take the journal over, and return all batches and their positions, in order; read them to the end.

        They are read as the iterator is: a journal may be larger than the memory. When this returns, the journal belongs to
        the caller, until :meth:`close` or until another takes it over. Whoever does not read to the end closes the iterator
        before the journal.

        Raises:
            JournalError: it cannot be opened, or (while the batches are read) it is damaged.
        """
        ...

    @property
    def next_position(self) -> int:
        """The position that the next batch will have. Compaction never lowers it, even if no batches are left."""
        ...

    @property
    def size_bytes(self) -> int:
        """What the journal takes on disk. Any thread may ask."""
        ...

    @property
    def filled(self) -> float:
        """How much of the room that it may take is taken, from 0 to 1; 0 if it has no bound of its own. Any thread may ask."""
        ...

    def describe(self) -> dict[str, Any]:
        """What people are shown of it: its ``kind``, ``file`` or ``nats``, and its ``place``. Any thread may ask.

        Of one that brokers of several machines share also its ``name``, the ``owner`` as far as it is known (None: it is not),
        the ``epoch`` of an owner (the sequence of the message that made it one) and the ``standbys`` that it knows of.
        """
        ...

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        """Store ``batches`` at ``position``, ``position + 1``, …: all of them or none, and durably if that is the outcome.
        At least one, and at most :data:`BATCHES_MAX`.

        ``FENCED`` if ``position`` is not the next one. After ``UNKNOWN``, call it again with the same arguments: a back end
        that finds these batches stored already answers ``DURABLE`` and does not store them twice.

        Raises:
            JournalFull: nothing was stored, as there is no room; the same may be tried again.
            JournalError: the journal cannot be written any more. The batches may be stored or not.
        """
        ...

    def compact(self, before: int) -> bool:
        """Drop batches with a position below ``before``, oldest first, and give their space back, in one short step.

        Returns whether there is more to do: then call it again with the same position. Appends are possible between the
        steps, which is why there are any: dropping a gigabyte takes seconds. A crash between them leaves some old batches.

        Raises:
            JournalFull: there is no room to work in; the same may be tried again.
            JournalUnreachable: its servers do not answer; the same may be tried again.
            JournalError: the journal cannot be written any more.
        """
        ...

    def close(self) -> None:
        """Give the journal back. What was durable stays so. May be called twice, and without :meth:`open`.

        Raises:
            JournalBroken: the disk failed at the last moment; what was durable still is.
        """
        ...
