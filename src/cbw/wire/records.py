"""Records as lines of JSON, whatever is in them.

A role's own records always have a line. Those of a user's program (:class:`cbw.LogHandler`) may hold what JSON has no form
for, text that is no UTF-8 (the name of a file, for example), or megabytes: such a record is written with as much of how
that is printed as fits, as one record that has no line would keep back all that come after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cbw.core.events import Record

LINE_BYTES_MAX = 1 << 20
"""No line of a record is longer; the logger takes no longer line of text either."""
TEXT_CHARS_MAX = 80_000
"""Of what does not fit so much is kept: a character takes up to six bytes in JSON, so two such parts go into a line."""
STRING_CHARS_MAX = 1000
"""And so much of everything else, names and ids."""
FIELDS_BYTES_MAX = 1 << 18
"""And fields up to this size together."""

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for a value without a form, a text that is no UTF-8, an integer of more than 64 bits, a loop."""


def lines_of(records: Sequence[Record]) -> bytes:
    """A line of JSON for each of ``records``, none longer than :data:`LINE_BYTES_MAX`."""
    try:
        lines = _encode_lines(records)
    except _UNFIT:
        return b"".join(_line_of(record) for record in records)
    if len(lines) > LINE_BYTES_MAX and max(map(len, lines.splitlines())) > LINE_BYTES_MAX:
        return b"".join(_line_of(record) for record in records)
    return lines


def _line_of(record: Record) -> bytes:
    line = _encoded(record, LINE_BYTES_MAX)
    return (_encode(_fitting(record)) if line is None else line) + b"\n"


def _encoded(value: Any, bytes_max: int) -> bytes | None:
    """``value`` as JSON; None if that is not possible, or longer."""
    try:
        encoded = _encode(value)
    except _UNFIT:
        return None
    return encoded if len(encoded) <= bytes_max else None


def _fitting(record: Record) -> Record:
    """``record``, of which everything fits."""
    fitting = msgspec.structs.replace(record)
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if isinstance(value, str):
            setattr(fitting, name, _printed(value, TEXT_CHARS_MAX if name == "text" else STRING_CHARS_MAX))
    if record.fields is not None:
        fields = {
            _printed(name, STRING_CHARS_MAX): value
            if _encoded(value, FIELDS_BYTES_MAX) is not None
            else _printed(value, TEXT_CHARS_MAX // 2)
            for name, value in record.fields.items()
        }
        is_small = _encoded(fields, FIELDS_BYTES_MAX) is not None
        fitting.fields = fields if is_small else {"fields": _printed(record.fields, TEXT_CHARS_MAX // 2)}
    return fitting


def _printed(value: Any, chars_max: int) -> str:
    """The beginning of how ``value`` is printed; of a text, of itself."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= chars_max else f"{text[:chars_max]}… ({len(text)} characters)"
