"""The journal as a file: a SQLite database of blobs, ``journal.db``, in a folder of its own.

Three rules keep what was durable. **One connection, exclusively:** up to 3.51.2 SQLite may lose commits if two connections
write and checkpoint at once, so ``locking_mode=EXCLUSIVE`` is set before the write-ahead log (WAL) is first used. **No
automatic checkpoints:** SQLite ignores their errors, and a sync that failed once succeeds the second time without having
written anything. **After a disk error nothing is written any more,** not even by closing: the next start reads what is there.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import socket
import sqlite3
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from cbw.errors import (
    JournalBroken,
    JournalDamaged,
    JournalError,
    JournalFull,
    JournalInUse,
    JournalOnNetwork,
    JournalTooNew,
)
from cbw.journal.backend import Append
from cbw.journal.mounts import NETWORK_TYPES, file_system_of
from cbw.journal.sqlite_failure import damaged, journal_error, os_error
from cbw.journal.wal import commits_after

FILE = "journal.db"
"""The database, in the journal's folder. SQLite adds ``-wal`` to its name for the write-ahead log."""
LOCK_FILE = "journal.lock"
"""Locked while a broker has the journal; says which process that is."""
TABLES_VERSION = 1
"""Of the tables below, in the database's ``user_version``. A higher one is refused."""
APPLICATION_ID = 0x6362776A
"""``cbwj``: marks the database as a journal of cbw."""

_PAGE_BYTES = 16384
"""A batch of 51 kB has a quarter as many pages as with SQLite's default of 4096, which makes half as many copies to the
database and 8,000 instead of 5,000 batches a second. A batch of 300 bytes, which is written as whole pages, takes the same 0.15
ms; with 65536 both are slower again (measured)."""
CHECKPOINT_BYTES = 4 << 20
"""The WAL is copied into the database when this much has been appended to it. One copy of this size takes some 5 ms
(measured), in which no append ends."""
WAL_KEPT_BYTES = 2 * CHECKPOINT_BYTES
"""What the file of the WAL is cut to when it has grown larger, by a batch of megabytes."""
_DROP_BYTES = 4 << 20
"""Batches of this size together are dropped in one step of a compaction, and at most as many as :data:`_DROP_ROWS`."""
_DROP_ROWS = 1000
_VACUUM_PAGES = 64
"""Pages given back to the file system in one step of a compaction: each may be one that has to be moved."""
SPARE_PAGES = 256
"""Free pages that stay in the file, for the next batches; and so do as many as are a quarter of the file."""
_NO_CHECKPOINT_ON_CLOSE = 1006
"""SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, which the module sqlite3 names from Python 3.12 on."""

_TABLES = f"""
PRAGMA page_size = {_PAGE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {TABLES_VERSION};
PRAGMA journal_mode = WAL;
CREATE TABLE batches (position INTEGER PRIMARY KEY, batch BLOB NOT NULL);
CREATE TABLE state (first INTEGER NOT NULL, next INTEGER NOT NULL, is_synced INTEGER NOT NULL);
INSERT INTO state VALUES (1, 1, 1);
"""
"""``state`` has one row: the position of the first batch; a position below which all batches were there, which tells a damaged
file from a shorter one; and whether each append was synced."""


