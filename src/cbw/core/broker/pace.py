"""When a client that was refused because the broker is full should come back.

The rate at which requests have ended lately says when there is room. Whoever is refused is given the next free place in a
schedule of that rate, so that all who were refused at once do not come back at once. Nobody is held to it: a place that is
not taken is used by whoever comes.
"""

from __future__ import annotations

PACE_SAMPLE_S = 0.5
"""Shortest time in seconds between two samples. The rate is that of the last one to two of these."""
SAMPLE_AGE_MAX_S = 2.0
"""A sample that is older, in seconds, says nothing about the present load: nobody has asked for anything meanwhile."""
USUAL_S = 0.001
"""Time in seconds from one end to the next, as long as nothing was measured: one worker with small requests does that."""
RETRY_MIN_S = 0.05
"""Shortest hint in seconds: some round trips, and less than anybody notices."""
RETRY_MAX_S = 10.0
"""Longest hint in seconds, also while nothing ends at all: a fault may be over at any time."""


class Pace:
    """Measures how fast requests end. ``ended`` is how many have ended so far, ``now`` in monotonic seconds.

    :meth:`sample` is wanted whenever requests arrive and ``sample_at`` has come.
    """

    __slots__ = ("_before", "_last", "_next_free_at", "_usual_s", "sample_at")

    def __init__(self) -> None:
        self.sample_at = 0.0
        self._last = self._before = (0.0, 0)  # time, how many had ended
        self._usual_s = USUAL_S  # from one end to the next, when that was last measured
        self._next_free_at = 0.0  # when the first place in the schedule is free

    def sample(self, ended: int, now: float) -> None:
        """Note where things stand."""
        since, ended_then = self._last
        is_fresh = now - since <= SAMPLE_AGE_MAX_S
        if is_fresh and ended > ended_then:
            self._usual_s = (now - since) / (ended - ended_then)
        self._before = self._last if is_fresh else (now, ended)
        self._last = (now, ended)
        self.sample_at = now + PACE_SAMPLE_S

    def retry_after_s(self, ended: int, excess: float, now: float) -> float:
        """The seconds after which a refused request should come back, if ``excess`` requests have to end before there is room."""
        since, ended_then = self._before
        is_measured = now - since >= PACE_SAMPLE_S
        one_s = (now - since) / max(1, ended - ended_then) if is_measured else self._usual_s
        self._next_free_at = max(self._next_free_at, now + (excess - 1) * one_s) + one_s
        self._next_free_at = min(self._next_free_at, now + RETRY_MAX_S)
        return max(self._next_free_at - now, RETRY_MIN_S)
