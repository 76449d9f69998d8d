"""Text of others, made safe to print: what would act on a terminal, or hide in a line, is shown as an escape.

Answers, errors, names and lines of the log come from anybody. A control character in them could colour, clear or retitle a
terminal; a newline could forge a line of its own; a mark of direction or of no width could make a name look like another.
"""

from __future__ import annotations

import re

_HIDDEN = (
    "\x7f-\x9f"  # DEL and the controls C1, of which U+009B begins a command as ESC [ does
    "\u00ad\u061c\u180e"  # soft hyphen, Arabic letter mark, Mongolian vowel separator
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # no width, direction, separators of lines
    "\ufff9-\ufffb\U000e0000-\U000e007f"  # annotations, tags
    "\ud800-\udfff"  # halves of characters, which no encoding can write
)
_UNSAFE = re.compile(f"[\x00-\x08\x0a-\x1f{_HIDDEN}]")
_UNSAFE_IN_LINES = re.compile(f"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f{_HIDDEN}]")
_SHORT = {"\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    """``text`` as one line: every control character but the tab, and all that cannot be seen, becomes an escape like \\u001b.

    The escapes are those of JSON too: a line of JSON means the same afterwards.
    """
    return _UNSAFE.sub(_escape, text)


def visible_cell(text: str) -> str:
    """``text`` as :func:`visible` makes it, and its tabs as \\t: for a column of a line that has tabs between its columns."""
    return visible(text).replace("\t", "\\t")


def visible_lines(text: str) -> str:
    """``text`` as :func:`visible` makes it, but with its newlines: for a text that may have several lines, also of DOS."""
    return _UNSAFE_IN_LINES.sub(_escape, text)


def writable(text: str) -> str:
    """``text`` as UTF-8 can hold it: halves of characters, as in the names of files that are no UTF-8, become escapes."""
    return text.encode(errors="backslashreplace").decode()


def visible_bytes(data: bytes) -> str:
    """``data`` as :func:`visible_lines` makes its text; bytes that are no UTF-8 become escapes like \\x9b."""
    return visible_lines(data.decode(errors="backslashreplace"))


def visible_json(line: bytes) -> bytes:
    """A text of JSON, with its newlines, that means the same and can be printed. One of plain ASCII costs nothing."""
    if line.isascii() and b"\x7f" not in line:
        return line
    return visible_lines(line.decode(errors="backslashreplace")).encode()


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SHORT:
        return _SHORT[character]
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[at : at + 2].hex()}" for at in range(0, len(halves), 2))
