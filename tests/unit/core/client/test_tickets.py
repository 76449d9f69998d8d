"""What the client core does with what is asked for under a ticket."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.client.core import UNASKED_BYTES
from cbw.core.client.events import CloseRequested, CollectRequested, Ended, StartRequested
from cbw.core.messages import Collect, Refusal, Start, Started, Status, error_of

from .test_core import HELLO, LIMIT, DrivenClient, ends, ok

KEEPS = messages.Welcome("BRO", "boot", 3.0, LIMIT, keeps_tickets=True)
WANTED = CollectRequested(2, "t", 10.0, "collect")


def asked(body: bytes = b"body", ends_at: float | None = 60.0) -> StartRequested:
    return StartRequested(Start(1, "t", "s", body), 10.0, ends_at, "start")


def welcomed(welcome: messages.Welcome = KEEPS) -> DrivenClient:
    client = DrivenClient()
    client.connected(0.0)
    client.received(welcome, now=0.0)
    client.take_sent()
    return client


def test_they_are_sent_and_end_with_the_brokers_word() -> None:
    client = welcomed()
    assert client.step(asked(), WANTED, now=0.0) == []
    assert client.take_sent() == [Start(1, "t", "s", b"body", 60.0), Collect(2, "t")]
    (started,) = client.received(Started(1, is_durable=True), now=1.0)
    assert (started.sink, started.ticket, started.is_start, started.is_durable) == ("start", "t", True, True)
    assert started.answer == messages.Answer(1, Status.OK, b"")
    (collected,) = client.received(ok(2), now=1.0)
    assert (collected.sink, collected.ticket, collected.is_start) == ("collect", "t", False)
    assert client.core.in_flight == {}


def test_a_start_may_be_refused() -> None:
    client = welcomed()
    client.step(asked(), now=0.0)
    answer = messages.Answer(1, Status.TICKET_TAKEN, b"")
    assert ends(client.received(answer, now=0.0)) == [("start", Status.TICKET_TAKEN)]


def test_what_nobody_asked_for_is_ignored() -> None:
    client = welcomed()
    client.step(WANTED, now=0.0)
    assert client.received(Started(2, is_durable=True), Started(9, is_durable=True), now=0.0) == []
    assert list(client.core.in_flight) == [2]


def test_nothing_is_sent_before_the_broker_has_said_that_it_keeps_tickets() -> None:
    """An earlier broker cannot read them, and would drop the hello in their batch."""
    client = DrivenClient()
    client.step(asked(), WANTED, now=0.0)
    client.connected(0.0)
    assert client.take_sent() == [HELLO]
    client.received(KEEPS, now=1.0)
    assert client.take_sent() == [Start(1, "t", "s", b"body", 59.0), Collect(2, "t")]


@pytest.mark.parametrize("is_early", [True, False])
def test_an_earlier_broker_is_told_from_one_that_is_slow(is_early: bool) -> None:
    client = DrivenClient()
    ended: list[Ended] = []
    if is_early:
        ended += client.step(asked(), WANTED, now=0.0)
    client.connected(0.0)
    ended += client.received(messages.Welcome("BRO", "boot", 3.0, LIMIT), now=0.0)
    if not is_early:
        ended += client.step(asked(), WANTED, now=0.0)
    assert [end.refused.reason for end in ended if end.refused] == [Refusal.VERSION] * 2
    client.submit(b"an ordinary one")
    assert [type(m) for m in client.take_sent()] == [messages.ClientHello, messages.Request]


def test_they_are_sent_again_after_a_lost_connection() -> None:
    client = welcomed()
    client.step(asked(), WANTED, now=0.0)
    client.take_sent()
    client.disconnected(1.0)
    client.connected(2.0)
    assert client.take_sent() == [HELLO]
    client.received(KEEPS, now=3.0)
    assert client.take_sent() == [Start(1, "t", "s", b"body", 57.0), Collect(2, "t")]
    assert client.resent == []


def test_a_stopping_broker_has_a_successor() -> None:
    client = welcomed()
    client.step(asked(), WANTED, now=0.0)
    stopping = [messages.Answer(key, Status.STOPPING, b"") for key in (1, 2)]
    assert client.received(*stopping, now=0.0) == []
    assert list(client.core.in_flight) == [1, 2]


def test_their_time_is_up() -> None:
    client = welcomed()
    client.step(asked(), WANTED, now=0.0)
    client.take_sent()
    (start,) = client.step(now=10.0)
    assert start.answer.status is Status.EXPIRED and "start it again as 't'" in error_of(start.answer.body)[1]
    assert client.take_sent() == [messages.Cancel(1, is_late=True), messages.Cancel(2, is_late=True)]
    where = messages.error_body("queue", "the deadline passed before a worker was free; it goes on")
    (collect,) = client.received(messages.Answer(2, Status.EXPIRED, where), now=10.01)
    assert (collect.sink, collect.answer.body) == ("collect", where)


def test_cancelled_and_closed() -> None:
    client = welcomed()
    client.step(asked(), WANTED, now=0.0)
    client.take_sent()
    assert ends(client.cancel(2)) == [("collect", Status.CANCELLED)]
    assert client.take_sent() == [messages.Cancel(2)]
    (end,) = client.step(CloseRequested(), now=1.0)
    assert end.is_closed and end.sink == "start"
    assert [end.is_closed for end in client.step(asked(), WANTED, now=1.0)] == [True, True]


def test_a_body_that_is_too_large() -> None:
    client = welcomed()
    body = b"x" * (LIMIT + 1)
    assert len(body) > UNASKED_BYTES
    assert ends(client.step(asked(body), now=0.0)) == [("start", Status.TOO_BIG)]
    assert client.take_sent() == []


def test_a_start_for_ever_has_no_deadline() -> None:
    client = welcomed()
    client.step(asked(ends_at=None), now=0.0)
    assert client.take_sent() == [Start(1, "t", "s", b"body")]


def test_a_busy_broker_is_asked_again() -> None:
    client = welcomed()
    client.step(asked(), WANTED, now=0.0)
    client.take_sent()
    busy = [messages.Answer(key, Status.BUSY, b"", 1.0) for key in (1, 2)]
    assert client.received(*busy, now=0.0) == []
    client.step(now=2.0)
    collect, start = client.take_sent()  # each waits a little longer than it was told, at random
    assert (start, collect) == (Start(1, "t", "s", b"body", 58.0), Collect(2, "t"))
    assert ends(client.received(ok(2), now=2.0)) == [("collect", Status.OK)]


def test_a_start_may_be_delayed_and_is_sent_again_with_what_is_left_of_that() -> None:
    client = welcomed()
    client.step(StartRequested(Start(1, "t", "s", b"body"), 90.0, 60.0, "start", due_at=30.0), now=0.0)
    assert client.take_sent() == [Start(1, "t", "s", b"body", 60.0, delay_s=30.0)]
    client.disconnected(1.0)
    client.connected(10.0)
    client.received(KEEPS, now=10.0)
    assert [m for m in client.take_sent() if isinstance(m, Start)] == [Start(1, "t", "s", b"body", 50.0, delay_s=20.0)]
    client.disconnected(11.0)
    client.connected(40.0)
    client.received(KEEPS, now=40.0)
    assert [m for m in client.take_sent() if isinstance(m, Start)] == [Start(1, "t", "s", b"body", 20.0, delay_s=0.0)]
