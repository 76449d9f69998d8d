"""The client core: what is sent when, how requests end, and what is said again after a lost connection."""

from __future__ import annotations

import math
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.client import events
from cbw.core.client.core import HELLO_PATIENCE_S, UNASKED_BYTES, ClientCore
from cbw.core.client.events import BatchArrived, CancelRequested, Connected, Disconnected, Ended, Submitted
from cbw.core.client.standing import TRANSITIONS, Standing
from cbw.core.client.unwanted import CANCELLED_MAX
from cbw.core.hello import DUPLICATE_PATIENCE_S, HELLO_RETRY_S
from cbw.core.messages import Status
from cbw.core.port import UNSENT_RETRY_S

LIMIT = 1 << 20
WELCOME = messages.Welcome("BRO", "boot", 3.0, LIMIT)
HELLO = messages.ClientHello("C1", "boot")


class DrivenClient:
    """A core, and the orders that its steps gave."""

    def __init__(self) -> None:
        self.core = ClientCore("C1", "boot")
        self.resent: list[list[int]] = []
        self._submitted = 0
        self._sent: list[messages.Message] = []

    def step(self, *facts: events.Fact, now: float) -> list[Ended]:
        """One step; the requests that it ended."""
        ended: list[Ended] = []
        for order in self.core.step(facts, now):
            if isinstance(order, events.Send):
                self._sent += order.messages
            elif isinstance(order, events.End):
                ended += order.requests
            elif isinstance(order, events.ReportResent):
                self.resent.append(order.request_ids)
        return ended

    def submit(
        self, body: bytes, deadline_at: float | None = None, sink: Any = "sink", *, now: float = 0.0
    ) -> tuple[int, list[Ended]]:
        """One request; its id, and the requests that the step has ended."""
        self._submitted += 1
        fact = Submitted(self._submitted, "s", [body], deadline_at, sink)
        return self._submitted, self.step(fact, now=now)

    def received(self, *batch: messages.Message, now: float) -> list[Ended]:
        return self.step(BatchArrived(list(batch)), now=now)

    def connected(self, now: float) -> None:
        assert self.step(Connected(), now=now) == []

    def disconnected(self, now: float) -> None:
        assert self.step(Disconnected(), now=now) == []

    def cancel(self, *request_ids: int, now: float = 0.0) -> list[Ended]:
        return self.step(CancelRequested(list(request_ids)), now=now)

    def take_sent(self) -> list[messages.Message]:
        """What was sent since the last call."""
        sent, self._sent = self._sent, []
        return sent


def welcomed() -> DrivenClient:
    """A client that the broker knows, with nothing in flight."""
    client = DrivenClient()
    client.connected(0.0)
    client.received(WELCOME, now=0.0)
    assert client.take_sent() == [HELLO]
    return client


def ends(ended: list[Ended]) -> list[tuple[object, Status]]:
    return [(end.sink, end.answer.status) for end in ended]


def ok(number: int) -> messages.Answer:
    return messages.Answer(number, Status.OK, b"done")


# --- requests


def test_what_is_cancelled_without_a_connection_is_told_with_the_next_hello() -> None:
    """The broker has the request, and would run what nobody wants."""
    client = welcomed()
    number, _ = client.submit(b"body")
    client.take_sent()
    client.disconnected(0.5)
    assert ends(client.cancel(number)) == [("sink", Status.CANCELLED)]
    for now in (1.0, 2.0):  # until a broker has heard it
        client.connected(now)
        assert client.take_sent() == [HELLO, messages.Cancel(number)]
        client.disconnected(now)
    client.connected(3.0)
    client.received(WELCOME, now=3.0)
    client.take_sent()
    client.disconnected(3.5)
    client.connected(4.0)
    assert client.take_sent() == [HELLO]


def test_a_cancel_that_a_hello_overtakes_is_told_with_it() -> None:
    client = welcomed()
    number, _ = client.submit(b"body")
    client.take_sent()
    client.step(CancelRequested([number]), BatchArrived([messages.HelloAgain()]), now=1.0)
    assert client.take_sent() == [HELLO, messages.Cancel(number)]


def test_cancels_that_are_kept_are_bounded() -> None:
    client = DrivenClient()
    for _ in range(CANCELLED_MAX + 5):
        number, _ = client.submit(b"")
        client.cancel(number)
    client.connected(1.0)
    told = client.take_sent()
    assert (len(told), told[-1]) == (1 + CANCELLED_MAX, messages.Cancel(CANCELLED_MAX + 5))


