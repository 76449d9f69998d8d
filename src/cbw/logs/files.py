"""The files of a log as blocks of whole lines, read forwards, backwards or from a time on.

A line is a :class:`~cbw.core.record.Record` as JSON, which begins with its time, or text of a program that sends no records.
The lines of one sender are in order. Those of different senders are only roughly, because records arrive in batches, and
late if the logger was away.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from cbw.errors import UsageError
from cbw.logger.logfile import files_of

BLOCK_BYTES = 1 << 18
"""Size of a block: large enough that the calls cost nothing, small enough to stay in the processor's cache (measured:
searched twice as fast as blocks of 1 MiB)."""
SLACK_S = 3600.0
"""How much younger or older than its neighbours a line may be: its batch may have waited for the logger."""
_BISECT_BYTES = 1 << 16
"""Bytes within which the search for a time stops: reading them costs less than another step."""
_SAMPLES = 16
"""Lines of a block that are looked at to estimate the time of its newest record."""

_AT = re.compile(rb'(?:\A|\n)\{"at":(\d+(?:\.\d+)?)[,}]')
_FIRST_AT = re.compile(rb'\{"at":(\d+(?:\.\d+)?)[,}]')
_LINE_AT = b'\n{"at":'


def time_at(block: bytes, start: int) -> float | None:
    """The time of the line at ``start``: that of its record, or of the record nearest to a line of text (best: before it).

    None if ``block`` holds no record.
    """
    own = _FIRST_AT.match(block, start)
    if own is None:
        before = block.rfind(_LINE_AT, 0, start)
        own = _FIRST_AT.match(block, before + 1) or _AT.search(block)
    return float(own[1]) if own else None


def newest_in(block: bytes) -> float | None:
    """An estimate of the time of the newest record in ``block``, from a few of its lines: late ones may stand between."""
    places = (_AT.search(block, len(block) * number // _SAMPLES) for number in range(_SAMPLES))
    return max((float(found[1]) for found in places if found), default=None)


class Part:
    """One file of the log, open. ``closed_at`` is when it was rotated; None: it is the one that is being written."""

    def __init__(self, path: Path, closed_at: float | None) -> None:
        self.path = path
        self.closed_at = closed_at
        self.opened_at: float | None = None  # when the part before it was closed
        self.end: int | None = None  #: what stands behind this position is not read
        self.damage = ""  #: why it could not be read to its end
        self._file: IO[bytes] = path.open("rb")
        self.inode = os.fstat(self._file.fileno()).st_ino
        self._is_packed = path.suffix == ".gz"
        if not self._file.seekable():  # a pipe
            with self._file as pipe:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
                shutil.copyfileobj(pipe, self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def covers(self, since: float, until: float) -> bool:
        """Whether the file may hold lines of the time from ``since`` to ``until``."""
        is_over = self.closed_at is not None and self.closed_at + SLACK_S < since
        is_later = self.opened_at is not None and self.opened_at - SLACK_S > until
        return not is_over and not is_later

    def blocks(self, since: float = 0.0) -> Iterator[bytes]:
        """Blocks of lines, from the time ``since`` on or somewhat earlier. Every line ends with a newline, the last too."""
        self._file.seek(0)
        if self._is_packed:
            yield from self._whole_lines(gzip.GzipFile(fileobj=self._file))
            return
        start = self._file.seek(self._start_of(since) if since > 0 else 0)
        yield from self._whole_lines(self._file, None if self.end is None else max(0, self.end - start))

    def blocks_backward(self) -> Iterator[bytes]:
        """Blocks of lines, the last block first; the lines of a block are in their order."""
        file = self._file
        with contextlib.ExitStack() as stack:
            if self._is_packed:
                file = stack.enter_context(tempfile.TemporaryFile())  # gzip can only be read forwards
                self._file.seek(0)
                for block in self._whole_lines(gzip.GzipFile(fileobj=self._file)):
                    file.write(block)
            end = file.seek(0, os.SEEK_END) if self.end is None else self.end
            ends: list[bytes] = []  # of a line that begins in an earlier block, the last of it first
            while end > 0:
                start = max(0, end - BLOCK_BYTES)
                file.seek(start)
                data = file.read(end - start)
                end = start
                cut = data.find(b"\n") + 1 if start else 0
                if start and not cut:
                    ends.append(data)
                    continue
                lines = b"".join((data[cut:], *reversed(ends)))
                ends = [data[:cut]]
                if lines:
                    yield lines if lines.endswith(b"\n") else lines + b"\n"

    def _whole_lines(self, source: IO[bytes] | gzip.GzipFile, left: int | None = None) -> Iterator[bytes]:
        rest: list[bytes] = []  # of a line that goes on: it may be as long as the file
        try:
            while data := source.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)):
                left = None if left is None else left - len(data)
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*rest, data[:cut]))
                    rest.clear()
                if cut < len(data):
                    rest.append(data[cut:])
        except (OSError, EOFError, zlib.error) as error:
            self.damage = str(error) or type(error).__name__
        if rest:
            yield b"".join((*rest, b"\n"))

    def _start_of(self, since: float) -> int:
        """A position behind which all lines from ``since`` on stand, unless they came later than ``SLACK_S``."""
        low, high = 0, os.fstat(self._file.fileno()).st_size
        while high - low > _BISECT_BYTES:
            middle = (low + high) // 2
            self._file.seek(middle)
            found = _AT.search(self._file.read(_BISECT_BYTES).partition(b"\n")[2])
            if found is not None and float(found[1]) < since - SLACK_S:
                low = middle
            else:  # younger, or text without a time
                high = middle
        if not low:
            return 0
        self._file.seek(low)
        return low + len(self._file.readline())


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[list[Part]]:
    """The files of the log at ``path``, oldest first. They stay readable when they are rotated, compressed or deleted.

    Raises:
        UsageError: there is no file, or one may not be read.
    """
    parts: list[Part] = []
    try:
        for file in files_of(path):
            with contextlib.suppress(FileNotFoundError):  # compressed or deleted meanwhile
                parts.append(_part(file, Path(path)))
        if not parts:
            raise UsageError(f"there is no file {path}", advice="Check the path; LOGGER_DIR names the folder of a log.")
        for before, part in itertools.pairwise(parts):
            part.opened_at = before.closed_at
        yield parts
    except OSError as error:
        if error.filename is None or Path(error.filename).parent != Path(path).parent:
            raise
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from None
    finally:
        for part in parts:
            part.close()


def _part(file: Path, current: Path) -> Part:
    closed_at = None if file == current else _time_of(file.name.removeprefix(current.name + ".").removesuffix(".gz"))
    try:
        return Part(file, closed_at)
    except FileNotFoundError:
        return Part(file.with_name(file.name + ".gz"), closed_at)


def _time_of(suffix: str) -> float | None:
    with contextlib.suppress(ValueError):  # named like one of ours, but by somebody else
        return datetime.strptime(suffix, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC).timestamp()
    return None
