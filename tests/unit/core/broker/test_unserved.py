"""Requests of a service that no worker serves: the broker says so, once and not too early."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.dispatch import UNSERVED_S
from tests.unit.core.broker.system import CoreSystem, client_said


class TestNobodyServes:
    def unserved(self, system: CoreSystem) -> list[tuple[str, int]]:
        return [(record.service, record.count) for record in system.records if record.event == "unserved"]

    def test_is_said_once_when_requests_have_waited(self, system: CoreSystem) -> None:
        system.ask(1, 2)
        system.wait(UNSERVED_S - 0.5)
        assert self.unserved(system) == []
        system.wait(2)
        assert self.unserved(system) == [("s", 2)]
        system.wait(10)
        assert len(self.unserved(system)) == 1

    def test_is_said_again_when_a_worker_came_and_went(self, system: CoreSystem) -> None:
        system.ask(1)
        system.wait(UNSERVED_S + 1)
        system.worker("W1")
        system.lose_worker("W1")
        system.wait(UNSERVED_S + 1)
        assert self.unserved(system) == [("s", 1)] * 2

    def test_is_not_said_if_a_worker_comes_in_time(self, system: CoreSystem) -> None:
        system.ask(1)
        system.wait(UNSERVED_S - 0.5)
        system.worker("W1")
        system.wait(5, "W1")
        assert self.unserved(system) == []

    def test_nor_of_requests_that_have_expired(self, system: CoreSystem) -> None:
        system.ask(1, ttl=1.0)
        system.wait(UNSERVED_S + 2)
        assert self.unserved(system) == []

    def test_nor_if_they_were_cancelled(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Cancel(1)]))
        system.wait(UNSERVED_S + 2)
        assert self.unserved(system) == []
