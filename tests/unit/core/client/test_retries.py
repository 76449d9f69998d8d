"""A request that the broker is too busy for: sent again by the client itself, as long as its deadline allows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.core import messages
from cbw.core.client import events
from cbw.core.client.core import UNASKED_BYTES, ClientCore
from cbw.core.client.retries import HINT_MAX_S, HINT_MIN_S, HINT_USUAL_S, JITTER, Retries
from cbw.core.messages import Status

WELCOME = messages.Welcome("BRO", "boot", 3.0, 1 << 20)


class WelcomeClient:
    """A client that is welcome, what it sends, and the requests that have ended, as pairs (id, status)."""

    def __init__(self, chance: float = 0.0) -> None:
        self.core = ClientCore("C1", "boot", chance)
        self.now = 100.0
        self.sent: list[messages.Message] = []
        self.resent: list[int] = []
        self.ended: list[messages.Answer] = []
        self.step(events.Connected(), events.BatchArrived([WELCOME]))
        self.sent.clear()

    def step(self, *facts: events.Fact) -> None:
        for order in self.core.step(facts, self.now):
            if isinstance(order, events.Send):
                self.sent += order.messages
            elif isinstance(order, events.End):
                self.ended += [ended.answer for ended in order.requests]
            elif isinstance(order, events.ReportResent):
                self.resent += order.request_ids

    def ask(self, timeout: float | None, body: bytes = b"x", *, may_retry: bool = True) -> None:
        deadline_at = None if timeout is None else self.now + timeout
        self.step(events.Submitted(1, "s", [body], deadline_at, "sink", 7, may_retry))

    def refused(self, hint_s: float | None = 1.0) -> None:
        self.step(events.BatchArrived([messages.Answer(1, Status.BUSY, messages.error_body("busy", "full"), hint_s)]))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.step()

    def take_sent(self) -> list[messages.Message]:
        sent, self.sent = self.sent, []
        return sent

    @property
    def statuses(self) -> list[Status]:
        return [answer.status for answer in self.ended]


@pytest.fixture
def client() -> WelcomeClient:
    return WelcomeClient()


def test_it_is_sent_again_when_the_broker_has_said_and_not_before(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.take_sent()
    client.refused(1.0)
    assert client.core.wake_at > client.now + 1.0
    client.wait(0.99)
    assert client.take_sent() == [] and client.ended == []
    client.wait(JITTER + 0.02)
    (again,) = client.take_sent()
    assert isinstance(again, messages.Request)
    assert (again.id, again.body, again.priority) == (1, b"x", 7)
    assert again.ttl == pytest.approx(10.0 - 1.01 - JITTER)
    assert client.resent == [1] and client.core.retried == 1
    client.step(events.BatchArrived([messages.Answer(1, Status.OK, b"done")]))
    assert client.statuses == [Status.OK]


def test_again_and_again_until_the_deadline_does_not_allow_another_try(client: WelcomeClient) -> None:
    client.ask(3.0)
    tries = 0
    while not client.ended:
        tries += len(client.take_sent())
        client.refused(0.5)
        client.now = min(client.core.wake_at, client.now + 1)
        client.step()
    assert client.statuses == [Status.BUSY]
    assert 4 <= tries <= 6
    assert client.ended[0].retry_after_s == 0.5
    client.wait(60)
    assert client.take_sent() == []


def test_what_cannot_be_answered_in_time_ends_at_once(client: WelcomeClient) -> None:
    client.ask(2.0)
    client.refused(5.0)
    assert client.statuses == [Status.BUSY]


@pytest.mark.parametrize(("timeout", "may_retry"), [(None, True), (60.0, False)])
def test_without_a_deadline_or_leave_it_ends_at_once(
    client: WelcomeClient, timeout: float | None, may_retry: bool
) -> None:
    client.ask(timeout, may_retry=may_retry)
    client.refused()
    assert client.statuses == [Status.BUSY]


def test_one_that_is_cancelled_meanwhile_is_not_sent_again(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.refused()
    client.step(events.CancelRequested([1]))
    client.take_sent()
    client.wait(5)
    assert client.take_sent() == [] and client.statuses == [Status.CANCELLED]


def test_a_new_connection_is_told_at_once_and_only_once(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.refused()
    client.take_sent()
    client.step(events.Disconnected())
    client.step(events.Connected())
    assert [type(message) for message in client.take_sent()] == [messages.ClientHello, messages.Request]
    client.step(events.BatchArrived([WELCOME]))
    client.wait(5)
    assert client.take_sent() == []


def test_while_there_is_no_connection_nothing_is_sent(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.refused()
    client.take_sent()
    client.step(events.Disconnected())
    client.wait(5)
    assert client.take_sent() == [] and client.core.retried == 0


def test_a_large_body_is_sent_again_too(client: WelcomeClient) -> None:
    body = b"x" * (UNASKED_BYTES + 1)
    client.ask(10.0, body)
    client.refused()
    client.take_sent()
    client.wait(2)
    (again,) = client.take_sent()
    assert isinstance(again, messages.Request) and again.body == body


def test_a_second_refusal_of_the_same_changes_nothing(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.take_sent()
    client.refused()
    client.refused()
    client.wait(5)
    assert len(client.take_sent()) == 1


def test_nothing_is_left_of_it_when_the_client_is_closed(client: WelcomeClient) -> None:
    client.ask(10.0)
    client.refused()
    client.step(events.CloseRequested())
    assert client.statuses == [Status.CANCELLED] and client.core.wake_at == math.inf


def test_clients_that_were_refused_at_once_come_back_one_after_the_other() -> None:
    times = set()
    for number in range(10):
        client = WelcomeClient(number / 10)
        client.ask(10.0)
        client.refused()
        times.add(round(client.core.wake_at, 3))
    assert len(times) == 10


@pytest.mark.parametrize("hint_s", [None, math.nan])
def test_a_broker_that_gives_no_hint(hint_s: float | None) -> None:
    retries = Retries(0.0)
    assert retries.add(1, hint_s, math.inf, 0.0)
    assert HINT_USUAL_S <= retries.next_at <= HINT_USUAL_S * (1 + JITTER)


@given(st.floats(), st.floats(0, 1))
def test_the_time_is_within_its_bounds_whatever_the_broker_says(hint_s: float, chance: float) -> None:
    retries = Retries(chance)
    assert retries.add(1, hint_s, math.inf, 0.0)
    assert HINT_MIN_S <= retries.next_at <= HINT_MAX_S * (1 + JITTER)
    assert retries.take_due(retries.next_at) == [1] and not len(retries)