def test_a_request_and_its_answer() -> None:
    client = welcomed()
    number, _ = client.submit(b"body", 5.0, now=1.0)
    assert client.take_sent() == [messages.Request(number, "s", b"body", 4.0)]
    assert client.step(now=1.0) == []
    assert client.take_sent() == []
    assert client.received(ok(number), now=2.0) == [Ended("sink", ok(number), "s", "C1")]
    assert (client.core.ended, len(client.core.in_flight)) == (1, 0)


def test_a_batch_of_requests_has_ids_in_a_row_and_leaves_together() -> None:
    client = welcomed()
    (order,) = client.core.step([Submitted(7, "s", [b"a", b"b", b"c"], 5.0, "sink")], 1.0)
    assert order == events.Send([messages.Request(7 + n, "s", body, 4.0) for n, body in enumerate((b"a", b"b", b"c"))])
    assert ends(client.received(ok(9), ok(7), now=2.0)) == [("sink", Status.OK)] * 2
    assert list(client.core.in_flight) == [8]


def test_a_second_answer_is_nobodys() -> None:
    client = welcomed()
    number, _ = client.submit(b"body")
    assert len(client.received(ok(number), ok(number), ok(99), now=1.0)) == 1
    assert (client.core.late.unasked, client.core.late.repeated) == (2, 0)


def test_a_broker_that_was_met_anew_may_answer_again() -> None:
    """It was asked again what was in flight, and does not know which answers had arrived."""
    client = welcomed()
    ended, _ = client.submit(b"body")
    open_still, _ = client.submit(b"body")
    client.received(ok(ended), now=1.0)
    client.core.step([events.Disconnected(), events.Connected()], 2.0)
    client.received(WELCOME, ok(ended), ok(open_still), ok(open_still), now=3.0)
    assert (client.core.late.unasked, client.core.late.repeated) == (0, 2)
    later, _ = client.submit(b"body")
    client.received(ok(later), ok(later), now=4.0)
    assert (client.core.late.unasked, client.core.late.repeated) == (1, 2)


def test_what_is_submitted_without_a_connection_is_sent_with_the_first_hello() -> None:
    client = DrivenClient()
    client.submit(b"body", 5.0)
    assert client.take_sent() == []
    client.connected(2.0)
    assert client.take_sent() == [HELLO, messages.Request(1, "s", b"body", 3.0)]
    assert client.core.sent_again == 0
    assert client.resent == []


def test_everything_in_flight_is_sent_again_with_the_time_that_is_left() -> None:
    client = welcomed()
    client.submit(b"1", None, "one")
    client.submit(b"2", 5.0, "two")
    client.received(ok(1), now=1.0)
    client.take_sent()
    client.disconnected(1.5)
    client.connected(2.0)
    assert client.take_sent() == [HELLO, messages.Request(2, "s", b"2", 3.0)]
    assert client.core.sent_again == 1
    assert client.resent == [[2]]


def test_a_broker_that_stops_ends_nothing() -> None:
    """Its successor will be asked."""
    client = welcomed()
    client.submit(b"1")
    assert client.received(messages.Answer(1, Status.STOPPING, b""), now=1.0) == []
    assert list(client.core.in_flight) == [1]


def test_a_broker_that_does_not_know_us_is_told_all_again() -> None:
    client = welcomed()
    client.submit(b"1")
    client.take_sent()
    client.received(messages.HelloAgain(), now=1.0)
    assert [type(message) for message in client.take_sent()] == [messages.ClientHello, messages.Request]


def test_cancelled() -> None:
    client = welcomed()
    client.submit(b"1")
    client.take_sent()
    assert ends(client.cancel(1)) == [("sink", Status.CANCELLED)]
    assert client.take_sent() == [messages.Cancel(1)]
    assert client.cancel(1) == []
    assert client.received(ok(1), now=1.0) == []


def test_all_end_when_the_client_is_closed() -> None:
    client = welcomed()
    client.submit(b"1", None, "one")
    client.submit(b"2", None, "two")
    client.take_sent()
    ended = client.step(events.CloseRequested(), now=1.0)
    assert ends(ended) == [("one", Status.CANCELLED), ("two", Status.CANCELLED)]
    assert all(end.is_closed for end in ended)
    assert not client.core.in_flight
    assert client.take_sent() == [messages.Goodbye()]
    assert client.core.wake_at == math.inf


def test_a_client_that_is_closed_without_a_connection_says_nothing() -> None:
    client = DrivenClient()
    client.submit(b"1")
    assert len(client.step(events.CloseRequested(), now=1.0)) == 1
    assert client.take_sent() == []


def test_what_is_submitted_to_a_closed_client_ends_at_once() -> None:
    """Another thread could not know it yet."""
    client = welcomed()
    client.step(events.CloseRequested(), now=1.0)
    client.take_sent()
    _, (ended,) = client.submit(b"1")
    assert (ended.sink, ended.is_closed) == ("sink", True)
    assert client.take_sent() == []


