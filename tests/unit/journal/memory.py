"""A journal in memory: the smallest back end, with faults that a test can ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from cbw.errors import JournalInUse
from cbw.journal.backend import Append


class Store:
    """What outlives the back ends that keep their batches in it."""

    def __init__(self) -> None:
        self.batches: dict[int, bytes] = {}
        self.next = 1
        self.owner: MemoryJournal | None = None


class MemoryJournal:
    """Keeps batches in ``store``.

    Appends raise ``failure`` while there is one. ``outcomes`` are those of the next appends, where an exception is raised;
    when none are left, all goes well. ``UNKNOWN`` stores the batches if ``is_stored_unknown``.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.failure: Exception | None = None
        self.outcomes: deque[Append | Exception] = deque()
        self.is_stored_unknown = False
        self.appends: list[tuple[int, int]] = []  #: position and number of batches of each append that was asked for
        self.is_closed = False
        self._unknown: tuple[int, list[bytes]] | None = None

    def open(self) -> Generator[tuple[int, bytes], None, None]:
        if self.store.owner is not None:
            raise JournalInUse("the journal is in use by another test")
        self.store.owner = self
        return (item for item in sorted(self.store.batches.items()))

    @property
    def next_position(self) -> int:
        return self.store.next

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.store.batches.values()))

    @property
    def filled(self) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {"kind": "memory", "place": "this test"}

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        self.appends.append((position, len(batches)))
        if (failure := self.failure) is not None:
            raise failure
        is_repeated, self._unknown = self._unknown == (position, list(batches)), None
        outcome = self.outcomes.popleft() if self.outcomes else Append.DURABLE
        if isinstance(outcome, Exception):
            raise outcome
        if is_repeated and position < self.store.next:
            return outcome
        if position != self.store.next or outcome is Append.FENCED:
            return Append.FENCED
        if outcome is Append.UNKNOWN:
            self._unknown = (position, list(batches))
        if outcome is Append.DURABLE or self.is_stored_unknown:
            self.store.batches.update(enumerate(batches, position))
            self.store.next += len(batches)
        return outcome

    def compact(self, before: int) -> bool:
        for position in [position for position in self.store.batches if position < before]:
            del self.store.batches[position]
        return False

    def close(self) -> None:
        self.is_closed = True
        if self.store.owner is self:
            self.store.owner = None
