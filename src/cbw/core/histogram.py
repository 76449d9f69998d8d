"""How often each value occurred, in little memory, and quantiles of that.

:class:`Histogram` counts rounded values: its quantiles are as good as the rounding, for reports. :class:`Latencies` counts in a
few fixed buckets, as Prometheus wants them: cheap enough for every request of a broker, and good to a third of a value.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

BOUNDS_S = (
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
)
"""Upper bounds of the buckets: 100 µs to 100 s, three a decade. Beyond the last there is one more bucket."""
TIMED_SERVICES_MAX = 50
"""Services that have histograms of their own, of 20 steps each: two for each of them are 200 kB of a scrape."""
_DIGITS = 2
"""Digits kept behind the first one of a value: quantiles are exact to 1 %."""


class Histogram:
    """Counts of values, each rounded by ``rounded``. ``count``, ``total`` and ``longest`` are of the exact ones."""

    def __init__(self, rounded: Callable[[float], float]) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._rounded = rounded
        self._counts: Counter[float] = Counter()

    def add(self, value: float, count: int = 1) -> None:
        """Count ``value``, ``count`` times."""
        self.count += count
        self.total += value * count
        self.longest = max(self.longest, value)
        self._counts[self._rounded(value)] += count

    def quantile(self, share: float, of: int | None = None) -> float | None:
        """The smallest value that at least ``share`` of the counted ones do not exceed; None if there are none.

        If they are only a part ``of`` so many, the others count as 0.
        """
        if not self.count:
            return None
        left = share * self.count if of is None else share * of - (of - self.count)
        for value, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return min(value, self.longest)
        return self.longest


def to_percent(value: float) -> float:
    """``value`` rounded to 1 %."""
    return round(value, _DIGITS - math.floor(math.log10(value)) if value > 0 else 6)


def exactly(value: float) -> float:
    """``value`` as it is: for few values."""
    return value


class Latencies:
    """``counts[i]`` requests took up to ``BOUNDS_S[i]`` seconds, and more than the bound before. The quickest of all took
    ``least_s``, the slowest ``most_s``."""

    __slots__ = ("counts", "least_s", "most_s", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0
        self.least_s, self.most_s = math.inf, 0.0

    def merge(self, other: Latencies) -> None:
        """Count all that ``other`` has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total_s += other.total_s
        self.least_s, self.most_s = min(self.least_s, other.least_s), max(self.most_s, other.most_s)

    def add(self, seconds: list[float]) -> None:
        """Count all of ``seconds``, which is sorted thereby: a batch costs little more than one."""
        seconds.sort()
        self.total_s += sum(seconds)
        self.least_s, self.most_s = min(self.least_s, seconds[0]), max(self.most_s, seconds[-1])
        counts = self.counts
        step = bisect_left(BOUNDS_S, seconds[0])
        low = 0
        while low < len(seconds):
            high = bisect_right(seconds, BOUNDS_S[step], low) if step < len(BOUNDS_S) else len(seconds)
            counts[step] += high - low
            low = high
            step += 1


class RecentLatencies:
    """Buckets as those of :class:`Latencies`, in which what came lately weighs most: after each ``half_life`` requests, those
    before them count half. ``least_s`` and ``most_s`` are of all."""

    __slots__ = ("_half_life", "_until_half", "counts", "least_s", "most_s")

    def __init__(self, half_life: int) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.least_s, self.most_s = math.inf, 0.0
        self._half_life = self._until_half = half_life

    def add(self, seconds: float) -> None:
        """Count a request that took so long."""
        self._until_half -= 1
        if self._until_half < 0:
            self._until_half = self._half_life
            self.counts = [count // 2 for count in self.counts]
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        if seconds < self.least_s:
            self.least_s = seconds
        if seconds > self.most_s:
            self.most_s = seconds


def quantile_of(seen: Latencies | RecentLatencies, share: float, counts: Sequence[int] | None = None) -> float | None:
    """The seconds that ``share`` of what was ``seen``, or of those ``counts`` of it, did not exceed; None: there was nothing.

    As exact as the buckets are, and never more or less than what was seen.
    """
    found = bucket_quantile(seen.counts if counts is None else counts, share)
    return None if found is None else max(min(found, seen.most_s), seen.least_s)


def bucket_quantile(counts: Sequence[int], share: float) -> float | None:
    """The latency that ``share`` of the requests counted in buckets did not exceed, interpolated; None if there were none."""
    left = share * sum(counts)
    if left <= 0:
        return None
    low = 0.0
    for count, high in zip(counts, BOUNDS_S, strict=False):
        if count and left <= count:
            return low + (high - low) * left / count
        left -= count
        low = high
    return low