class FileJournal:
    """A journal in ``folder``, which is made if it is missing. See :class:`~cbw.journal.backend.Backend`.

    With ``sync="full"`` an append is durable when the disk has it. With ``"normal"`` it survives the death of the process
    only: a power loss may lose what was appended last, but never a part of it.
    """

    def __init__(self, folder: Path, sync: Literal["full", "normal"] = "full") -> None:
        self.folder = folder.absolute()
        self.path = self.folder / FILE
        self._wal = self.folder / (FILE + "-wal")
        self._sync = sync
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        self._is_recovered = False
        self._failure: JournalError | None = None  # after which nothing is written any more
        self._first = self._next = 1
        self._wal_bytes = 0  # appended since the last checkpoint, about

    # --- of Backend

    def open(self) -> Generator[tuple[int, bytes], None, None]:
        assert self._lock is None, "this journal is open"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_network(self.folder)
            self._lock = _locked(self.folder / LOCK_FILE)
            self._make_database()
        except OSError as error:
            self.close()
            raise os_error(error, self.path) from error
        try:
            with self._guarded():
                self._db = self._connect()
                self._recover(self._db)
                _sync(self.folder)  # SQLite has done so for its new WAL, but ignores that it failed
                self._is_recovered = True
        except JournalError:
            self.close()
            raise
        return self._batches(self._db)

    @property
    def next_position(self) -> int:
        return self._next

    @property
    def size_bytes(self) -> int:
        return _size(self.path) + _size(self._wal)

    @property
    def filled(self) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {"kind": "file", "place": str(self.folder)}

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        if position != self._next:
            return Append.FENCED
        with self._guarded():
            db = self._opened()
            if self._wal_bytes >= CHECKPOINT_BYTES:  # now, as what was appended before has been reported
                self._checkpoint(db)
            rows = list(itertools.chain.from_iterable(enumerate(batches, position)))
            # One statement, which is its own transaction: each more would have to wait for the loop to let go of the interpreter.
            db.execute("INSERT INTO batches VALUES (?, ?)" + ", (?, ?)" * (len(batches) - 1), rows)
        self._next += len(batches)
        self._wal_bytes += sum(map(len, batches)) + 2 * _PAGE_BYTES
        return Append.DURABLE

    def compact(self, before: int) -> bool:
        before = min(before, self._next)
        with self._guarded():
            db = self._opened()
            if self._wal_bytes >= CHECKPOINT_BYTES:
                self._checkpoint(db)
            if self._first < before:
                self._drop(db, before)
                return True
            return self._give_back(db)

    def close(self) -> None:
        try:
            if self._db is not None and self._is_recovered and self._failure is None:
                with contextlib.suppress(JournalFull), self._guarded():
                    self._checkpoint(self._db)  # or closing does it, whose errors nobody sees
        finally:
            if self._db is not None:
                if not _keeps_open(self._failure):
                    self._db.close()
                self._db, self._is_recovered = None, False
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    # --- inside

    def _opened(self) -> sqlite3.Connection:
        assert self._db is not None, "open this journal first"
        return self._db

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Errors of SQLite become ours, the transaction is taken back, and a failure is remembered."""
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except JournalError as error:
            self._fail(error)
            raise
        except (sqlite3.Error, OSError, UnicodeDecodeError, OverflowError) as error:
            found = os_error(error, self.path) if isinstance(error, OSError) else journal_error(error, self.path)
            if self._db is not None and self._db.in_transaction:
                try:
                    self._db.execute("ROLLBACK")
                except sqlite3.Error as second:
                    found = JournalBroken(f"the journal {self.path} cannot take back a transaction: {second}")
            if not isinstance(found, JournalFull):
                self._fail(found)
            raise found from error

    def _fail(self, error: JournalError) -> None:
        self._failure = error
        if self._db is not None and _spares_the_files(error):
            _keep_from_writing(self._db)  # at once: who fails may never come to close it

    def _make_database(self) -> None:
        """A new database, whole or not at all, if there is none."""
        if self.path.exists():
            if self.path.stat().st_size == 0:
                raise damaged(self.path, "it is empty")
            return
        if _size(self._wal):
            raise damaged(self.path, f"it is missing, but its write-ahead log {self._wal.name} is there")
        new = self.folder / (FILE + ".new")
        for left in (new, self.folder / (FILE + ".new-wal"), self.folder / (FILE + ".new-journal")):
            left.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        try:
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as db:
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                db.executescript(_TABLES)
        except sqlite3.Error as error:
            raise journal_error(error, self.path) from error
        _sync(new)
        new.rename(self.path)
        _sync(self.folder)
        _sync(self.folder.parent)

    def _connect(self) -> sqlite3.Connection:
        # Never open the database's file in another way from here on: closing that would release SQLite's locks (fcntl).
        db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        db.text_factory = bytes  # a damaged row may claim to be text
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # before the WAL is looked at: then it needs no shared memory
        return db

    def _recover(self, db: sqlite3.Connection) -> None:
        """Read the WAL that a crash has left, see whether all of it could be read, and where the batches are."""
        if _number(db, "PRAGMA application_id") != APPLICATION_ID:
            raise damaged(self.path, "it is no journal of cbw")
        if (version := _number(db, "PRAGMA user_version")) > TABLES_VERSION:
            raise JournalTooNew(
                f"the journal {self.path} has format {version}; this version of cbw knows formats up to {TABLES_VERSION}"
            )
        if db.execute("PRAGMA journal_mode").fetchone() != (b"wal",):
            raise damaged(self.path, "its header is not the one that was written")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
        db.execute("PRAGMA secure_delete = OFF")  # Debian's SQLite overwrites what is deleted unless it is told not to
        db.execute(f"PRAGMA synchronous = {self._sync}")
        rows = db.execute("SELECT first, next, is_synced FROM state").fetchall()
        if len(rows) != 1 or not all(isinstance(value, int) for value in rows[0]):
            raise damaged(self.path, "its table of states is not as it was written")
        self._first, known, is_synced = rows[0]
        frames = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        # The last transaction may be torn: nobody was told that it is durable. More than one cannot be.
        if is_synced and commits_after(self._wal, frames, _PAGE_BYTES) > 1:
            raise damaged(self.path, f"its write-ahead log {self._wal.name} ends in the middle")
        first, last = db.execute("SELECT min(position), max(position) FROM batches").fetchone()
        self._next = max(known, self._first) if last is None else last + 1
        if self._first < 1 or self._next < known or self._first != (self._next if first is None else first):
            raise damaged(self.path, f"batches {self._first} to {known - 1} should be there, but not all are")
        db.execute("UPDATE state SET next = ?, is_synced = ?", (self._next, self._sync == "full"))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _batches(self, db: sqlite3.Connection) -> Generator[tuple[int, bytes], None, None]:
        expected = self._first
        with self._guarded():
            with contextlib.closing(db.execute("SELECT position, batch FROM batches ORDER BY position")) as rows:
                for position, batch in rows:
                    if position != expected or not isinstance(batch, bytes):
                        raise damaged(self.path, f"batch {expected} is missing")
                    yield position, batch
                    expected += 1
            if expected != self._next:
                raise damaged(self.path, f"batch {expected} is missing")

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Copy the WAL into the database, and sync that; the next append begins the WAL anew."""
        db.execute("UPDATE state SET next = ?", (self._next,))
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self._wal_bytes = 0

    def _drop(self, db: sqlite3.Connection, before: int) -> None:
        query = "SELECT length(batch) FROM batches WHERE position < ? ORDER BY position LIMIT ?"
        rows = size = 0
        with contextlib.closing(db.execute(query, (before, _DROP_ROWS))) as lengths:
            for (length,) in lengths:
                rows += 1
                size += length or 0
                if size >= _DROP_BYTES:
                    break
        if rows == 0:
            raise damaged(self.path, f"batch {self._first} is missing")
        first = self._first + rows
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM batches WHERE position < ?", (first,))
        db.execute("UPDATE state SET first = ?, next = ?", (first, self._next))
        db.execute("COMMIT")
        self._first = first
        self._wal_bytes += 64 * _PAGE_BYTES  # more than the lists of free pages ever take

    def _give_back(self, db: sqlite3.Connection) -> bool:
        """Shorten the file by some of its free pages. Returns whether there are still more than should be kept."""
        if (surplus := _surplus_pages(db)) <= 0:
            return False
        # Not execute(): this pragma yields a row without columns for each page, and execute() stops at the first.
        db.executescript(f"PRAGMA incremental_vacuum({min(surplus, _VACUUM_PAGES)})")
        self._wal_bytes += 2 * _PAGE_BYTES * _VACUUM_PAGES
        if _surplus_pages(db) > 0:
            return True
        self._checkpoint(db)  # this is what makes the file shorter
        return False


