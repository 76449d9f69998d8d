"""The end of a broker's driver: it carries out what the core ordered with it, and nothing is decided afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core.broker import events
from cbw.core.broker.events import Side
from cbw.core.messages import ClientHello, Goodbye, Request
from tests.unit.core.broker.driven import Broker

C = b"\0c1"


def test_it_is_over_when_the_core_says_so(broker: Broker) -> None:
    broker.says(Side.CLIENT, C, ClientHello("N1", "b"))
    broker.batch(C)
    broker.driver.turn(broker.now, broker.now)
    assert broker.driver.is_over
    broker.turn()
    assert broker.batch(C) == [Goodbye()]


def test_nothing_is_decided_after_the_end(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would carry it out: a request that expired in that step would have ended without an answer."""
    ordered: list[list[Any]] = []
    step = broker.core.step

    def spy(facts: Any, now: float) -> Any:
        ordered.append(step(facts, now))
        return ordered[-1]

    broker.says(Side.CLIENT, C, ClientHello("N1", "b"), Request(1, "", b""))
    broker.clients.there.discard(C)
    monkeypatch.setattr(broker.core, "step", spy)
    broker.driver.turn(broker.now, broker.now)
    assert [any(isinstance(order, events.Stop) for order in orders) for orders in ordered] == [True]
