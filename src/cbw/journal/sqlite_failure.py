"""What an error of SQLite means for a journal: full, broken, damaged, or in use."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import tempfile
from pathlib import Path

from cbw.errors import JournalBroken, JournalDamaged, JournalError, JournalFull, JournalInUse

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space, no quota, or over the largest size of a file (RLIMIT_FSIZE): all of them may pass."""
_SYNC_FAILED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
_PROBE_BYTES = 1 << 16
"""Written to see whether there is room: more than what a file system may find room for in a corner that it has left."""


def journal_error(error: Exception, path: Path) -> JournalError:
    """The error to raise for ``error``, which SQLite reported for the database at ``path``."""
    code = getattr(error, "sqlite_errorcode", 0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    said = f"{error} ({name})"
    match code & 0xFF:  # the rest of an extended code says what exactly
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalInUse(f"the journal {path} is open in another program: {said}")
        case sqlite3.SQLITE_FULL:
            return no_room(path, os.strerror(errno.ENOSPC))
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            # SQLite says the same of a used-up quota as of a broken disk. But a sync that failed is never tried again: what
            # was to be written may be lost, and the second sync would succeed nevertheless.
            reason = "" if code in _SYNC_FAILED else _room_reason(path)
            return no_room(path, reason) if reason else JournalBroken(f"the journal {path} cannot be used: {said}")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_NOLFS | sqlite3.SQLITE_NOMEM:
            return JournalBroken(f"the journal {path} cannot be written: {said}")
        case _:
            return damaged(path, said)


def damaged(path: Path, reason: str) -> JournalDamaged:
    """The error for a journal that cannot be read."""
    return JournalDamaged(
        f"the journal {path} is damaged: {reason}",
        advice=f"See what can be read: cbw journal check {path.parent}. To begin a new journal, move the folder away.",
    )


def no_room(path: Path, reason: str) -> JournalFull:
    """The error for a journal whose disk is full."""
    return JournalFull(f"the journal {path} cannot be written: {reason}")


def os_error(error: OSError, path: Path) -> JournalError:
    """The error to raise for ``error``, which the system reported for a file of the journal."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return no_room(path, reason)
    if error.errno in (errno.EIO, errno.EROFS):
        return JournalBroken(f"the journal {path} cannot be used: {reason}")
    where = error.filename or path
    if isinstance(error, NotADirectoryError | FileExistsError):
        file = next((place for place in path.parents if place.exists() and not place.is_dir()), path.parent)
        return JournalError(
            f"the journal {path.parent} has to be a folder, and {file} is a file",
            advice="Give another folder, or move that file away.",
        )
    return JournalError(
        f"the journal {path} cannot be opened: {where}: {reason}",
        advice=f"The folder has to be one that user {os.geteuid()} may write to.",
    )


def _room_reason(path: Path) -> str:
    """Why a file beside ``path`` cannot grow as large as the journal's files are; "" if it can, or if the disk is broken.

    The file is sparse, so this writes no more than the probe.
    """
    sizes = [0]
    for file in (path, path.with_name(path.name + "-wal")):
        with contextlib.suppress(OSError):
            sizes.append(file.stat().st_size)
    try:
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as probe:
            for size in sizes:
                os.pwrite(probe.fileno(), bytes(_PROBE_BYTES), size)
    except OSError as error:
        return os.strerror(error.errno) if error.errno in _NO_ROOM else ""
    return ""
