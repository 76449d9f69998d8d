"""Records as lines of JSON, whatever is in them.

Every record of a role can be written as it is. The records of a user's program (:class:`cbw.LogHandler`) may hold values that
JSON cannot express, text that is not valid Unicode (a file name, for example), or megabytes. Such values are replaced by the
beginning of their printed form. A record cannot be left out: its number would be missing, and all later records would wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cbw.core.record import Record
from cbw.visible import writable

LINE_BYTES_MAX = 1 << 20
"""Largest line of a record, in bytes, and largest line of text that the logger accepts: more than any person reads."""
TEXT_CHARS_MAX = 80_000
"""Characters that are kept of a text which does not fit. Each takes up to six bytes in JSON: two such texts fit into a line."""
STRING_CHARS_MAX = 1000
"""Characters that are kept of any other string which does not fit: names and ids."""
FIELDS_BYTES_MAX = 1 << 18
"""Size up to which all fields of a record together are kept, in bytes of JSON: a quarter of a line."""

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for values that JSON cannot express, text that is not valid Unicode, integers of more than 64 bits, and
objects that contain themselves."""


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
    """``value`` as JSON; None if JSON cannot express it in ``bytes_max`` bytes."""
    try:
        encoded = _encode(value)
    except _UNFIT:
        return None
    return encoded if len(encoded) <= bytes_max else None


def _fitting(record: Record) -> Record:
    """A copy of ``record`` in which everything fits."""
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
    """The beginning of ``value`` if it is text, otherwise of its printed form."""
    text = value if isinstance(value, str) else repr(value)
    text = writable(text)
    return text if len(text) <= chars_max else f"{text[:chars_max]}… ({len(text)} characters)"
