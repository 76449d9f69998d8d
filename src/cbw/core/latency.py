"""How long requests took, counted in a few steps: exact counts, cheap to add to, quantiles good to a third of their value."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

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
"""100 µs to 100 s, three steps a decade; beyond it there is one more."""


class Latencies:
    """``counts[i]`` requests took up to ``BOUNDS_S[i]`` seconds, and more than the bound before."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: list[float]) -> None:
        """Count all of ``seconds``, which is sorted thereby: a batch costs little more than one."""
        seconds.sort()
        self.total_s += sum(seconds)
        counts = self.counts
        step = bisect_left(BOUNDS_S, seconds[0])
        low = 0
        while low < len(seconds):
            high = bisect_right(seconds, BOUNDS_S[step], low) if step < len(BOUNDS_S) else len(seconds)
            counts[step] += high - low
            low = high
            step += 1


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The latency that ``share`` of the requests did not exceed, interpolated within its step; None if there were none."""
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