# --- time


# --- big bodies


def test_a_big_body_waits_until_the_limit_is_known() -> None:
    body = bytes(UNASKED_BYTES + 1)
    client = DrivenClient()
    client.connected(0.0)
    client.submit(body, 5.0)
    assert client.take_sent() == [HELLO]
    client.received(WELCOME, now=1.0)
    assert client.take_sent() == [messages.Request(1, "s", body, 4.0)]


@pytest.mark.parametrize("is_known", [True, False], ids=["the limit is known", "not yet"])
def test_a_body_over_the_limit_is_not_sent(is_known: bool) -> None:
    client = DrivenClient()
    client.connected(0.0)
    if is_known:
        client.received(WELCOME, now=0.0)
    _, ended = client.submit(bytes(LIMIT + 1))
    if not is_known:
        assert ended == []
        ended = client.received(WELCOME, now=1.0)
    assert ends(ended) == [("sink", Status.TOO_BIG)]
    assert client.take_sent() == [HELLO]


def test_a_big_body_that_was_cancelled_meanwhile_is_not_sent() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.submit(bytes(UNASKED_BYTES + 1))
    client.cancel(1)
    client.received(WELCOME, now=1.0)
    assert client.take_sent() == [HELLO, messages.Cancel(1)]


# --- hellos


def connected() -> DrivenClient:
    client = DrivenClient()
    client.connected(0.0)
    client.submit(b"1")
    assert [type(message) for message in client.take_sent()] == [messages.ClientHello, messages.Request]
    return client


def test_an_unanswered_hello_is_said_again_with_all_that_is_in_flight() -> None:
    client = connected()
    client.received(messages.HelloAgain(), now=1.0)  # for what was said before the hello
    assert client.take_sent() == []
    assert client.core.wake_at == HELLO_PATIENCE_S
    client.step(now=HELLO_PATIENCE_S)
    assert [type(message) for message in client.take_sent()] == [messages.ClientHello, messages.Request]


def test_after_the_welcome_it_is_not() -> None:
    client = connected()
    client.received(WELCOME, now=1.0)
    assert client.core.wake_at == math.inf
    client.step(now=100.0)
    assert client.take_sent() == []


def test_nor_while_there_is_no_connection() -> None:
    client = connected()
    client.disconnected(1.0)
    assert client.core.wake_at == math.inf
    client.step(now=100.0)
    assert client.take_sent() == []


def test_a_refused_client_says_nothing_more() -> None:
    client = connected()
    refused = messages.Refused(messages.Refusal.BAD_HELLO, "no")
    (ended,) = client.received(refused, now=1.0)
    assert (ended.sink, ended.answer.status, ended.refused) == ("sink", Status.FAILED, refused)
    assert client.core.wake_at == math.inf
    client.disconnected(2.0)
    client.connected(3.0)
    assert client.take_sent() == []


def test_what_is_submitted_to_a_refused_client_ends_at_once() -> None:
    client = connected()
    refused = messages.Refused(messages.Refusal.BAD_HELLO, "no")
    client.received(refused, now=1.0)
    _, (ended,) = client.submit(b"1", now=2.0)
    assert (ended.answer.status, ended.refused) == (Status.FAILED, refused)
    assert client.take_sent() == []


def test_a_refused_id_is_tried_again_for_a_while() -> None:
    client = connected()
    refused = messages.Refused(messages.Refusal.DUPLICATE_ID, "C1 is here")
    now, tries = 0.0, 0
    ended: list[Ended] = []
    while not ended:
        ended = client.received(refused, now=now)
        now += HELLO_RETRY_S
        client.step(now=now)
        tries += len([message for message in client.take_sent() if isinstance(message, messages.ClientHello)])
    assert ends(ended) == [("sink", Status.FAILED)]
    assert client.core.refused == refused
    assert tries == DUPLICATE_PATIENCE_S / HELLO_RETRY_S


def test_and_for_as_long_after_the_next_connection() -> None:
    client = connected()
    refused = messages.Refused(messages.Refusal.DUPLICATE_ID, "C1 is here")
    client.received(refused, now=0.0)
    client.disconnected(50.0)
    client.connected(100.0)
    client.received(refused, now=100.0)
    assert client.core.refused is None


# --- no room on the connection


