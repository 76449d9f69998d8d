"""Messages that mean nothing: how many of them a turn takes."""

from __future__ import annotations

import pytest

from cbw.core.broker.driver import TURN_FAULTS
from cbw.core.port import Arrival

from .driven import Broker


@pytest.mark.parametrize("fault", ["", "a message of more than 2048 frames"])
def test_a_turn_ends_after_some_messages_that_mean_nothing(fault: str) -> None:
    """They take longer than others. What was not taken is there in the next turn, and nobody is lost for it."""
    broker = Broker()
    for number in range(TURN_FAULTS + 3):
        for port in (broker.workers, broker.clients):
            port.arrivals.append(Arrival(b"\0x%d" % number, [b"CBW1", b"nonsense"], fault=fault))
    broker.clients.arrive(b"C1", [b"", b"hi"])
    broker.turn()
    assert broker.counts["messages_bad"] == 2 * TURN_FAULTS
    assert (len(broker.workers.arrivals), len(broker.clients.arrivals)) == (3, 4)
    broker.turn()
    assert broker.counts["messages_bad"] == 2 * TURN_FAULTS + 6 and broker.core.requests.count == 1
