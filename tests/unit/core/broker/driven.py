"""A broker's driver between two ports in memory: frames in, frames out, and a clock that the test turns."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import Side
from cbw.core.broker.limits import Limits
from cbw.core.port import Arrival, Frames, Sent
from cbw.core.record import Record
from cbw.wire import native

Sending = tuple[bytes, list[bytes]]


class FakePort:
    """A port whose peers are there or not, and read or not, as the test says. Whoever speaks is there."""

    def __init__(self, number: int) -> None:
        self.port = number
        self.there: set[bytes] = set()
        self.room: dict[bytes, int] = {}
        """Messages that a peer still takes; one that is not named here takes any number."""
        self.refusals: dict[bytes, int] = {}
        """How often a peer takes nothing before it reads on."""
        self.leaves_after: dict[bytes, int] = {}
        """Messages that a peer still takes before it is gone."""
        self.arrivals: list[Arrival] = []
        self.sent: list[Sending] = []
        self.uncertain: list[tuple[bytes, bool]] = []
        self.lost: list[bytes] = []
        self.is_losing_late = False
        """Whether lost peers are not told yet, as their last words may be unread."""
        self.limits: list[int] = []
        """How many messages were asked for, each time."""
        self.tried = 0
        self.ends_at = math.inf
        self.told_displaced: list[Sending] = []
        self._has_connected = False

    # --- what the test does

    def connect(self, peer: bytes) -> None:
        self.there.add(peer)
        self._has_connected = True

    def lose(self, peer: bytes) -> None:
        """Its connection is gone, and the broker is told so in its next turn."""
        self.there.discard(peer)
        self.lost.append(peer)

    def arrive(self, peer: bytes, frames: Frames, *, is_replaced: bool = False, fault: str = "") -> None:
        self.there.add(peer)
        self.arrivals.append(Arrival(peer, list(frames), is_replaced, fault))

    # --- what the driver asks

    @property
    def is_unsettled(self) -> bool:
        return self._has_connected or bool(self.lost or self.uncertain)

    @property
    def has_lost(self) -> bool:
        return bool(self.lost)

    @property
    def has_disputes(self) -> bool:
        return bool(self.uncertain)

    @property
    def dispute_ends_at(self) -> float:
        return self.ends_at

    def receive(self, limit: int) -> Iterator[Arrival]:
        self.limits.append(limit)
        while self.arrivals and limit:
            limit -= 1
            yield self.arrivals.pop(0)

    def take_lost(self, now: float) -> list[bytes]:
        if self.is_losing_late:
            return []
        lost, self.lost = self.lost, []
        return lost

    def take_connected(self) -> bool:
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        uncertain, self.uncertain = self.uncertain, []
        return uncertain

    def tell_displaced(self, peer: bytes, frames: Frames) -> None:
        self.told_displaced.append((peer, [bytes(frame) for frame in frames]))

    def send(self, peer: bytes, frames: Frames) -> Sent:
        self.tried += 1
        if peer not in self.there:
            return Sent.UNREACHABLE
        if self.refusals.get(peer):
            self.refusals[peer] -= 1
            return Sent.FULL
        if peer in self.room:
            if not self.room[peer]:
                return Sent.FULL
            self.room[peer] -= 1
        elif peer in self.leaves_after:
            if not self.leaves_after[peer]:
                return Sent.UNREACHABLE
            self.leaves_after[peer] -= 1
        self.sent.append((peer, [bytes(frame) for frame in frames]))
        return Sent.YES


class Broker:
    """The driver, with what its peers have been sent by peer."""

    def __init__(self, *, turn_messages: int = 512, **limits: Any) -> None:
        self.core = BrokerCore(limits=Limits(**limits), is_tracing=True)
        self.clients = FakePort(9998)
        self.workers = FakePort(9999)
        self.driver = Driver(self.core, self.clients, self.workers, turn_messages)
        self.now = 100.0
        self.records: list[Record] = []
        self.inbox: dict[bytes, list[list[bytes]]] = defaultdict(list)

    @property
    def counts(self) -> Counter[str]:
        return self.core.outbox.counts

    def turn(self) -> None:
        """A turn of the driver, after which its state must make sense."""
        self.driver.turn(self.now)
        self.records += self.core.outbox.take_records()
        for port in (self.clients, self.workers):
            for peer, frames in port.sent:
                self.inbox[peer].append(frames)
            port.sent.clear()
        check(self.core)

    def worker_says(self, peer: bytes, *frames: bytes, **more: Any) -> None:
        self.workers.arrive(peer, frames, **more)
        self.turn()

    def client_says(self, peer: bytes, *frames: bytes, **more: Any) -> None:
        self.clients.arrive(peer, frames, **more)
        self.turn()

    def says(self, side: Side, peer: bytes, *batch: Any, **more: Any) -> None:
        """A CBW/1 peer sends a batch."""
        for frames, _ in native.encode(batch):
            (self.client_says if side is Side.CLIENT else self.worker_says)(peer, *frames, **more)

    def lose_worker(self, peer: bytes) -> None:
        self.workers.lose(peer)
        self.turn()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a turn whenever the driver wants one."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, max(self.now + 0.001, self.driver.wake_at))
            self.turn()

    def take(self, peer: bytes) -> list[list[bytes]]:
        """The messages that ``peer`` has got since the last look."""
        return self.inbox.pop(peer, [])

    def batch(self, peer: bytes) -> list[Any]:
        """The CBW/1 messages that ``peer`` has got since the last look."""
        decode = native.to_worker if peer in self.workers.there else native.to_client
        return [message for frames in self.take(peer) for message in decode(frames)]

    def events(self, *names: str) -> list[Record]:
        """The records since the last look, or those of them that have one of these names."""
        records, self.records = self.records, []
        return [record for record in records if not names or record.event in names]
