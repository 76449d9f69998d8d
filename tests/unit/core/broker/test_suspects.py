"""Requests whose worker died, while they wait for a worker of their own."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.fair_queue import DEAD_MAX

from .system import CoreSystem, client_said


def test_those_that_were_cancelled_do_not_pile_up() -> None:
    count = 3 * DEAD_MAX
    system = CoreSystem()
    system.client()
    system.worker("W1", concurrency=count, credit=count)
    system.ask(*range(count))
    system.lose_worker("W1")
    service = system.core.requests.dispatcher.services["s"]
    assert len(service.suspects) == count
    for number in range(count - 1):
        system.tell(client_said(b"C1", [messages.Cancel(number)]))
        assert service.dead_suspects <= max(DEAD_MAX, len(service.suspects) // 2)
    assert len(service.suspects) <= DEAD_MAX + 1
    system.worker("W2")
    assert system.bodies("W2") == [count - 1]


def test_a_few_of_them_are_left_where_they_are() -> None:
    """To look for them each time would cost more than they take."""
    system = CoreSystem()
    system.client()
    system.worker("W1", concurrency=3, credit=3)
    system.ask(1, 2, 3)
    system.lose_worker("W1")
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    service = system.core.requests.dispatcher.services["s"]
    assert (len(service.suspects), service.dead_suspects) == (3, 1)
