"""Child processes of simulated workers: some cannot start for a while, and are tried again, each time after twice the time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cbw.core.worker.child_starts import START_RETRY_MAX_S, START_RETRY_S, ChildStarts

from .world import ViolationError, World

CHILD_START_S = 0.3
"""Longest time in seconds that a child takes to start, or to find out that it cannot."""
SHARE = 0.5
"""In so many runs some children cannot start."""
FAILURES = (0, 0, 0, 1, 2)
"""How often a child cannot start before one can, in these runs."""
EXACTNESS_S = 1e-6


class Children:
    """Starts a child of the worker ``who`` after another, as a :class:`~cbw.worker.processes.ProcessPool` of one does, and says
    when it has ``started``. Which of them cannot start is drawn by a chance of its own.
    """

    def __init__(self, world: World, who: str, started: Callable[[], None]) -> None:
        self._world = world
        self._may_fail = Random(f"children {world.seed}").random() < SHARE
        self._rng = Random(f"children {world.seed} {who}")
        self._starts = ChildStarts()
        self._started = started
        self._left = 0  # failures that are still to come
        self._wait_s = 0.0  # that is owed since
        self._since = 0.0

    def start(self) -> None:
        """The last one has ended."""
        self._left = self._rng.choice(FAILURES) if self._may_fail else 0
        self._wait_s, self._since = 0.0, self._world.now
        self._try()

    def _try(self) -> None:
        now = self._world.now
        if wait_s := self._starts.take_turn(now):
            self._world.after(wait_s, self._try)
            return
        early_s = self._since + self._wait_s - now
        _need(abs(early_s) < EXACTNESS_S, f"a child is started {early_s:.3f} s too early")
        if self._wait_s:  # from now on the time counts from try to try
            self._wait_s, self._since = min(2 * self._wait_s, START_RETRY_MAX_S), now
        self._world.after(self._world.between(0.05, CHILD_START_S), self._end)

    def _end(self) -> None:
        if not self._left:
            self._starts.succeeded()
            self._started()
            return
        self._left -= 1
        _need(self._starts.failed(self._world.now), "nobody is told that a child could not start")
        if not self._wait_s:
            self._wait_s, self._since = START_RETRY_S, self._world.now
        self._try()


def _need(is_kept: bool, text: str) -> None:
    if not is_kept:
        raise ViolationError(f"children: {text}")
