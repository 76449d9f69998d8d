"""Coroutines in simulated time: they wait with :func:`pause`, and stand still with their process."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any

from .world import Process, World

LOOK_S = 0.25
"""A coroutine whose process is stopped looks so often whether it goes on."""


class _Pause:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator[_Pause, None, None]:
        yield self


async def pause(seconds: float) -> None:
    """Let so much time pass."""
    await _Pause(seconds)


class Running:
    """``work`` in a thread of ``process``, to its end or until :meth:`cancel`."""

    def __init__(self, world: World, process: Process, work: Coroutine[Any, Any, None]) -> None:
        self._world = world
        self._process = process
        self._work: Coroutine[Any, Any, None] | None = work
        world.after(0.0, self._go_on)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._work is None

    def cancel(self) -> None:
        """It does nothing more, and does not notice."""
        work, self._work = self._work, None
        if work is not None:
            work.close()

    def _go_on(self) -> None:
        if self._work is None:
            return
        if self._world.now < self._process.stopped_until:
            left_s = self._process.stopped_until - self._world.now
            self._world.after(min(LOOK_S, left_s), self._go_on)
            return
        try:
            waits: _Pause = self._work.send(None)
        except StopIteration:
            self._work = None
        else:
            self._world.after(waits.seconds, self._go_on)
