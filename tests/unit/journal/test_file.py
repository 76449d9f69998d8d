"""The journal in a file: who may open it, where it may be, and what an error of SQLite becomes."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from cbw.errors import (
    JournalBroken,
    JournalError,
    JournalFull,
    JournalInUse,
    JournalOnNetwork,
    JournalTooNew,
)
from cbw.journal import file
from cbw.journal.backend import Append
from cbw.journal.file import FileJournal
from cbw.journal.mounts import NETWORK_TYPES, file_system_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the journal, not there yet."""
    return tmp_path / "deep" / "journal"


def opened(folder: Path) -> FileJournal:
    """A journal with whatever is in it read."""
    journal = FileJournal(folder)
    list(journal.open())
    return journal


def test_only_its_user_may_read_it(folder: Path) -> None:
    journal = opened(folder)
    journal.append(1, [b"a"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    journal.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == {file.FILE: 0o600, file.FILE + "-wal": 0o600, file.LOCK_FILE: 0o600}


def test_the_second_broker_is_told_who_has_it(folder: Path) -> None:
    journal = opened(folder)
    with pytest.raises(JournalInUse, match=f"in use by process {os.getpid()} on ") as raised:
        FileJournal(folder).open()
    assert raised.value.exit_code == 3
    assert "another folder" in raised.value.advice
    assert journal.append(1, [b"a"]) is Append.DURABLE
    journal.close()
    opened(folder).close()


def test_another_program_that_has_the_database_open(folder: Path) -> None:
    opened(folder).close()
    other = sqlite3.connect(folder / file.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalInUse, match="open in another program"):
        FileJournal(folder).open()
    other.close()


def test_nobody_else_can_look_into_it_meanwhile(folder: Path) -> None:
    """A second connection of an old SQLite could lose commits."""
    journal = opened(folder)
    journal.append(1, [b"a"])
    other = sqlite3.connect(folder / file.FILE, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM batches")
    other.close()
    journal.close()


def test_a_newer_format_is_refused_and_left_alone(folder: Path) -> None:
    opened(folder).close()
    with sqlite3.connect(folder / file.FILE) as other:
        other.execute(f"PRAGMA user_version = {file.TABLES_VERSION + 1}")
    other.close()
    for _ in range(2):
        with pytest.raises(JournalTooNew, match=r"has format 2; this version of cbw knows formats up to 1") as raised:
            FileJournal(folder).open()
        assert raised.value.exit_code == 2


def test_a_crash_while_it_was_made_leaves_nothing_that_matters(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / (file.FILE + ".new")).write_bytes(b"half")
    (folder / (file.FILE + ".new-wal")).write_bytes(b"half")
    journal = opened(folder)
    assert journal.next_position == 1
    journal.close()
    assert sorted(path.name for path in folder.iterdir()) == [file.FILE, file.LOCK_FILE]


@pytest.mark.parametrize("below", [".", "journal", "deeper/journal"])
def test_a_file_where_a_folder_has_to_be(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"has to be a folder, and .*/file is a file\n") as raised:
        FileJournal(tmp_path / "file" / below).open()
    assert "another folder" in raised.value.advice


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(JournalError, match="/proc/journal: No such file") as raised:
        FileJournal(Path("/proc/journal")).open()
    assert "may write to" in raised.value.advice


# --- the network


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 21 0:40 / /srv rw - nfs4 server:/srv rw
31 30 8:2 / /srv/local\\040disk rw shared:7 - xfs /dev/sdb1 rw
32 21 0:41 / /data rw - xfs /dev/sdc1 rw
33 21 0:42 / /data rw master:1 - cifs //server/data rw
34 21 0:43 / /srvx rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/deep/er", "nfs4"),
        ("/srv/local disk/journal", "xfs"),
        ("/data/journal", "cifs"),
        ("/srvx/journal", "tmpfs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount(tmp_path: Path, folder: str, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS + "nonsense\n")
    assert file_system_of(Path(folder), tmp_path / "mountinfo") == kind


def test_a_link_is_followed_and_a_missing_list_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    (tmp_path / "link").symlink_to("/srv/journal")
    assert file_system_of(tmp_path / "link", tmp_path / "mountinfo") == "nfs4"
    assert file_system_of(tmp_path, tmp_path / "missing") == ""
    assert file_system_of(tmp_path) not in NETWORK_TYPES


def test_a_folder_on_the_network_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "file_system_of", lambda _: "nfs4")
    with pytest.raises(JournalOnNetwork, match="network file system") as raised:
        FileJournal(folder).open()
    assert raised.value.exit_code == 2
    assert list(folder.iterdir()) == []


# --- errors of the disk


class Failing(sqlite3.Connection):
    """A connection whose statements fail when told to."""

    failure: tuple[str, sqlite3.Error] | None = None  # the beginning of the statement, and its error

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.failure is not None and sql.startswith(self.failure[0]):
            raise self.failure[1]
        return super().execute(sql, parameters)


def sqlite_error(name: str) -> sqlite3.Error:
    """As SQLite would raise it."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


@pytest.fixture
def failing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FileJournal:
    """A journal with one batch, on a disk that works as long as :class:`Failing` says so."""
    connect = sqlite3.connect
    monkeypatch.setattr(Failing, "failure", None)
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
    journal = opened(folder)
    journal.append(1, [b"a"])
    return journal


@pytest.mark.parametrize("step", ["INSERT", "PRAGMA wal_checkpoint"])
@pytest.mark.parametrize("name", ["SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_READONLY"])
def test_a_broken_disk_is_never_written_to_again(
    failing: FileJournal, monkeypatch: pytest.MonkeyPatch, step: str, name: str
) -> None:
    monkeypatch.setattr(file, "CHECKPOINT_BYTES", 0)
    monkeypatch.setattr(Failing, "failure", (step, sqlite_error(name)))
    with pytest.raises(JournalBroken, match=name) as raised:
        failing.append(2, [b"b"])
    assert raised.value.exit_code == 5
    monkeypatch.setattr(Failing, "failure", None)
    log = failing.folder / (file.FILE + "-wal")
    before = (failing.path.read_bytes(), log.read_bytes())
    for again in (lambda: failing.append(2, [b"b"]), lambda: failing.compact(2)):
        with pytest.raises(JournalBroken, match=name):
            again()
    failing.close()
    assert (failing.path.read_bytes(), log.read_bytes()) == before


def test_a_disk_that_breaks_at_the_end(failing: FileJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "failure", ("PRAGMA wal_checkpoint", sqlite_error("SQLITE_IOERR_FSYNC")))
    with pytest.raises(JournalBroken):
        failing.close()
    failing.close()


@pytest.mark.parametrize("step", ["INSERT", "PRAGMA wal_checkpoint"])
def test_a_full_disk_may_be_tried_again(failing: FileJournal, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    monkeypatch.setattr(file, "CHECKPOINT_BYTES", 0)
    monkeypatch.setattr(Failing, "failure", (step, sqlite_error("SQLITE_FULL")))
    for _ in range(3):
        with pytest.raises(JournalFull, match="No space left on device"):
            failing.append(2, [b"b"])
    assert failing.next_position == 2
    monkeypatch.setattr(Failing, "failure", None)
    assert failing.append(2, [b"b"]) is Append.DURABLE
    failing.close()
    journal = FileJournal(failing.folder)
    assert list(journal.open()) == [(1, b"a"), (2, b"b")]
    journal.close()


@pytest.mark.parametrize("step", ["PRAGMA wal_checkpoint", "UPDATE state"])
def test_a_full_disk_at_the_start(failing: FileJournal, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Nothing of the journal is changed, so that it opens when there is room."""
    failing.close()
    monkeypatch.setattr(Failing, "failure", (step, sqlite_error("SQLITE_FULL")))
    journal = FileJournal(failing.folder)
    before = journal.path.read_bytes()
    with pytest.raises(JournalFull):
        journal.open()
    assert journal.path.read_bytes() == before
    monkeypatch.setattr(Failing, "failure", None)
    assert list(journal.open()) == [(1, b"a")]
    journal.close()


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EFBIG])
def test_a_used_up_quota_is_no_broken_disk(failing: FileJournal, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """But a failed sync breaks the journal even on a full disk."""

    def no_room(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", no_room)
    monkeypatch.setattr(Failing, "failure", ("INSERT", sqlite_error("SQLITE_IOERR_WRITE")))
    with pytest.raises(JournalFull, match=os.strerror(number)):
        failing.append(2, [b"b"])
    monkeypatch.setattr(Failing, "failure", ("INSERT", sqlite_error("SQLITE_IOERR_FSYNC")))
    with pytest.raises(JournalBroken):
        failing.append(2, [b"b"])
    failing.close()
