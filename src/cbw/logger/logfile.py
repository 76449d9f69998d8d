"""The log on disk: one file that is appended to, and older ones beside it.

``FILE`` is written. When it is large or old it becomes ``FILE.<time in UTC>``, is compressed to the same name and ``.gz``,
and the oldest of those are deleted. Several loggers of one host may write to one file: a lock on ``FILE.lock`` lets one of
them write at a time, and each reads what the others have written meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cbw.errors import NotReady
from cbw.logger.line import JSON, Format

_FIRST_AT = re.compile(rb'\{"at":(\d+(?:\.\d+)?)[,}]')
_ROTATED = re.compile(r"\.\d{8}T\d{6}\.\d{6}(\.gz)?")
_READ_BYTES = 1 << 20
_HEAD_BYTES = 4096
"""Read of a file's first line, which begins with its time."""
LOCK_TRIES = 100
LOCK_RETRY_S = 0.002
"""How often, and after which time, the lock is tried: a logger that writes has it for milliseconds, a frozen one for ever."""
TIDY_PRIORITY = 19
"""Of the thread that compresses: the lowest, as nobody waits for it."""
COMPRESS_LEVEL = 1
"""Of gzip: the fastest. A broker's records become 10 times smaller; level 6 takes four times as long to save another fifth
(measured)."""
COMPRESSION_STOP_S = 0.2
"""How long each compression may go on after the logger has ended; what is not done is done at the next rotation."""


def files_of(path: str | Path) -> list[Path]:
    """The files of the log at ``path`` that are there, oldest first; the one that is written is the last."""
    path = Path(path)
    rotated = {}
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            suffix = other.name.removeprefix(path.name)
            if other.name.startswith(path.name) and _ROTATED.fullmatch(suffix):
                key = suffix.removesuffix(".gz")
                if key not in rotated or suffix == key:  # while one is being compressed both are there
                    rotated[key] = other
    return [*(rotated[key] for key in sorted(rotated)), *([path] if path.exists() else [])]


class Rotation(msgspec.Struct, frozen=True):
    """When a file is full: by its size or, unless that is 0, its age; and how many older ones are kept."""

    bytes_max: int
    age_s: float
    keep: int
    is_compressing: bool


