"""The time of day: of monotonic times, and for people in their own time zone."""

from __future__ import annotations

import os
import time

from cbw.settings import TIMES

STEP_S = 1.0
"""Jump of the clock, in seconds, from which times are reckoned anew: what slews a clock moves it by less."""


class Epoch:
    """What turns monotonic seconds into seconds since 1970.

    It is one number as long as the clock is not set, and the machine does not sleep, by more than :data:`STEP_S`. So times
    stay in order, and a role that was started before the clock was right is right soon after.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def offset(self) -> float:
        """What to add to a monotonic time."""
        offset = time.time() - time.monotonic()
        if abs(offset - self._offset) > STEP_S:
            self._offset = offset
        return self._offset


def day_of(at: float) -> str:
    """The date of ``at``, in seconds since 1970: ``2026-11-24``."""
    return _local(at, "%Y-%m-%d")


def clock_of(at: float) -> str:
    """The time of day, to the millisecond: ``17:30:00.250``."""
    return f"{_local(at, '%H:%M:%S')}.{int(at * 1000) % 1000:03d}"


def stamp() -> str:
    """What a printed line of a role begins with: the time of day and a space, if lines are to have it, else nothing."""
    return f"{clock_of(time.time())} " if os.environ.get(TIMES.environment) == "1" else ""


def _local(at: float, form: str) -> str:
    try:  # anybody may send a record, so its time may be beyond all calendars
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"
