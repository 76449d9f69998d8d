"""Times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from cbw.errors import UsageError

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])(?:\s+ago)?")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d+)?))?")


def time_of(text: str, now: float) -> float:
    """The time that ``text`` means, as ``now`` in seconds since 1970.

    ``10m`` and ``2h ago`` count back from now; ``17:30`` is the last time at which the clock of this host showed that; any
    other text is ISO 8601, in the time zone of this host unless it names one.

    Raises:
        UsageError: ``text`` is none of these.
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


def span_of(text: str) -> float:
    """The seconds that ``text`` means: ``90`` and ``90s`` are seconds; ``10m``, ``2h``, ``3d`` and ``1w`` are more.

    Raises:
        UsageError: ``text`` is none of these.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no length of time", advice="Write 90s, 10m, 2h or 3d.")
    return float(found[1]) * _UNITS_S[found[2] or "s"]
