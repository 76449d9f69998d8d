"""How soon a lost connection is made again, where libzmq's own pace is too fast.

libzmq doubles the time between two tries only while nobody accepts. A proxy without a server behind it accepts and hangs up, as
Docker's does for a published port: without this each peer would make 20 connections a second, for ever.
"""

from __future__ import annotations

from cbw.transport.sockets import RECONNECT_MAX_MS, RECONNECT_MS

SHORT_S = 1.0
"""A connection that ends within this many seconds has failed: a broker that takes a peer on keeps it for longer."""
FAILURES_PER_STEP = 4
"""Connections that may fail before the next come at a quarter of the pace: a broker that is restarted costs one or two."""
STEP = 4
"""How many times longer the time between two tries is after each step."""


class ReconnectPace:
    """The time between two tries of one peer."""

    def __init__(self) -> None:
        self.interval_ms = RECONNECT_MS
        self._failures = 0
        self._made_at: float | None = None

    def made(self, now: float) -> None:
        """A connection was made, and both sides have agreed to talk."""
        self._made_at = now

    def lost(self, now: float) -> None:
        """A connection has ended, or nobody has talked over it."""
        made_at, self._made_at = self._made_at, None
        if made_at is not None and now - made_at >= SHORT_S:
            self._failures, self.interval_ms = 0, RECONNECT_MS
        else:
            self._failures += 1
            if self._failures % FAILURES_PER_STEP == 0:
                self.interval_ms = min(STEP * self.interval_ms, RECONNECT_MAX_MS)
