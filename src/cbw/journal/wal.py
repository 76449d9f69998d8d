"""What SQLite does not say of a write-ahead log that it has recovered: whether it stopped at the end or in the middle.

SQLite reads a log up to the first frame whose checksum is wrong. After a crash that is the frame that was being written. If
it is one that was synced long before, its disk is at fault, and what comes after it was durable. The format is described in
https://www.sqlite.org/fileformat2.html#walformat
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from pathlib import Path

_HEADER = struct.Struct(">I4xI4x8s")  # magic, version; page size; number of the checkpoint; salts
_MAGIC = 0x377F0682
"""Its last bit is set if checksums are of big-endian numbers."""
_HEADER_BYTES = 32
_HEADER_SUMMED_BYTES = 24
_FRAME = struct.Struct(
    ">4xI8s8x"
)  # page; size of the database if this frame ends a transaction, else 0; salts; checksum


def commits_after(wal: Path, frames: int, page_bytes: int) -> int:
    """How many transactions end behind the first ``frames`` frames of the log, those that SQLite could read.

    One whose last frame has lost the mark of the end is not counted.
    """
    try:
        descriptor = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    step = _FRAME.size + page_bytes
    try:
        head = os.pread(descriptor, _HEADER_BYTES, 0)
        if len(head) < _HEADER_BYTES:
            return 0
        end = os.fstat(descriptor).st_size
        commits: Counter[bytes] = Counter()
        for at in range(_HEADER_BYTES + max(0, frames) * step, end - _FRAME.size + 1, step):
            size, salts = _FRAME.unpack(os.pread(descriptor, _FRAME.size, at))
            commits[salts] += size > 0
        if _is_intact(head):  # frames with other salts are of an earlier round, and their pages are in the database
            return commits[_HEADER.unpack_from(head)[2]]
        return max(commits.values(), default=0)  # SQLite could read nothing at all
    finally:
        os.close(descriptor)


def _is_intact(header: bytes) -> bool:
    """Whether a log's header is one, and its checksum is right."""
    magic = _HEADER.unpack_from(header)[0]
    words = struct.unpack((">" if magic & 1 else "<") + "6I", header[:_HEADER_SUMMED_BYTES])
    first = second = 0
    for one, two in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return magic & ~1 == _MAGIC and (first, second) == struct.unpack(">2I", header[_HEADER_SUMMED_BYTES:])
