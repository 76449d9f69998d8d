"""What could act on a terminal, or hide, is shown; everything else stays as it is."""

from __future__ import annotations

import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.visible import visible, visible_bytes, visible_cell, visible_json, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ñ 漢 😀 a\tb \\x", "plain ñ 漢 😀 a\tb \\x"),
        ("\x1b[31m\x07\x7f", "\\u001b[31m\\u0007\\u007f"),
        ("\x9b31m", "\\u009b31m"),
        ("a\nb\r", "a\\nb\\r"),
        ("\u202eabc\u2066\u200b\ufeff", "\\u202eabc\\u2066\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible_cell(text) == shown.replace("\t", "\\t"), "a tab would begin another column"


def test_lines_keep_their_ends_also_those_of_dos() -> None:
    assert visible_lines("a\nb\r\nc\rd\x1b") == "a\nb\r\nc\\rd\\u001b"


def test_bytes_that_are_no_text_are_shown() -> None:
    assert visible_bytes(b"\xff\xc2\x9b\n") == "\\xff\\u009b\n"


@given(st.text())
def test_nothing_that_is_invisible_is_left(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not [one for one in shown if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs") and one != "\t"]
    assert not [
        one for one in shown if unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")
    ]
    assert visible(shown) == shown


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_means_the_same(value: object) -> None:
    try:
        line = msgspec.json.encode(value)
    except (ValueError, OverflowError):  # lone surrogates; integers that are too large
        return
    shown = visible_json(line)
    assert msgspec.json.decode(shown) == msgspec.json.decode(line)
    assert visible(shown.decode()) == shown.decode()


def test_json_of_ascii_is_not_copied() -> None:
    line = b'{"a":1}\n'
    assert visible_json(line) is line
