"""When a worker may start another child process after one that could not start."""

from __future__ import annotations

START_RETRY_S = 0.5
"""Seconds before the first try after a failure: to start a child takes most of a core for about 0.2 s."""
START_RETRY_MAX_S = 30.0
"""Longest time in seconds between two tries: what is amiss may be mended at any time, and to try costs little then."""


class ChildStarts:
    """When a child process may be started. As long as none becomes ready, one is tried at a time, after ever longer pauses."""

    def __init__(self) -> None:
        self._retry_s = 0.0  # 0: all is well
        self._next_at = 0.0
        self._is_news = True

    def failed(self, now: float) -> bool:
        """A child could not be started, or ended before it was ready; whether that is worth a line."""
        is_news, self._is_news = self._is_news, False
        if not self._retry_s:
            self._retry_s = START_RETRY_S
            self._next_at = now + START_RETRY_S
        return is_news

    def succeeded(self) -> None:
        """A child is ready."""
        self._retry_s, self._is_news = 0.0, True

    def take_turn(self, now: float) -> float:
        """Seconds until a child may be started. 0: start one now, on which all others wait."""
        if not self._retry_s:
            return 0.0
        if now < self._next_at:
            return self._next_at - now
        self._retry_s = min(2 * self._retry_s, START_RETRY_MAX_S)
        self._next_at = now + self._retry_s
        self._is_news = True
        return 0.0
