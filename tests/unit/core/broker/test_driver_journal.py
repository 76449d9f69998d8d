"""The driver and the disk: what is stored is told to the core, from the first batch on."""

from __future__ import annotations

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.driver import Driver
from cbw.core.broker.replay import Replay
from cbw.core.messages import ClientHello, Start, Started
from cbw.wire import native

from .driven import FakePort


class Disk:
    """Stores what it is told to, when the test says so."""

    def __init__(self) -> None:
        self.stored = 0
        self.problem = ""
        self.filled = 0.0
        self.positions: list[int] = []

    def put(self, position: int, batch: bytes) -> None:
        self.positions.append(position)

    def compact(self, before: int) -> None:
        """Nothing is dropped."""


def test_a_request_that_came_first_of_all_is_promised_when_it_is_stored() -> None:
    core = BrokerCore(has_journal=True)
    core.use_journal(Replay(), 0.0)
    clients, disk = FakePort(9998), Disk()
    driver = Driver(core, clients, FakePort(9999), journal=disk)
    for frames, _ in native.encode([ClientHello("C1", "b"), Start(1, "ticket", "s", b"x")]):
        clients.arrive(b"C1", frames)

    def told(now: float) -> list[type]:
        driver.turn(now)
        sent, clients.sent = clients.sent, []
        return [type(message) for _, frames in sent for message in native.to_client(frames)]

    assert Started not in told(0.0)
    assert disk.positions == [1]
    disk.stored = 1
    assert told(0.1) == [Started]
