"""Clients that speak before their hello, as after a restart of the broker."""

from __future__ import annotations

import pytest

from cbw.core import messages

from .system import CoreSystem, client_said


@pytest.mark.parametrize(
    "message",
    [
        messages.Request(1, "s", b"x"),
        messages.Start(1, "ticket", "s", b"x"),
        messages.Collect(1, "ticket"),
        messages.Cancel(1),
        messages.Received([1]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_whatever_it_says_it_is_asked_for_its_hello(message: messages.Message) -> None:
    system = CoreSystem()
    system.tell(client_said(b"C1", [message]))
    assert [type(each) for each in system.take("C1")] == [messages.HelloAgain]
    assert not system.core.requests.count and not system.core.tickets.rows
