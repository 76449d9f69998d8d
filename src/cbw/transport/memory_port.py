"""A port without a socket, for a broker in memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from cbw.core.port import Arrival, Frames, Sent


class MemoryPort:
    """A port of the broker in memory: what its driver needs of one. Peers are lists, to which what is sent is appended."""

    port = 0
    has_disputes = False
    dispute_ends_at = math.inf

    def __init__(self) -> None:
        self._inboxes: dict[bytes, list[Frames]] = {}
        self.arrivals: deque[Arrival] = deque()
        self.sent = 0
        self._lost: list[bytes] = []
        self._has_connected = False

    def connect(self, address: bytes, inbox: list[Frames]) -> None:
        self._inboxes[address] = inbox
        self._has_connected = True

    def disconnect(self, address: bytes) -> None:
        del self._inboxes[address]
        self._lost.append(address)

    @property
    def has_news(self) -> bool:
        return bool(self.arrivals) or self.is_unsettled

    @property
    def is_unsettled(self) -> bool:
        return self._has_connected or self.has_lost

    @property
    def has_lost(self) -> bool:
        return bool(self._lost)

    def receive(self, limit: int) -> Iterator[Arrival]:
        while self.arrivals and limit:
            limit -= 1
            yield self.arrivals.popleft()

    def take_lost(self, now: float) -> list[bytes]:
        lost, self._lost = self._lost, []
        return lost

    def take_connected(self) -> bool:
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        return []

    def send(self, peer: bytes, frames: Frames) -> Sent:
        inbox = self._inboxes.get(peer)
        if inbox is None:
            return Sent.UNREACHABLE
        inbox.append(frames)
        self.sent += 1
        return Sent.YES

    def tell_displaced(self, peer: bytes, frames: Frames) -> None:
        """Nobody loses an identity here."""