def _number(db: sqlite3.Connection, query: str) -> int:
    """The only value of the only row."""
    value: int = db.execute(query).fetchone()[0]
    return value


def _surplus_pages(db: sqlite3.Connection) -> int:
    """How many free pages there are beyond those that stay for the next batches."""
    free, pages = _number(db, "PRAGMA freelist_count"), _number(db, "PRAGMA page_count")
    return free - max(SPARE_PAGES, pages // 4)


def _size(path: Path) -> int:
    """The size of a file in bytes; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync(path: Path) -> None:
    """Wait until the file or the folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_network(folder: Path) -> None:
    kind = file_system_of(folder)
    if kind in NETWORK_TYPES:
        raise JournalOnNetwork(f"the journal's folder {folder} is on a network file system ({kind})")


def _locked(path: Path) -> int:
    """The descriptor of the lock at ``path``, which is released when it is closed.

    Raises:
        JournalInUse: another process has it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        with contextlib.suppress(OSError):  # a full disk: the lock itself needs no room
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BlockingIOError:
        owner = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise JournalInUse(f"the journal in {path.parent} is in use by {owner}") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _spares_the_files(error: JournalError | None) -> bool:
    """Whether the files have to stay as they are after this error: another attempt to write might do more harm."""
    return isinstance(error, JournalBroken | JournalDamaged)


def _keep_from_writing(db: sqlite3.Connection) -> None:
    """Closing a connection copies the WAL into the database and deletes it. After this it does not, whoever closes it."""
    if sys.version_info >= (3, 12):
        db.setconfig(_NO_CHECKPOINT_ON_CLOSE, True)
    else:  # Python 3.11 can only be kept from closing it, even when the process ends
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


def _keeps_open(error: JournalError | None) -> bool:
    """Whether the connection must not be closed after this error. The system does it when the process ends."""
    return sys.version_info < (3, 12) and _spares_the_files(error)
