"""Which of a sender's numbered records a log holds, in memory that grows with the gaps and not with the records."""

from __future__ import annotations

import math
from bisect import bisect_right


class Numbers:
    """The sequence numbers of one start of ``sender``, told in any order. ``count`` are there, ``twice`` came once more."""

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.count = 0
        self.twice = 0
        self._first = 0
        self._last = 0
        # In order: the first and the last of numbers that are missing in between.
        self._gaps: list[tuple[int, int]] = []

    def add(self, number: int) -> None:
        """Count one more record, its number from 1 on."""
        if not self.count:
            self._first = self._last = number
        elif number > self._last:
            if number > self._last + 1:
                self._gaps.append((self._last + 1, number - 1))
            self._last = number
        elif number < self._first:
            if number < self._first - 1:
                self._gaps.insert(0, (number + 1, self._first - 1))
            self._first = number
        elif not self._fill(number):
            self.twice += 1
            return
        self.count += 1

    @property
    def missing(self) -> int:
        """Numbers between the first and the last that are not there."""
        return self._last - self._first + 1 - self.count if self.count else 0

    @property
    def is_whole(self) -> bool:
        """Whether every number from 1 to the last is there."""
        return self._first == 1 and not self._gaps

    def _fill(self, number: int) -> bool:
        place = bisect_right(self._gaps, (number, math.inf)) - 1
        if place < 0 or number > self._gaps[place][1]:
            return False
        first, last = self._gaps[place]
        self._gaps[place : place + 1] = [
            (low, high) for low, high in ((first, number - 1), (number + 1, last)) if low <= high
        ]
        return True
