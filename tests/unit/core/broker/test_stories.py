"""What is remembered of attempts that failed, and what that takes."""

from __future__ import annotations

import sys

import pytest

from cbw.core.broker.stories import bytes_of
from cbw.core.journal_records import FailedAttempt


@pytest.mark.parametrize("part", ["reason", "traceback"])
def test_texts_are_counted_at_what_the_widest_characters_take(part: str) -> None:
    text = "\N{FACTORY}" * 1000
    without, with_text = FailedAttempt("W1", 0.0, 1.0, ""), FailedAttempt("W1", 0.0, 1.0, **{"reason": "", part: text})
    counted = bytes_of([with_text]) - bytes_of([without])
    assert counted == sys.getsizeof(text) - sys.getsizeof("\N{FACTORY}") + 4


def test_each_attempt_is_counted() -> None:
    attempt = FailedAttempt("W1", 0.0, 1.0, "it crashed")
    assert bytes_of([attempt] * 3) == 3 * bytes_of([attempt])
