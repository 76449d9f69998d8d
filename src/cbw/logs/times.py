"""Times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cbw.errors import UsageError

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])(?:\s+ago)?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?")


def time_of(text: str, now: float) -> float:
    """Seconds since 1970 of ``text``; ``now`` is the same of this moment.

    ``10m`` and ``2h ago`` count back from now; ``17:30`` is the last time that the clock here showed it; anything else is
    ISO 8601, of this place unless it names another.

    Raises:
        UsageError: it is none of them.
    """
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return now - float(ago[1]) * _UNITS_S[ago[2]]
    here = datetime.fromtimestamp(now).astimezone()
    try:
        if clock := _CLOCK.fullmatch(text):
            seconds = float(clock[3] or 0)
            time = here.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            time += timedelta(seconds=seconds)
            return (time if time <= here else time - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        advice = "Write 10m, 2h ago, 17:30, or 2025-01-31T17:30:00."
        raise UsageError(f"{text!r} is no time", advice=advice) from None
