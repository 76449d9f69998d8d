"""Back-pressure for clients that cannot be told to wait: at twice the limits their port is read no more."""

from __future__ import annotations

import math
from collections.abc import Callable

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.events import PauseClients, ResumeClients
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox

STANDSTILL_S = 1.0
"""Time without the end of any request, in seconds, after which the port is read once if clients have to say something before any
can end. It doubles each time, so that what is accepted meanwhile stays little."""


class BackPressure:
    """Told how many requests there are, and the bytes of their bodies. ``is_on``: the client port is not read.

    ``waits_for_clients`` says whether a running request waits for a word of its client.
    """

    def __init__(self, outbox: Outbox, limits: Limits, agenda: Agenda, waits_for_clients: Callable[[], bool]) -> None:
        self.is_on = False
        self.ended_at = -math.inf
        """When the port was read again last."""
        self._outbox = outbox
        self._limits = limits
        self._waits_for_clients = waits_for_clients
        self._standstill_s = STANDSTILL_S
        self._look = agenda.timer(self._look_for_standstill)

    def begin_if_high(self, count: int, size: int) -> None:
        """Stop reading if too much waits."""
        limits = self._limits
        if not self.is_on and (count >= 2 * limits.requests_max or size >= 2 * limits.requests_bytes_max):
            self.is_on = True
            self._look.set(self._outbox.now + self._standstill_s)
            self._outbox.order(PauseClients())
            self._outbox.trace(catalogue.PAUSED, text=f"{count} requests")

    def end_if_low(self, count: int, size: int) -> None:
        """A request has ended: read again if there is room."""
        self._standstill_s = STANDSTILL_S
        self._look.set(self._outbox.now + STANDSTILL_S)
        if count < self._limits.requests_max and size < self._limits.requests_bytes_max:
            self._end()

    def _look_for_standstill(self, now: float) -> None:
        """Read on, until another request comes of those that cannot be told to wait. Otherwise streams would wait for clients to
        say that they have room for more, while nobody hears them.
        """
        if self._waits_for_clients():
            self._standstill_s *= 2
            self._end()
        else:
            self._look.set(now + self._standstill_s)

    def _end(self) -> None:
        self.is_on = False
        self.ended_at = self._outbox.now
        self._look.clear()
        self._outbox.order(ResumeClients())
        self._outbox.trace(catalogue.RESUMED)
