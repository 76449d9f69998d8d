"""The journal in a file keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from cbw.journal.backend import Backend
from cbw.journal.file import FileJournal
from tests.unit.journal.contract import Contract


@pytest.mark.parametrize("sync", ["full", "normal"])
class TestFileJournal(Contract):
    def backend(self, folder: Path) -> Backend:
        return FileJournal(folder / "journal", self.sync)

    @pytest.fixture(autouse=True)
    def _synced(self, sync: Literal["full", "normal"]) -> None:
        self.sync = sync
