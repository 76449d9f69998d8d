"""Follow a log as it grows, while its file is rotated, compressed, emptied or deleted, or does not exist yet."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from cbw.errors import UsageError
from cbw.logger.logfile import files_of
from cbw.logs.files import BLOCK_BYTES, Part, opened

POLL_S = 0.1
"""Interval between two looks for more lines: quick enough for eyes, at a cost that could not be measured."""
_HEAD_BYTES = 64
"""First bytes of a file by which it is recognized: a record's time and sender are among them."""


class Follower:
    """Reads the log at ``path`` from its present end on. ``sleep`` is called with the seconds between two looks."""

    def __init__(self, path: Path, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._path = path
        self._sleep = sleep
        self._file: IO[bytes] | None = None
        self._head = b""
        self._at = 0  # the position behind the last line that was returned
        self._known: dict[str, None] = {}  # rotated files that were there when this one was opened
        self._open()
        if self._file is not None:
            self._at = _end_of_lines(self._file)

    def before(self, parts: list[Part]) -> list[Part]:
        """The part of ``parts`` that stands before the position where following begins."""
        if self._file is None:
            return parts
        inode = os.fstat(self._file.fileno()).st_ino
        for number, part in enumerate(parts):
            if part.inode == inode:
                part.end = self._at
                return parts[: number + 1]
        return parts

    def blocks(self) -> Iterator[bytes]:
        """Blocks of whole lines, without end; an empty one (``b""``) before each wait."""
        while True:
            if self._file is None:
                yield from self._next()
            if self._file is not None:
                is_over = self._is_over()  # asked first: what was written before that is still read
                yield from self._more()
                if is_over:
                    yield from self._next()
                    continue
            yield b""
            self._sleep(POLL_S)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self.close()
        self._at = 0
        while True:
            self._known = _rotated(self._path)
            with contextlib.suppress(FileNotFoundError):
                self._file = self._path.open("rb")
            if _rotated(self._path) == self._known:
                break
            self.close()  # it was rotated in between: this may be the old one or the new one
        if self._file is not None:
            self._head = self._file.read(_HEAD_BYTES)

    def _is_over(self) -> bool:
        """Whether the open file is no longer the one that is being written."""
        assert self._file is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return bool(_rotated(self._path).keys() - self._known.keys())
        return now.st_ino != os.fstat(self._file.fileno()).st_ino

    def _more(self) -> Iterator[bytes]:
        assert self._file is not None
        size = os.fstat(self._file.fileno()).st_size
        if size < self._at:
            # Emptied, and perhaps filled again; or only cut, as the logger does with a line that it could not write to its end.
            self._file.seek(0)
            self._at = size if size and self._file.read(_HEAD_BYTES).startswith(self._head) else 0
        self._file.seek(self._at)
        rest = b""
        while data := self._file.read(BLOCK_BYTES):
            self._head = self._head or data[:_HEAD_BYTES]
            data = rest + data
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                self._at += cut
                yield data[:cut]

    def _next(self) -> Iterator[bytes]:
        """Open the file that is being written now. First come the blocks of files that were begun and rotated meanwhile."""
        before, head = self._known, self._head if self._file is not None else b""
        self._open()
        missed = [name for name in self._known if name not in before]
        if missed:
            with contextlib.suppress(UsageError), opened(self._path) as parts:  # deleted meanwhile
                for part in parts:
                    if part.path.name.removesuffix(".gz") in missed:
                        blocks = part.blocks()
                        first = next(blocks, b"")
                        if not (head and first.startswith(head)):  # that one has been read
                            yield first
                            yield from blocks


def _rotated(path: Path) -> dict[str, None]:
    """The names of the rotated files, oldest first, as they are before they are compressed."""
    return dict.fromkeys(file.name.removesuffix(".gz") for file in files_of(path) if file.name != path.name)


def _end_of_lines(file: IO[bytes]) -> int:
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        start = max(0, at - BLOCK_BYTES)
        file.seek(start)
        cut = file.read(at - start).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        at = start
    return 0
