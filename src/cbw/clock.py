"""Times for people, in their own time zone. Anybody may send a record, so a time may be beyond all calendars."""

from __future__ import annotations

import time


def day_of(at: float) -> str:
    """The date of ``at``, in seconds since 1970: ``2026-11-24``."""
    return _local(at, "%Y-%m-%d")


def clock_of(at: float) -> str:
    """The time of day, to the millisecond: ``17:30:00.250``."""
    return f"{_local(at, '%H:%M:%S')}.{int(at * 1000) % 1000:03d}"


def _local(at: float, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"
