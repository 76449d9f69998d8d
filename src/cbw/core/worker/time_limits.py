"""Tasks whose handlers have a time limit: which of them have exceeded it, and which of those are stuck.

A task that exceeds its limit is answered at once. Its handler is told to end, and holds its slot until it does; one that does not
end within :data:`UNWIND_S` is *stuck*.
"""

from __future__ import annotations

import math

UNWIND_S = 1.0
"""Seconds in which a handler that has exceeded its limit may end before it counts as stuck: a cancelled coroutine may have
something to close, and a child process takes some milliseconds to die."""


class TimeLimits:
    """The limits of one worker's tasks."""

    def __init__(self) -> None:
        self.were_used = False  # if so, no handler is to run in the thread that looks at the time
        self.exceeded = 0  # tasks that have taken longer than they may
        self.stuck: dict[int, None] = {}
        self._due_at: dict[int, float] = {}  # of tasks whose handlers run and have a limit
        self._stuck_at: dict[int, float] = {}  # of those that were answered, and are not stuck yet

    @property
    def is_used(self) -> bool:
        """Whether any handler with a limit runs."""
        return bool(self._due_at or self._stuck_at or self.stuck)

    @property
    def slots_held(self) -> int:
        """How many handlers run whose tasks were answered before."""
        return len(self._stuck_at) + len(self.stuck)

    @property
    def wake_at(self) -> float:
        """When the next limit is exceeded or the next handler is stuck; infinity: never."""
        return min((*self._due_at.values(), *self._stuck_at.values()), default=math.inf)

    def begun(self, task: int, due_at: float) -> None:
        """The handler of ``task`` runs, and may until ``due_at``."""
        self.were_used = True
        self._due_at[task] = due_at

    def ended(self, task: int) -> bool:
        """The handler of ``task`` has ended; whether its limit had been exceeded, so that it was answered before."""
        if self._due_at.pop(task, None) is not None:
            return False
        was_stuck = task in self.stuck
        self.stuck.pop(task, None)
        return self._stuck_at.pop(task, None) is not None or was_stuck

    def take_due(self, now: float) -> list[int]:
        """The tasks that have exceeded their limits, and are still to be answered."""
        due = [task for task, due_at in self._due_at.items() if due_at <= now]
        for task in due:
            del self._due_at[task]
        return due

    def answered(self, task: int, now: float) -> None:
        """``task`` has exceeded its limit and is answered; its handler was told to end."""
        self.exceeded += 1
        self.told_to_end(task, now)

    def told_to_end(self, task: int, now: float) -> None:
        """``task`` is answered, and its handler was told to end."""
        self._due_at.pop(task, None)
        self._stuck_at[task] = now + UNWIND_S

    def take_stuck(self, now: float) -> list[int]:
        """The tasks whose handlers have not ended in time, and count as stuck from now on."""
        late = [task for task, stuck_at in self._stuck_at.items() if stuck_at <= now]
        for task in late:
            del self._stuck_at[task]
            self.stuck[task] = None
        return late
