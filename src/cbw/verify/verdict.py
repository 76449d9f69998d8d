"""What a check of ``cbw verify`` finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from cbw.core.record import Record

EVIDENCE_MAX = 5
"""Most lines of evidence of one kind in a verdict, so that people can read it; the figures count every case."""

Figure = float | int | str | None


class Verdict(msgspec.Struct):
    """What a check found. ``figures`` are for programs (times in seconds), ``summary`` and ``evidence`` for people.

    ``figures["judged"]`` is the number of cases that were judged; a check without any has passed, and says so.
    """

    name: str
    passed: bool
    figures: dict[str, Figure]
    summary: str
    evidence: list[str] = []

    @property
    def result(self) -> str:
        """The verdict in a word: kept, broken, or not tried."""
        if not self.passed:
            return "broken"
        return "kept" if self.figures["judged"] else "not tried"


def longest(intervals: Iterable[tuple[float, float | None]]) -> float | None:
    """The longest of the (beginning, end) intervals that have ended, in seconds; None if none has."""
    return max((round(end - start, 6) for start, end in intervals if end is not None), default=None)


class Check(Protocol):
    """A check in progress."""

    def see(self, record: Record) -> None:
        """Take in the next record of the trace; records come in the order of time."""

    def verdict(self) -> Verdict:
        """Judge everything that has been seen."""
