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
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cbw.settings import LANGUAGE

LOCALE = Path(__file__).with_name("locale")
TRANSLATED_CHARS_MAX = 1000
"""Longest text that is compared with the catalogue, in characters: three times our longest, with room for names and paths."""
TOLD_TOGETHER_MAX = 40
"""Parts that a text is taken for at most, ten times as many as ours have; each is one more call within the one before."""
KNOWN_MAX = 1024
"""Texts whose translation is kept: one of a peer that looks like many of ours would otherwise be taken apart again and again."""
TOLD = frozenset({"error", "reason", "text", "what", "advice"})
"""Fields of a message that are texts of ours themselves. Others are names, numbers and words of other programs."""
WORDS_OF_FIELDS = {"role": ("broker", "worker", "client"), "harm": ("killed", "frozen", "cut off", "restarted")}
"""Words that are translated in a field of that name, which is their context. Elsewhere a service or a file may be called so."""
_CONTEXT_END = "\4"
"""Between a context and its message, as in GNU gettext."""
_SEAMS = ((re.compile(r"(?<=\.) "), " "), (re.compile("; "), "; "), (re.compile(": "), ": "))
"""Where a text that is in no catalogue may have been put together of several, and what is between them."""
_HEADER = struct.Struct("<5I")
_ENTRY = struct.Struct("<2I")


def said(message: str, **fields: Any) -> str:
    """``message`` in the language of the environment, with ``fields`` in the places that ``{name}`` marks."""
    return _messages(_language()).get(message, message).format(**fields)


def said_of(count: int, one: str, several: str, **fields: Any) -> str:
    """``one`` if ``count`` is 1, otherwise ``several``, in the language of the environment, as :func:`said` does it."""
    message = one if count == 1 else several
    return _messages(_language()).get(message, message).format(count=count, **fields)


def translated(text: str, language: str | None = None) -> str:
    """An English text, such as that of an error, in ``language`` (``es``), by default that of the environment; unchanged if it is
    not in the catalogue.

    It is compared with the messages of the catalogue, whose fields stand for anything within a line. Of several that fit, the one
    that leaves least as it is is taken. A text that none fits is taken for several: sentences, or what ``;`` or ``:`` separates.
    """
    is_anothers = (
        len(text) > TRANSLATED_CHARS_MAX or sum(len(seam.findall(text)) for seam, _ in _SEAMS) > TOLD_TOGETHER_MAX
    )
    return text if is_anothers else _translated(text, _language() if language is None else language)[1]


def word(text: str, context: str) -> str:
    """A word or a sentence of ours that stands alone, in the language of the environment: the heading of a column, a state.

    Its translation is one for this ``context``, such as ``table``, and :func:`translated` does not know it: names of peers may be
    the same words.
    """
    return _messages(_language()).get(f"{context}{_CONTEXT_END}{text}", text)


def _language() -> str:
    return os.environ.get(LANGUAGE.environment, "")


class _Pattern(NamedTuple):
    """A message to find texts with: what stands around its fields, and its translation."""

    message: str
    literals: tuple[str, ...]
    translation: str

    def fields_of(self, text: str) -> dict[str, str] | None:
        """What ``text`` tells in the fields of the message; None: it is another text."""
        if not (text.startswith(self.literals[0]) and all(literal in text for literal in self.literals)):
            return None  # without having made an expression of it, which takes longer
        found = _expression(self.message).fullmatch(text)
        return None if found is None else found.groupdict()


@lru_cache(KNOWN_MAX)
def _translated(text: str, language: str) -> tuple[int, str]:
    """The translation, and how many characters of ``text`` stay as they are in it."""
    fitting = [(one, fields) for one in _patterns(language) if (fields := one.fields_of(text)) is not None]
    if whole := [one for one in fitting if not _has_seam(one[1])]:
        return min(_told(*one, language) for one in whole)
    for seam, between in _SEAMS:
        parts = seam.split(text, maxsplit=1)
        if len(parts) > 1:
            made = [_translated(part, language) for part in parts]
            kept = sum(count for count, _ in made)
            if kept < sum(map(len, parts)):
                return kept, between.join(part for _, part in made)
            break  # one kind of seam is tried: with all of them, a long text would take exponential time
    return min((_told(*one, language) for one in fitting), default=(len(text), text))


def _told(pattern: _Pattern, fields: dict[str, str], language: str) -> tuple[int, str]:
    told = {name: _told_field(name, value, language) for name, value in fields.items()}
    made = pattern.translation.format(**{name: value for name, (_, value) in told.items()})
    return sum(count for count, _ in told.values()), made


def _told_field(name: str, value: str, language: str) -> tuple[int, str]:
    """What a field tells, and how many characters of it stay as they are."""
    if value in WORDS_OF_FIELDS.get(name, ()):
        return 0, word(value, name)
    return _translated(value, language) if name in TOLD else (len(value), value)


def _has_seam(fields: dict[str, str]) -> bool:
    """Whether one of the names and numbers in ``fields`` may be a text of ours with the beginning of the next."""
    return any(seam.search(value) for name, value in fields.items() if name not in TOLD for seam, _ in _SEAMS)


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
    return tuple(
        _Pattern(message, tuple(literal for literal, *_ in string.Formatter().parse(message)), translation)
        for message, translation in _messages(language).items()
        if _CONTEXT_END not in message
    )


@cache
def _expression(message: str) -> re.Pattern[str]:
    made, known = "", set[str]()
    for literal, name, *_ in string.Formatter().parse(message):
        made += re.escape(literal)
        if name is not None:
            made += f"(?P={name})" if name in known else f"(?P<{name}>.*?)"
            known.add(name)
    return re.compile(made)
