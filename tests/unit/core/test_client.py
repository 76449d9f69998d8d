"""The client core where the network or the broker did not do what was hoped for."""

from __future__ import annotations

from cbw.core import messages as m
from cbw.core.client import HELLO_PATIENCE_S, ClientCore
from cbw.core.messages import Status

WELCOME = m.Welcome("BRO", "boot", 3.0, 1 << 20)


def connected() -> ClientCore:
    core = ClientCore("C1", "boot")
    core.connected(0.0)
    core.submit("s", b"1", None, 0.0, "sink")
    assert [type(message) for message in core.take_messages()] == [m.ClientHello, m.Request]
    return core


def test_an_unanswered_hello_is_said_again_with_all_that_is_in_flight() -> None:
    core = connected()
    core.received([m.HelloAgain()], 1.0)  # for what was said before the hello
    assert core.take_messages() == []
    assert core.wake_at == HELLO_PATIENCE_S
    core.tick(HELLO_PATIENCE_S)
    assert [type(message) for message in core.take_messages()] == [m.ClientHello, m.Request]


def test_after_the_welcome_it_is_not() -> None:
    core = connected()
    core.received([WELCOME], 1.0)
    assert core.wake_at is None
    core.tick(100.0)
    assert core.take_messages() == []


def test_nor_while_there_is_no_connection() -> None:
    core = connected()
    core.disconnected()
    assert core.wake_at is None
    core.tick(100.0)
    assert core.take_messages() == []


def test_a_refused_client_says_nothing_more() -> None:
    core = connected()
    (ended,) = core.received([m.Refused(m.Refusal.BAD_HELLO, "no")], 1.0)
    assert (ended.sink, ended.answer.status) == ("sink", Status.FAILED)
    assert core.wake_at is None
