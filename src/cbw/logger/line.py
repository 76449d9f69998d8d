"""How lines stand in the log: records for programs (JSON) or for people (text), and lines of text from anybody.

A record's line ends with its sender's boot and its number, by which a logger finds its positions again. So no line of text
may look like a record: one that could be taken for one is quoted, like a quotation in a letter (``> …``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence

import msgspec

from cbw.clock import day_of
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.observe.trace import text_of
from cbw.visible import visible
from cbw.wire.log import NUMBER_MAX

QUOTE = b"> "
_RECORD = re.compile(rb'^\{[^\n]*,"boot":"([0-9A-Za-z]{1,64})","seq":(\d{1,15})\}\n', re.MULTILINE)
_RECORD_AS_TEXT = re.compile(rb"^\d{4}-\d\d-\d\d [^\n]*\[([0-9A-Za-z]{1,64}) (\d{1,15})\]\n", re.MULTILINE)

_decode = msgspec.json.Decoder(Record).decode


class Format(msgspec.Struct, frozen=True):
    """``record`` matches whole lines of records, with their boot and number. ``render`` makes such a line of a record's JSON,
    both without their ends; None: it is the JSON."""

    record: re.Pattern[bytes]
    render: Callable[[bytes], bytes] | None = None

    def text_line(self, frames: Sequence[bytes]) -> bytes:
        """A message from the text port as a line, without its end, that cannot be taken for a record.

        Frames are joined by a space; control characters, and bytes that are no UTF-8, become escapes.
        """
        line = visible(b" ".join(frames).decode(errors="backslashreplace")).encode()
        return QUOTE + line if self._looks_like_a_record(line) else line

    def _looks_like_a_record(self, line: bytes) -> bool:
        return self.record.match(line + b"\n") is not None or _record_of(line) is not None

    def positions_in(self, lines: bytes, *, is_beginning: bool) -> dict[str, int]:
        """The last number of each boot in these whole lines of a log, those heard most recently last.

        ``is_beginning``: the log's file begins with them, and perhaps with the positions of the files before.
        """
        positions = _positions_of(lines[: lines.find(b"\n") + 1]) if is_beginning else {}
        for boot, seq in self.record.findall(lines):
            name = boot.decode()
            positions.pop(name, None)
            positions[name] = int(seq)
        return positions


def _record_of(line: bytes) -> Record | None:
    """The record that programs would find in ``line``; None if it is no JSON, or not of a record's shape."""
    if line.lstrip().startswith(b"{"):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _decode(line)
    return None


def _positions_of(first_line: bytes) -> dict[str, int]:
    """What the first line of a file says: the positions of the files before it."""
    first = _record_of(first_line)
    if first is None or (first.role, first.event) != ("logger", catalogue.POSITIONS):
        return {}
    known = (first.fields or {}).items()
    return {boot: seq for boot, seq in known if type(seq) is int and 0 < seq < NUMBER_MAX}


def _rendered(line: bytes) -> bytes:
    """A record for people, which ends with its boot and number."""
    try:
        record = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line  # JSON of somebody else's shape
    text = f"{day_of(record.at)} {text_of(record)}".encode(errors="backslashreplace").replace(b"\n", b"\\n")
    return text + b" [%b %d]" % (record.boot.encode(), record.seq)


JSON = Format(_RECORD)
TEXT = Format(_RECORD_AS_TEXT, _rendered)
