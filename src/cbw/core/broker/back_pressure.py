"""Back-pressure for clients that cannot be told to wait: at twice the limits their port is read no more."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.broker.events import PauseClients, ResumeClients
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox


class BackPressure:
    """Told how many requests there are, and the bytes of their bodies. ``is_on``: the client port is not read."""

    def __init__(self, outbox: Outbox, limits: Limits) -> None:
        self.is_on = False
        self._outbox = outbox
        self._limits = limits

    def begin_if_high(self, count: int, size: int) -> None:
        """Stop reading if too much waits."""
        limits = self._limits
        if not self.is_on and (count >= 2 * limits.requests_max or size >= 2 * limits.requests_bytes_max):
            self.is_on = True
            self._outbox.order(PauseClients())
            self._outbox.trace(catalogue.PAUSED, text=f"{count} requests")

    def end_if_low(self, count: int, size: int) -> None:
        """Read again if there is room."""
        if count < self._limits.requests_max and size < self._limits.requests_bytes_max:
            self.is_on = False
            self._outbox.order(ResumeClients())
            self._outbox.trace(catalogue.RESUMED)
