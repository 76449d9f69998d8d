"""The journal in memory, which other tests rely on, keeps the contract."""

from __future__ import annotations

from pathlib import Path

from cbw.journal.backend import Append, Backend
from tests.unit.journal.contract import Contract
from tests.unit.journal.memory import MemoryJournal, Store


class TestMemoryJournal(Contract):
    def backend(self, folder: Path) -> Backend:
        return MemoryJournal(self.stores.setdefault(folder, Store()))

    def setup_method(self) -> None:
        self.stores: dict[Path, Store] = {}


def test_an_append_that_is_repeated_after_unknown_is_stored_once() -> None:
    for is_stored in (False, True):
        backend = MemoryJournal()
        backend.is_stored_unknown = is_stored
        backend.outcomes.append(Append.UNKNOWN)
        list(backend.open())
        assert backend.append(1, [b"a", b"b"]) is Append.UNKNOWN
        assert backend.append(1, [b"a", b"b"]) is Append.DURABLE
        assert backend.store.batches == {1: b"a", 2: b"b"}
