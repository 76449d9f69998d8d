"""What a check of ``cbw verify`` finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from cbw.core.events import Record

EVIDENCE_MAX = 5
"""Lines of evidence that a verdict carries; the figures count all."""

Figure = float | int | str | None


class Verdict(msgspec.Struct):
    """What a check found. ``figures`` are for programs (times in seconds), ``summary`` and ``evidence`` for people.

    ``figures["judged"]`` is how many cases there were; a check without any has passed, and says so.
    """

    name: str
    passed: bool
    figures: dict[str, Figure]
    summary: str
    evidence: list[str] = []

    @property
    def result(self) -> str:
        """In a word: kept, broken, or not tried."""
        if not self.passed:
            return "broken"
        return "kept" if self.figures["judged"] else "not tried"


def longest(intervals: Iterable[tuple[float, float | None]]) -> float | None:
    """Seconds, from (beginning, end), of those that ended; None if none did."""
    return max((round(end - start, 6) for start, end in intervals if end is not None), default=None)


class Check(Protocol):
    """A check in progress."""

    def see(self, record: Record) -> None:
        """The next record of the trace, in the order of time."""

    def verdict(self) -> Verdict:
        """What was found in all of them."""
