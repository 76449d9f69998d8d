"""Coroutines in simulated time: they wait with :func:`pause`, and stand still with their process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
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
    """What ``begin`` makes, in a thread of ``process``, to its end or until :meth:`cancel`. A world may end before it begins."""

    def __init__(self, world: World, process: Process, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.is_over = False
        self._world = world
        self._process = process
        self._begin = begin
        self._work: Coroutine[Any, Any, None] | None = None
        world.after(0.0, self._go_on)

    def cancel(self) -> None:
        """It does nothing more, and does not notice."""
        self.is_over = True
        if self._work is not None:
            self._work.close()

    def _go_on(self) -> None:
        if self.is_over:
            return
        if self._world.now < self._process.stopped_until:
            left_s = self._process.stopped_until - self._world.now
            self._world.after(min(LOOK_S, left_s), self._go_on)
            return
        if self._work is None:
            self._work = self._begin()
        try:
            waits: _Pause = self._work.send(None)
        except StopIteration:
            self.is_over = True
        else:
            self._world.after(waits.seconds, self._go_on)
