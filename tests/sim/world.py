"""Simulated time, chance, and the story of a run."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

STORY_LINES = 60
"""Last lines that are shown with a failure."""
BEAT_S = 1.0
"""After a freeze or a partition it takes peers so long to find out what they have missed."""
SPIN_TURNS = 2000
"""A process that takes so many turns one after the other, each because time was up and none with news, spins."""


class ViolationError(AssertionError):
    """A promise was broken."""


class World:
    """A heap of things to come, the clock that they move, and one source of chance for everything."""

    def __init__(self, seed: int, *, is_verbose: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = 0.0
        self.is_verbose = is_verbose
        self.story: deque[str] = deque(maxlen=STORY_LINES)
        self.counts: Counter[str] = Counter()
        self._hash = hashlib.blake2b(digest_size=16)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def say(self, who: str, text: str) -> None:
        """One line of the story. All lines together make the run's :attr:`digest`."""
        line = f"{self.now:11.6f}  {who:<12} {text}"
        self._hash.update(line.encode())
        self.story.append(line)
        if self.is_verbose:
            print(line)

    @property
    def digest(self) -> str:
        """Equal for two runs that went the same way."""
        return self._hash.hexdigest()

    def at(self, time: float, action: Callable[..., None], *args: Any) -> None:
        """Do ``action`` at ``time``. What is due at the same time happens in the order in which it was asked for."""
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, action, args))

    def after(self, delay_s: float, action: Callable[..., None], *args: Any) -> None:
        """Do ``action`` in ``delay_s`` seconds."""
        self.at(self.now + delay_s, action, *args)

    def run(self, until: float, is_over: Callable[[], bool] | None = None) -> bool:
        """Let time pass until ``until``, or until ``is_over``; whether it was over."""
        heap = self._heap
        steps = 0
        while heap and heap[0][0] <= until:
            time, _, action, args = heapq.heappop(heap)
            self.now = time
            action(*args)
            steps += 1
            if is_over is not None and steps % 8 == 0 and is_over():
                return True
        self.now = max(self.now, until)
        return is_over is not None and is_over()

    def chance(self, probability: float) -> bool:
        """True so often."""
        return self.rng.random() < probability

    def between(self, low: float, high: float) -> float:
        """Any time between the two."""
        return low + (high - low) * self.rng.random()


class Process:
    """Something with a main loop: it takes a turn when there is news for it or its time has come.

    A frozen process takes no turns; a dead one never again.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = False
        self.frozen_until = 0.0
        self.stopped_until = 0.0
        self.settled_at = 0.0
        """Since when nothing has disturbed it: no freeze, no partition, no new connection."""
        self._turn_at: float | None = None
        self._turn_number = 0
        self._idle_turns = 0

    @property
    def is_frozen(self) -> bool:
        """Whether it does nothing for now."""
        return self.world.now < self.frozen_until

    def disturbed(self, until: float | None = None) -> None:
        """It cannot be expected to do its best before ``until``."""
        self.settled_at = max(self.settled_at, self.world.now if until is None else until)

    def freeze(self, seconds: float, *, is_whole: bool = False) -> None:
        """It does nothing for so long. ``is_whole``: libzmq's thread in it neither, as after SIGSTOP."""
        if is_whole:
            self.stopped_until = max(self.stopped_until, self.world.now + seconds)
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)
        self.disturbed(self.frozen_until + BEAT_S)
        self.wake()

    def thaw(self) -> None:
        """It goes on at once."""
        if self.is_frozen:
            self.frozen_until = self.stopped_until = self.world.now
            self.settled_at = self.world.now + BEAT_S
            self.wake()

    def wake(self) -> None:
        """There is news."""
        self._idle_turns = 0
        self._turn_by(self.world.now + self.world.between(0, 0.0003))

    def turn(self) -> None:
        """One time around the main loop."""
        raise NotImplementedError

    @property
    def wake_at(self) -> float:
        """When it wants its next turn even without news; infinity: never."""
        raise NotImplementedError

    def start_turns(self) -> None:
        """It lives from now on."""
        self.is_alive = True
        self.frozen_until = self.stopped_until = 0.0
        self._turn_number += 1
        self._turn_at = None
        self.settled_at = self.world.now
        self.wake()

    def end_turns(self) -> None:
        """It is dead."""
        self.is_alive = False
        self._turn_number += 1
        self._turn_at = None

    def _turn_by(self, at: float) -> None:
        if not self.is_alive:
            return
        at = max(at, self.frozen_until)
        if self._turn_at is None or at < self._turn_at:
            self._turn_at = at
            self._turn_number += 1
            self.world.at(at, self._take_turn, self._turn_number)

    def _take_turn(self, number: int) -> None:
        if number != self._turn_number or not self.is_alive:
            return
        self._turn_at = None
        if self.is_frozen:
            self._turn_by(self.frozen_until)
            return
        self.turn()
        wake_at = self.wake_at if self.is_alive else math.inf
        if wake_at < math.inf:
            self._idle_turns = self._idle_turns + 1 if wake_at <= self.world.now else 0
            if self._idle_turns > SPIN_TURNS:
                raise ViolationError(f"{self.name} spins: it wants to be woken at {wake_at}")
            self._turn_by(max(wake_at, self.world.now) + self.world.between(0.0001, 0.001))  # as coarse as poll()
