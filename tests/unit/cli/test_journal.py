"""``cbw journal`` with a journal whose servers are slow to tell, or that another broker takes meanwhile."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from cbw.cli import journal as commands
from cbw.core.journal_records import Batch, WorkerKnown
from cbw.errors import JournalBroken, JournalDamaged, JournalFenced
from cbw.journal.backend import Append
from cbw.wire.journal import encode_batch
from tests.unit.journal.memory import MemoryJournal

NEEDED = encode_batch(Batch(1.0, [WorkerKnown(b"W1", "lab")]))


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> MemoryJournal:
    """What the commands look into, with one batch."""
    found = MemoryJournal()
    found.append(1, [NEEDED])
    monkeypatch.setattr(commands, "existing_journal_at", lambda where: found)
    monkeypatch.setattr(commands, "RETRY_S", 0.0)
    return found


def run(name: str) -> Result:
    return CliRunner().invoke(commands.command, [name, "nats://n1:4222/shop"])


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_compaction_asks_again_how_an_append_ended(journal: MemoryJournal, is_stored: bool) -> None:
    journal.outcomes.append(Append.UNKNOWN)
    journal.is_stored_unknown = is_stored
    assert run("compact").exit_code == 0
    assert list(journal.store.batches) == [2]


def test_a_compaction_that_never_learns_it_drops_nothing(
    journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "UNKNOWN_S", 0.0)
    journal.outcomes.append(Append.UNKNOWN)
    assert isinstance(run("compact").exception, JournalBroken)
    assert 1 in journal.store.batches


def test_a_compaction_ends_when_another_broker_has_written(journal: MemoryJournal) -> None:
    journal.outcomes.append(Append.FENCED)
    assert isinstance(run("compact").exception, JournalFenced)
    assert 1 in journal.store.batches


def test_damage_is_told_with_what_to_do_for_this_journal(journal: MemoryJournal) -> None:
    journal.store.batches[1] = NEEDED[:-1]
    error = run("check").exception
    assert isinstance(error, JournalDamaged) and error.advice.endswith("cbw journal export nats://n1:4222/shop")
