"""When a handler that has failed is called again: never, unless its service says so or it asks for that itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cbw.core.messages import DELAY_S_MAX
from cbw.errors import BadRequest, Retry, UsageError

RETRIES = 5
"""How often a handler may be called again if its service says nothing about it: a handler that always asks for that would
otherwise never end."""
BACKOFF_S = (1.0, 60.0)
"""Shortest and longest time in seconds before a retry, if the service says nothing about it."""
RETRIES_MAX = 1000
"""Most retries that a service may allow."""
_DOUBLINGS_MAX = 64
"""Beyond so many, any time has become longer than is allowed."""


@dataclass(frozen=True)
class Retrying:
    """When the handler of a service is called again, for the same request.

    ``retries`` is how often at most (default: 5; 0: never, whatever it raises). ``retry_on`` are the exceptions, with their
    subclasses, after which it is; :class:`cbw.Retry` always is one. Before each retry passes a time in seconds that begins with
    the first of ``backoff_s``, doubles, and ends with the second. A part of it is left to chance, so that requests that failed
    together do not come back together.

    Raises:
        UsageError: one of them is not valid.
    """

    retries: int = RETRIES
    retry_on: tuple[type[Exception], ...] = ()
    backoff_s: tuple[float, float] = BACKOFF_S

    def __post_init__(self) -> None:
        if type(self.retries) is not int or not 0 <= self.retries <= RETRIES_MAX:
            raise UsageError(f"retries is {self.retries!r}; it must be a whole number from 0 to {RETRIES_MAX}")
        if not isinstance(self.retry_on, tuple) or not all(map(_is_exception, self.retry_on)):
            raise UsageError(f"retry_on is {self.retry_on!r}; it must be a tuple of subclasses of Exception")
        if not _is_backoff(self.backoff_s):
            text = f"backoff_s is {self.backoff_s!r}; it must be the shortest and the longest time in seconds"
            raise UsageError(
                text, advice=f"Write for instance backoff_s=(1, 60). The longest is at most {DELAY_S_MAX:.0f}."
            )

    def after_s(self, error: BaseException, used: int, chance: float) -> float | None:
        """The seconds until the handler is called again, which raised ``error`` and has ``used`` that many retries before.

        None: it is not. ``chance`` is a number from 0 to 1 that was drawn at random.
        """
        if used >= self.retries or isinstance(error, BadRequest):
            return None
        if isinstance(error, Retry):
            return self._backoff(used, chance) if error.after_s is None else error.after_s
        return self._backoff(used, chance) if isinstance(error, self.retry_on) else None

    def _backoff(self, used: int, chance: float) -> float:
        """From half of a time to all of it: that doubles with each retry, within the bounds."""
        least, most = self.backoff_s
        whole = min(most, least * 2.0 ** min(used + 1, _DOUBLINGS_MAX))
        return max(least, whole * (1 + chance) / 2)


def _is_exception(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _is_backoff(times: Any) -> bool:
    if not isinstance(times, tuple) or len(times) != 2 or not all(isinstance(time, (int, float)) for time in times):
        return False
    return all(map(math.isfinite, times)) and 0 <= times[0] <= times[1] <= DELAY_S_MAX