def test_what_there_was_no_room_for_is_sent_later_before_everything_else() -> None:
    client = welcomed()
    client.submit(b"1")
    unsent = client.take_sent()
    client.step(events.Unsent(unsent), now=1.0)
    client.submit(b"2", now=1.0)
    client.cancel(1, now=1.001)
    assert client.take_sent() == []
    assert client.core.wake_at == 1.0 + UNSENT_RETRY_S
    client.step(now=1.0 + UNSENT_RETRY_S)
    assert client.take_sent() == [*unsent, messages.Request(2, "s", b"2"), messages.Cancel(1)]
    assert client.core.wake_at == math.inf


def test_what_was_not_sent_is_not_sent_over_the_next_connection_twice() -> None:
    client = welcomed()
    client.submit(b"1")
    client.step(events.Unsent(client.take_sent()), now=1.0)
    client.disconnected(2.0)
    assert client.core.wake_at == math.inf
    client.connected(3.0)
    assert client.take_sent() == [HELLO, messages.Request(1, "s", b"1")]


def test_a_cancel_that_there_was_no_room_for_is_told_with_the_next_hello() -> None:
    client = welcomed()
    client.submit(b"1")
    client.take_sent()
    client.cancel(1)
    client.step(events.Unsent(client.take_sent()), now=1.0)
    client.disconnected(2.0)
    client.connected(3.0)
    assert client.take_sent() == [HELLO, messages.Cancel(1)]


def test_a_hello_that_there_was_no_room_for_is_said_once() -> None:
    client = connected()
    client.step(events.Unsent([HELLO]), now=HELLO_PATIENCE_S - UNSENT_RETRY_S / 2)
    client.step(now=HELLO_PATIENCE_S)
    assert client.take_sent() == [HELLO, messages.Request(1, "s", b"1")]


# --- what is easily forgotten


def test_what_is_too_big_is_told_without_delay() -> None:
    client = welcomed()
    _, ended = client.submit(bytes(LIMIT + 1))
    assert ends(ended) == [("sink", Status.TOO_BIG)]
    assert client.core.wake_at == math.inf


def test_a_big_body_is_sent_once_however_many_connections_it_took() -> None:
    client = DrivenClient()
    number, _ = client.submit(bytes(UNASKED_BYTES + 1))
    for now in (0.0, 1.0):
        client.connected(now)
        client.take_sent()
    client.received(WELCOME, now=1.0)
    assert [message.id for message in client.take_sent() if isinstance(message, messages.Request)] == [number]


def test_refusals_with_a_welcome_between_them_are_not_added_up() -> None:
    client = DrivenClient()
    refused = messages.Refused(messages.Refusal.DUPLICATE_ID, "a client called C1 lives")
    client.connected(0.0)
    client.received(refused, now=0.0)
    client.step(now=HELLO_RETRY_S)
    client.received(WELCOME, now=HELLO_RETRY_S)
    client.received(messages.HelloAgain(), now=100.0)
    client.received(refused, now=100.0)
    assert client.core.refused is None


def test_two_requests_for_a_hello_in_one_batch_are_answered_once() -> None:
    client = welcomed()
    client.received(messages.HelloAgain(), messages.HelloAgain(), now=1.0)
    assert client.take_sent() == [HELLO]


def test_a_welcome_that_comes_after_its_connection_is_none() -> None:
    """It was read late; the next connection begins with a hello."""
    client = connected()
    client.disconnected(1.0)
    client.received(WELCOME, now=1.0)
    assert (client.core.standing, client.core.broker) == (Standing.DISCONNECTED, None)


@pytest.mark.parametrize("standing", Standing)
def test_every_fact_makes_sense_wherever_the_client_stands(standing: Standing) -> None:
    """Facts of two threads may come in any order."""
    refused = messages.Refused(messages.Refusal.BAD_HELLO, "no")
    ways: dict[Standing, list[events.Fact]] = {
        Standing.DISCONNECTED: [],
        Standing.GREETING: [Connected()],
        Standing.WELCOMED: [Connected(), BatchArrived([WELCOME])],
        Standing.REFUSED: [Connected(), BatchArrived([refused])],
        Standing.CLOSED: [events.CloseRequested()],
    }
    later: list[events.Fact] = [
        Connected(),
        Disconnected(),
        *(BatchArrived([message]) for message in (WELCOME, messages.HelloAgain(), refused, ok(1), messages.Beat())),
        Submitted(2, "s", [b"2"], 9.0, "sink"),
        CancelRequested([1, 5]),
        events.CloseRequested(),
    ]
    for fact in later:
        client = DrivenClient()
        client.submit(b"1", now=0.0)
        client.step(*ways[standing], now=1.0)
        assert client.core.standing is standing
        client.step(fact, now=2.0)
        assert client.core.standing is standing or client.core.standing in TRANSITIONS[standing]
        client.step(now=20.0)
