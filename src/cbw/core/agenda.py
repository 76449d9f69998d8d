"""When things are due: the timers of a core, and the one time at which it wants to be called again."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

Action = Callable[[float], None]
"""What a timer does when it is due; it is given the time."""


class Timer:
    """Something that is to be done once, at ``at`` (monotonic seconds; infinity: not at all). :meth:`Agenda.timer` makes it."""

    __slots__ = ("_agenda", "_entry_at", "action", "at")

    def __init__(self, agenda: Agenda, action: Action) -> None:
        self.at = math.inf
        self.action = action
        self._agenda = agenda
        self._entry_at = (
            math.inf
        )  # of its entry in the agenda: never later than ``at``, so moving it back costs nothing

    @property
    def is_set(self) -> bool:
        """Whether anything is to be done."""
        return self.at < math.inf

    def set(self, at: float) -> None:
        """Do it at ``at`` and at no other time."""
        self.at = at
        if at < self._entry_at:
            self._entry_at = at
            self._agenda.enter(self, at)

    def set_by(self, at: float) -> None:
        """Do it at ``at``, or earlier if that was planned."""
        if at < self.at:
            self.set(at)

    def clear(self) -> None:
        """Do not do it."""
        self.at = math.inf

    def next_entry(self, entry_at: float) -> float | None:
        """When the agenda, at its entry for ``entry_at``, is to look again; None: another entry does that."""
        if entry_at != self._entry_at:
            return None
        self._entry_at = self.at
        return self.at

    def take(self) -> None:
        """Note that the timer is due, and has no entry in the agenda any more."""
        self.at = self._entry_at = math.inf


class Agenda:
    """The timers of one core. Whoever needs a timer makes it where it is used; nobody lists them."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Timer]] = []  # a heap
        self._number = 0

    def timer(self, action: Action) -> Timer:
        """A timer that is not set."""
        return Timer(self, action)

    def enter(self, timer: Timer, at: float) -> None:
        """Look at ``timer`` at ``at``."""
        self._number += 1
        heapq.heappush(self._entries, (at, self._number, timer))

    @property
    def wake_at(self) -> float:
        """When the first timer is due; infinity if none is set."""
        entries = self._entries
        while entries:
            entry_at, _, timer = entries[0]
            if timer.at == entry_at:  # the usual case
                return entry_at
            at = timer.next_entry(entry_at)
            heapq.heappop(entries)
            if at is not None and at < math.inf:
                self.enter(timer, at)
        return math.inf

    def run(self, now: float) -> None:
        """Do what is due by ``now``, the earliest first; a timer that is set again meanwhile waits for the next call."""
        if not self._entries or self._entries[0][0] > now:  # no timer is due before its entry
            return
        due: list[Timer] = []
        while self.wake_at <= now:
            timer = heapq.heappop(self._entries)[2]
            timer.take()
            due.append(timer)
        for timer in due:
            timer.action(now)
