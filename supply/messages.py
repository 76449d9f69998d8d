"""Makes of the catalogue of messages (``.po``) the file that gettext reads (``.mo``): ``python -m supply.messages``.

Only what our catalogue has is understood: ``msgctxt``, ``msgid`` and ``msgstr`` of one or several quoted lines each, and
comments. The same catalogue always gives the same bytes.
"""

from __future__ import annotations

import ast
import struct
import sys
from pathlib import Path

CATALOGUE = Path(__file__).parents[1] / "src" / "cbw" / "locale" / "es" / "LC_MESSAGES" / "cbw.po"
_MAGIC = 0x950412DE
_HEADER = struct.Struct("<7I")
_ENTRY = struct.Struct("<2I")


def read_catalogue(text: str) -> dict[str, str]:
    """The translation of each message; that of the empty one is the header. A context stands before its message, as in the file
    that is made: with the character 4 between them.

    Raises:
        ValueError: a line that is not understood, or a message that is there twice.
    """
    found: dict[str, str] = {}
    parts = {"msgctxt": "", "msgid": "", "msgstr": ""}
    place = ""
    for line in [*text.splitlines(), 'msgid ""']:
        word, _, quoted = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith('"'):
            quoted = line
        elif word in parts:
            if place == "msgstr" and word != "msgstr":
                message = "\4".join(filter(None, (parts["msgctxt"], parts["msgid"])))
                if message in found:
                    raise ValueError(f"twice: {message!r}")
                found[message] = parts["msgstr"]
                parts["msgctxt"] = ""
            place, parts[word] = word, ""
        else:
            raise ValueError(f"not understood: {line!r}")
        parts[place] += str(ast.literal_eval(quoted))
    return found


def compiled(messages: dict[str, str]) -> bytes:
    """The ``.mo`` file: sorted messages, their translations, and where each lies."""
    originals = sorted(message.encode() for message in messages)
    translations = [messages[original.decode()].encode() for original in originals]
    count = len(originals)
    place = _HEADER.size + 2 * count * _ENTRY.size
    tables, texts = b"", b""
    for text in (*originals, *translations):
        tables += _ENTRY.pack(len(text), place + len(texts))
        texts += text + b"\0"
    second = _HEADER.size + count * _ENTRY.size
    return _HEADER.pack(_MAGIC, 0, count, _HEADER.size, second, 0, place) + tables + texts


def main() -> None:
    """Write the file beside the catalogue."""
    made = CATALOGUE.with_suffix(".mo")
    made.write_bytes(compiled(read_catalogue(CATALOGUE.read_text(encoding="utf-8"))))
    print(f"wrote {made}", file=sys.stderr)


if __name__ == "__main__":
    main()