class LogFile:
    """The log at ``path``. Read and write it within :meth:`locked`. ``format`` is that of its lines.

    Raises:
        NotReady: it cannot be written; the text says why and what to do.
    """

    def __init__(self, path: str | Path, rotation: Rotation, *, format: Format = JSON) -> None:
        self.path = Path(path).absolute()
        self.size = 0
        self.rotated = 0
        self.torn = b""  #: a last line without its end, left by a crash, that was cut off when the file was locked
        self._format = format
        self._next = Path(f"{self.path}.new")  # the file that a rotation is about to begin
        self._rotation = rotation
        self._descriptor: int | None = None
        self._began_at = 0.0
        self._lock: int | None = None
        self._compressors: list[threading.Thread] = []
        try:
            _refuse_folder(self.path)
            self._open()
        except OSError as error:
            raise NotReady(_reason(self.path, error), advice=_advice(self.path, error)) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[dict[str, int]]:
        """Have the file to oneself; the positions that others have written to it since the last time, or all at first.

        Raises:
            OSError: the file cannot be opened, or another logger does not release it.
        """
        lock = self._lock_file()
        _lock(lock)
        try:
            yield self._catch_up()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)

    def append(self, block: bytes) -> None:
        """Write whole lines; if that fails, none of them, unless the file cannot be cut back either.

        Raises:
            OSError: no room, or no file any more.
        """
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the file is not open")
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(block)

    def is_full(self, now: float) -> bool:
        """Whether it is time for a new file; ``now`` is seconds since 1970."""
        return self.size > 0 and (
            self.size >= self._rotation.bytes_max or now - self._began_at >= self._rotation.age_s > 0
        )

    def rotate(self, first_line: bytes) -> None:
        """Begin a new file with ``first_line``; a thread compresses the one before, and deletes the oldest.

        A crash leaves the old file, or the new one with its first line.

        Raises:
            OSError: no file could be made or renamed; then the old file is still the one that is written.
        """
        self.sync()
        old = self.path.with_name(f"{self.path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        try:
            with self._next.open("wb") as file:
                file.write(first_line)
                file.flush()
                os.fsync(file.fileno())
            self.path.rename(old)
        except OSError:
            self._next.unlink(missing_ok=True)
            raise
        self.rotated += 1
        self._open()
        self.size = len(first_line)
        thread = threading.Thread(target=self._tidy, name="compress", daemon=True)
        thread.start()
        self._compressors = [*(one for one in self._compressors if one.is_alive()), thread]

    def sync(self) -> None:
        """Wait until everything that was written is on disk.

        Raises:
            OSError: the disk reports an error; what was written may be lost.
        """
        if self._descriptor is not None:
            os.fdatasync(self._descriptor)

    def reopen(self) -> None:
        """Close the file, as somebody may have moved it away; what is at the path then is opened when it is locked again.

        Raises:
            OSError: what was written could not be synced.
        """
        try:
            self.sync()
        finally:
            self._forget()

    def close(self) -> None:
        """Sync and close."""
        with contextlib.suppress(OSError):
            self.sync()
        self._forget()
        self._unlock()
        for thread in self._compressors:
            thread.join(timeout=COMPRESSION_STOP_S)

    # --- inside

    def _open(self) -> None:
        self._forget()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._next.unlink(missing_ok=True)
        elif self._next.exists():
            self._next.rename(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size = 0
        self._began_at = _began_at(os.pread(self._descriptor, _HEAD_BYTES, 0))
        self._lock_file()

    def _lock_file(self) -> int:
        lock = self.path.with_name(self.path.name + ".lock")
        if self._lock is None or not _is_at(self._lock, lock):
            self._unlock()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._lock

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _catch_up(self) -> dict[str, int]:
        """See to it that the file at the path is open, and read what is new in it."""
        if self._descriptor is None or not _is_at(self._descriptor, self.path):
            if self._descriptor is not None:
                self.reopen()
            self._open()
        assert self._descriptor is not None
        end = os.fstat(self._descriptor).st_size
        if end < self.size:  # somebody has emptied it
            self.size = 0
        positions = self._positions(self._descriptor, self.size, end)
        self.torn = b""
        if end != self.size:
            self.size = end
            self._repair()
        return positions

    def _repair(self) -> None:
        """Cut off a last line that has no end: nobody is writing now, so it would stay as it is."""
        assert self._descriptor is not None
        tail: list[bytes] = []
        at = self.size
        while at > 0 and not (tail and b"\n" in tail[-1]):
            start = max(0, at - _READ_BYTES)
            tail.append(os.pread(self._descriptor, at - start, start))
            at = start
        self.torn = b"".join(reversed(tail)).rpartition(b"\n")[2]
        if self.torn:
            self.size -= len(self.torn)
            os.ftruncate(self._descriptor, self.size)

    def _positions(self, descriptor: int, start: int, end: int) -> dict[str, int]:
        """The last number of each boot in these bytes of the file, those heard most recently last."""
        positions: dict[str, int] = {}
        is_beginning = start == 0
        rest = b""
        while start < end:
            data = os.pread(descriptor, min(_READ_BYTES, end - start), start)
            if not data:
                break
            start += len(data)
            data = rest + data
            cut = data.rfind(b"\n") + 1
            data, rest = data[:cut], data[cut:]
            for boot, seq in self._format.positions_in(data, is_beginning=is_beginning).items():
                positions.pop(boot, None)
                positions[boot] = seq
            is_beginning = is_beginning and not data
        return positions

    def _tidy(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), TIDY_PRIORITY)  # Linux: of this thread only
        others = [path for path in files_of(self.path) if path != self.path]
        for path in others[: -self._rotation.keep or None]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                _unfinished(path).unlink(missing_ok=True)
        if self._rotation.is_compressing:
            for path in others[-self._rotation.keep :] if self._rotation.keep else []:
                if path.suffix != ".gz":
                    with contextlib.suppress(OSError):
                        _compress(path)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _began_at(head: bytes) -> float:
    """When a file was begun, by its first line; now if that does not say it."""
    found = _FIRST_AT.match(head)
    return float(found[1]) if found else time.time()


def _compress(path: Path) -> None:
    """Compress it, unless another logger is compressing it."""
    target = path.with_name(path.name + ".gz")
    unfinished = _unfinished(path)
    with path.open("rb") as source:
        try:
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        if not path.exists():
            return
        try:
            with unfinished.open("wb") as raw:
                with gzip.GzipFile(path.name, "wb", COMPRESS_LEVEL, raw) as packed:
                    shutil.copyfileobj(source, packed, _READ_BYTES)
                raw.flush()
                os.fsync(raw.fileno())
        except OSError:  # the disk is full, and needs the room that this takes
            unfinished.unlink(missing_ok=True)
            raise
        unfinished.rename(target)
        path.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def _lock(lock: int) -> None:
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(LOCK_RETRY_S)
    raise OSError(errno.EBUSY, "another logger has locked it")


def _refuse_folder(path: Path) -> None:
    """Before anything is made: a lock file beside a folder would stay there, and beside the root there is no place."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _reason(path: Path, error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return f"{path} is a directory"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"{path.parent} is no directory"
    return f"cannot write the log {path}: {error.strerror}"


def _advice(path: Path, error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "Give a file in it: FILE (--log-file of cbw up), or LOGGER_DIR for the folder."
    if isinstance(error, NotADirectoryError | FileExistsError):
        return "Move that file away, or give another place: FILE (--log-file of cbw up), or LOGGER_DIR for the folder."
    if isinstance(error, PermissionError):
        return f"User {os.getuid()} may not write in {path.parent}: chown it (of a container's volume, on its host)."
    return "Give another place: FILE (--log-file of cbw up), or LOGGER_DIR for the folder."
