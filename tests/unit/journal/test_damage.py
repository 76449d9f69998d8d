"""Bytes of a journal's files are lost or changed: the journal says so, or is as it was; it never just lacks batches."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from cbw.errors import JournalBroken, JournalDamaged, JournalError, JournalFull, JournalTooNew
from cbw.journal import file
from cbw.journal.file import FileJournal

COUNT = 60
WAL = file.FILE + "-wal"


@pytest.fixture
def crashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal as a crash leaves it: many batches in the database, some in the write-ahead log, each appended alone."""
    monkeypatch.setattr(file, "CHECKPOINT_BYTES", 300_000)
    folder = tmp_path / "journal"
    journal = FileJournal(folder)
    list(journal.open())
    draw = random.Random(0)
    for position in range(1, COUNT + 1):
        journal.append(position, [draw.randbytes(draw.choice([10, 300, 3000, 30_000]))])
    copy = tmp_path / "crashed"
    shutil.copytree(folder, copy)
    journal.close()
    assert (copy / WAL).stat().st_size > 300_000
    return copy


@pytest.fixture
def closed(crashed: Path) -> Path:
    """The folder after the journal was opened and closed: everything is in the database."""
    journal = FileJournal(crashed)
    list(journal.open())
    journal.close()
    return crashed


def positions(folder: Path) -> list[int]:
    """Of the batches that are read; the journal is then written to, which may fail only as an error of its own."""
    journal = FileJournal(folder)
    try:
        found = [position for position, _ in journal.open()]
        try:
            journal.append(journal.next_position, [bytes(20_000)] * 3)
            while journal.compact(COUNT // 2):
                pass
        except (JournalDamaged, JournalBroken):
            pass
        return found
    finally:
        journal.close()


def overwrite(path: Path, draw: random.Random) -> None:
    """Some bytes anywhere, as many as a disk may lose at once."""
    size = path.stat().st_size
    at = draw.choice([draw.randrange(size), draw.randrange(size) // 16384 * 16384, draw.randrange(8192)])
    length = draw.choice([1, 4, 100, 512, 4096])
    with path.open("r+b") as opened:
        opened.seek(at)
        opened.write(draw.choice([draw.randbytes(length), bytes(length)])[: max(1, size - at)])


@pytest.mark.parametrize("seed", range(40))
def test_bytes_of_the_database_are_overwritten(closed: Path, seed: int) -> None:
    overwrite(closed / file.FILE, random.Random(seed))
    try:
        assert positions(closed) == list(range(1, COUNT + 1))
    except JournalError as error:
        assert isinstance(error, JournalDamaged | JournalTooNew), error
        assert str(closed / file.FILE) in str(error)
        assert error.advice


@pytest.mark.parametrize("seed", range(40))
def test_bytes_of_the_write_ahead_log_are_overwritten(crashed: Path, seed: int) -> None:
    """The last append may be missing: it looks as if the crash came while it was written. (So do the last two, if what was
    overwritten is just the mark that ends the first of them.)"""
    overwrite(crashed / WAL, random.Random(seed))
    try:
        assert positions(crashed) in (list(range(1, COUNT + 1)), list(range(1, COUNT)))
    except JournalDamaged:
        # Nor are they missing silently the next time. (Before Python 3.12 the first connection is still open.)
        with pytest.raises(JournalDamaged):
            positions(Path(shutil.copytree(crashed, crashed.with_name("again"))))


@pytest.mark.slow
def test_a_torn_write_ahead_log_is_a_prefix(crashed: Path, tmp_path: Path) -> None:
    size = (crashed / WAL).stat().st_size
    previous = COUNT
    for cut in [*range(100), *range(100, size, 7919)]:
        copy = tmp_path / "torn"
        shutil.copytree(crashed, copy)
        with (copy / WAL).open("r+b") as opened:
            opened.truncate(size - cut)
        found = positions(copy)
        assert found == list(range(1, len(found) + 1))
        assert len(found) <= previous
        previous = len(found)
        shutil.rmtree(copy)
    assert previous < COUNT


@pytest.mark.parametrize("name", [file.FILE, file.FILE + "-wal"])
def test_a_file_is_missing(crashed: Path, name: str) -> None:
    """Without the log the journal is an older one, which nobody can see; without the database it is none."""
    (crashed / name).unlink()
    if name == file.FILE:
        with pytest.raises(JournalDamaged, match="is missing"):
            positions(crashed)
    else:
        found = positions(crashed)
        assert found == list(range(1, len(found) + 1))


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 50_000, 8192 * 20])
def test_the_database_is_cut_off(closed: Path, size: int) -> None:
    with (closed / file.FILE).open("r+b") as opened:
        opened.truncate(size)
    with pytest.raises(JournalDamaged):
        positions(closed)


def test_something_else_lies_there(tmp_path: Path) -> None:
    (tmp_path / file.FILE).write_text("no database\n" * 1000)
    with pytest.raises(JournalDamaged, match="damaged"):
        positions(tmp_path)


def test_advice_names_the_command(closed: Path) -> None:
    (closed / file.FILE).write_bytes(b"")
    with pytest.raises(JournalDamaged) as raised:
        positions(closed)
    assert f"cbw journal check {closed}" in raised.value.advice
    assert not isinstance(raised.value, JournalFull)
