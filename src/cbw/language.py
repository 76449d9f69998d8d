"""The language in which the lab's roles speak to people: English, or Spanish if the environment says so.

``CBW_LANG`` decides, else what decides for other programs: ``LANGUAGE``, ``LC_ALL``, ``LC_MESSAGES``, ``LANG``. The messages are
in ``locale/es/LC_MESSAGES/cbw.po``; after a change of it, ``python -m supply.messages`` makes the file that is read here.

What a role prints itself is made by :func:`said`. Errors are made in English, wherever they are: so they stand in traces, in JSON
and in the exceptions of a user's program. The command line translates them by :func:`translated`, when it prints them.

What programs read stays as it is, in every language: the lines that say that a role has started (``serves clients on port``,
``works for``, ``logs to``), the demonstration worker's ``<id> begins <message>``, the client's ``<request> -> <answer>``, the
events of a trace, and JSON.
"""

from __future__ import annotations

import gettext
import os
import re
import string
import struct
from functools import cache
from pathlib import Path
from typing import Any

from cbw.settings import LANGUAGE

LOCALE = Path(__file__).with_name("locale")
TRANSLATED_CHARS_MAX = 4000
"""Longest text that is compared with the catalogue, in characters: five times our longest, with room for names and paths."""
TOLD = frozenset({"error", "reason", "text", "what", "advice"})
"""Fields of a message that are texts of ours themselves. Others are names, numbers and words of other programs."""
_SEAMS = ((re.compile(r"(?<=\.) "), " "), (re.compile("; "), "; "), (re.compile(": "), ": "))
"""Where a text that is in no catalogue may have been put together of several, and what is between them."""
_HEADER = struct.Struct("<5I")
_ENTRY = struct.Struct("<2I")


def said(message: str, **fields: Any) -> str:
    """``message`` in the language of the environment, with ``fields`` in the places that ``{name}`` marks."""
    return _messages(_language()).get(message, message).format(**fields)


def translated(text: str) -> str:
    """An English text, such as that of an error, in the language of the environment; unchanged if it is not in the catalogue.

    It is compared with the messages of the catalogue, whose fields stand for anything within a line. Of several that fit, the one
    with most words of its own is taken. A text that none fits is taken for several: sentences, or what ``;`` or ``:`` separates.
    """
    return text if len(text) > TRANSLATED_CHARS_MAX else _translated(text, _patterns(_language()))


def _language() -> str:
    return os.environ.get(LANGUAGE.environment, "")


_Pattern = tuple[re.Pattern[str], str]
"""What a message looks like, and its translation."""


def _translated(text: str, patterns: tuple[_Pattern, ...]) -> str:
    if not patterns:
        return text
    for pattern, translation in patterns:
        if found := pattern.fullmatch(text):
            fields = found.groupdict().items()
            return translation.format(
                **{name: _translated(value, patterns) if name in TOLD else value for name, value in fields}
            )
    for seam, between in _SEAMS:
        parts = seam.split(text, maxsplit=1)
        if len(parts) > 1:
            return between.join(_translated(part, patterns) for part in parts)
    return text


@cache
def _messages(language: str) -> dict[str, str]:
    """The translation of each message; empty: the language has no catalogue, as English."""
    path = gettext.find("cbw", str(LOCALE), [language] if language else None)
    return {} if path is None else read_messages(Path(path).read_bytes())


def read_messages(data: bytes) -> dict[str, str]:
    """The messages of a file that ``supply.messages`` has made, without its header.

    The format is that of GNU gettext, "The Format of GNU MO Files": the number of messages, and the places of two tables, each
    with the length and the place of every text. Python's own reader does not list what it has read.
    """
    _, _, count, *tables = _HEADER.unpack_from(data)

    def texts(table: int) -> list[str]:
        entries = _ENTRY.iter_unpack(data[table : table + count * _ENTRY.size])
        return [data[place : place + length].decode() for length, place in entries]

    found = dict(zip(*map(texts, tables), strict=True))
    found.pop("", None)
    return found


@cache
def _patterns(language: str) -> tuple[_Pattern, ...]:
    """Messages with most words of their own first."""
    by_length = sorted(_messages(language).items(), key=lambda item: -_own_chars(item[0]))
    return tuple((_pattern(message), translation) for message, translation in by_length)


def _own_chars(message: str) -> int:
    return sum(len(literal) for literal, *_ in string.Formatter().parse(message))


def _pattern(message: str) -> re.Pattern[str]:
    made, known = "", set[str]()
    for literal, name, *_ in string.Formatter().parse(message):
        made += re.escape(literal)
        if name is not None:
            made += f"(?P={name})" if name in known else f"(?P<{name}>.*?)"
            known.add(name)
    return re.compile(made)
