"""A role's status, and how another thread asks the role's loop for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cbw.version import __version__

LOOP_ANSWER_S = 1.0
"""Time for a loop to answer. A turn takes milliseconds: a loop that needs longer is stuck, or far overloaded."""
Ask = Callable[[], dict[str, Any] | None]
"""Returns a role's status as plain data, made by :func:`status_of`; None if the role is stuck."""


def status_of(role: str, name: str, started_at: float, problem: str, **more: Any) -> dict[str, Any]:
    """The status of a role: what every role has, and ``more``. The role is ready if there is no ``problem``."""
    uptime_s = time.monotonic() - started_at
    head = {"role": role, "name": name, "version": __version__, "uptime_s": uptime_s}
    return {**head, "ready": not problem, "reason": problem, **more}


class Inquiry:
    """The way for another thread to ask a role's loop for its status. ``wake`` ends the loop's sleep."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.is_open = False  # the only thing that the loop reads in each turn
        self._wake = wake
        self._lock = threading.Lock()
        self._is_answered = threading.Event()
        self._answer: dict[str, Any] = {}

    def ask(self) -> dict[str, Any] | None:
        """The status of the loop; None if it is stuck. While it has not answered an earlier question nobody waits for it."""
        with self._lock:
            if self.is_open:
                return None
            self._is_answered.clear()
            self.is_open = True
            self._wake()
            return self._answer if self._is_answered.wait(LOOP_ANSWER_S) else None

    def answer(self, status: dict[str, Any]) -> None:
        """Give the loop's answer, made by :func:`status_of` from data that the loop does not touch again."""
        self.is_open = False
        self._answer = status
        self._is_answered.set()
