"""The client core: what is sent when, how requests end, and what is said again after a lost connection."""

from __future__ import annotations

import math

import pytest

from cbw.core import messages as m
from cbw.core.client import (
    CANCELLED_MAX,
    EXPIRY_STEP_S,
    HELLO_PATIENCE_S,
    UNASKED_BYTES,
    ClientCore,
    Ended,
)
from cbw.core.hello import DUPLICATE_PATIENCE_S, HELLO_RETRY_S
from cbw.core.messages import Status

LIMIT = 1 << 20
WELCOME = m.Welcome("BRO", "boot", 3.0, LIMIT)
HELLO = m.ClientHello("C1", "boot")


def welcomed() -> ClientCore:
    """A client that the broker knows, with nothing in flight."""
    core = ClientCore("C1", "boot")
    core.connected(0.0)
    core.received([WELCOME], 0.0)
    assert core.take_messages() == [HELLO]
    return core


def ends(ended: list[Ended]) -> list[tuple[object, Status]]:
    return [(end.sink, end.answer.status) for end in ended]


def ok(number: int) -> m.Answer:
    return m.Answer(number, Status.OK, b"done")


# --- requests


def test_what_is_cancelled_without_a_connection_is_told_with_the_next_hello() -> None:
    """The broker has the request, and would run what nobody wants."""
    core = welcomed()
    number = core.submit("s", b"body", None, 0.0, "sink")
    core.take_messages()
    core.disconnected()
    assert core.cancel(number) is not None
    for now in (1.0, 2.0):  # until a broker has heard it
        core.connected(now)
        assert core.take_messages() == [HELLO, m.Cancel(number)]
        core.disconnected()
    core.connected(3.0)
    core.received([WELCOME], 3.0)
    core.take_messages()
    core.disconnected()
    core.connected(4.0)
    assert core.take_messages() == [HELLO]


def test_a_cancel_that_a_hello_overtakes_is_told_with_it() -> None:
    core = welcomed()
    number = core.submit("s", b"body", None, 0.0, "sink")
    core.take_messages()
    core.cancel(number)
    core.received([m.HelloAgain()], 1.0)
    assert core.take_messages() == [HELLO, m.Cancel(number)]


def test_cancels_that_are_kept_are_bounded() -> None:
    core = ClientCore("C1", "boot")
    for _ in range(CANCELLED_MAX + 5):
        core.cancel(core.submit("s", b"", None, 0.0, "sink"))
    core.connected(1.0)
    told = core.take_messages()
    assert (len(told), told[-1]) == (1 + CANCELLED_MAX, m.Cancel(CANCELLED_MAX + 5))


def test_a_request_and_its_answer() -> None:
    core = welcomed()
    number = core.submit("s", b"body", 5.0, 1.0, "sink")
    assert core.take_messages() == [m.Request(number, "s", b"body", 4.0)]
    assert core.take_messages() == []
    assert core.received([ok(number)], 2.0) == [Ended("sink", ok(number), "s")]
    assert (core.submitted, len(core.in_flight)) == (1, 0)


def test_a_second_answer_is_nobodys() -> None:
    core = welcomed()
    number = core.submit("s", b"body", None, 0.0, "sink")
    assert len(core.received([ok(number), ok(number), ok(99)], 1.0)) == 1


def test_what_is_submitted_without_a_connection_is_sent_with_the_first_hello() -> None:
    core = ClientCore("C1", "boot")
    core.submit("s", b"body", 5.0, 0.0, "sink")
    assert core.take_messages() == []
    core.connected(2.0)
    assert core.take_messages() == [HELLO, m.Request(1, "s", b"body", 3.0)]
    assert core.sent_again == 0


def test_everything_in_flight_is_sent_again_with_the_time_that_is_left() -> None:
    core = welcomed()
    core.submit("s", b"1", None, 0.0, "one")
    core.submit("s", b"2", 5.0, 0.0, "two")
    core.received([ok(1)], 1.0)
    core.take_messages()
    core.disconnected()
    core.connected(2.0)
    assert core.take_messages() == [HELLO, m.Request(2, "s", b"2", 3.0)]
    assert core.sent_again == 1


def test_a_broker_that_stops_ends_nothing() -> None:
    """Its successor will be asked."""
    core = welcomed()
    core.submit("s", b"1", None, 0.0, "sink")
    assert core.received([m.Answer(1, Status.STOPPING, b"")], 1.0) == []
    assert list(core.in_flight) == [1]


def test_a_broker_that_does_not_know_us_is_told_all_again() -> None:
    core = welcomed()
    core.submit("s", b"1", None, 0.0, "sink")
    core.take_messages()
    core.received([m.HelloAgain()], 1.0)
    assert [type(message) for message in core.take_messages()] == [m.ClientHello, m.Request]


def test_cancelled() -> None:
    core = welcomed()
    core.submit("s", b"1", None, 0.0, "sink")
    core.take_messages()
    ended = core.cancel(1)
    assert ended is not None and ends([ended]) == [("sink", Status.CANCELLED)]
    assert core.take_messages() == [m.Cancel(1)]
    assert core.cancel(1) is None
    assert core.received([ok(1)], 1.0) == []


def test_all_end_when_the_client_is_closed() -> None:
    core = welcomed()
    core.submit("s", b"1", None, 0.0, "one")
    core.submit("s", b"2", None, 0.0, "two")
    assert ends(core.fail_all(Status.CANCELLED, "closed")) == [("one", Status.CANCELLED), ("two", Status.CANCELLED)]
    assert not core.in_flight


# --- time


def test_a_deadline_ends_the_wait_and_tells_the_broker() -> None:
    core = welcomed()
    core.submit("s", b"1", 5.0, 0.0, "early")
    core.submit("s", b"2", 9.0, 0.0, "late")
    core.take_messages()
    assert core.wake_at == 5.0
    assert core.tick(4.9) == []
    assert ends(core.tick(5.0)) == [("early", Status.EXPIRED)]
    assert core.take_messages() == [m.Cancel(1)]
    assert core.wake_at == 9.0


def test_deadlines_side_by_side_are_not_looked_at_one_by_one() -> None:
    core = welcomed()
    core.submit("s", b"1", 5.0, 0.0, "one")
    core.submit("s", b"2", 5.0 + EXPIRY_STEP_S / 2, 0.0, "two")
    core.tick(5.0)
    assert core.wake_at == 5.0 + EXPIRY_STEP_S
    assert ends(core.tick(5.0 + EXPIRY_STEP_S)) == [("two", Status.EXPIRED)]


def test_a_deadline_without_a_broker() -> None:
    core = ClientCore("C1", "boot")
    core.submit("s", b"1", 5.0, 0.0, "sink")
    (ended,) = core.tick(5.0)
    assert m.error_of(ended.answer.body) == ("expired", "the broker was not reached in time")
    assert core.take_messages() == []


# --- big bodies


def test_a_big_body_waits_until_the_limit_is_known() -> None:
    body = bytes(UNASKED_BYTES + 1)
    core = ClientCore("C1", "boot")
    core.connected(0.0)
    core.submit("s", body, 5.0, 0.0, "sink")
    assert core.take_messages() == [HELLO]
    core.received([WELCOME], 1.0)
    assert core.take_messages() == [m.Request(1, "s", body, 4.0)]


@pytest.mark.parametrize("is_known", [True, False], ids=["the limit is known", "not yet"])
def test_a_body_over_the_limit_is_not_sent(is_known: bool) -> None:
    core = ClientCore("C1", "boot")
    core.connected(0.0)
    if is_known:
        core.received([WELCOME], 0.0)
    core.submit("s", bytes(LIMIT + 1), None, 0.0, "sink")
    ended = core.received([] if is_known else [WELCOME], 1.0) or core.tick(1.0)
    assert ends(ended) == [("sink", Status.TOO_BIG)]
    assert core.take_messages() == [HELLO]


def test_a_big_body_that_was_cancelled_meanwhile_is_not_sent() -> None:
    core = ClientCore("C1", "boot")
    core.connected(0.0)
    core.submit("s", bytes(UNASKED_BYTES + 1), None, 0.0, "sink")
    core.cancel(1)
    core.received([WELCOME], 1.0)
    assert core.take_messages() == [HELLO, m.Cancel(1)]


# --- hellos


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
    assert core.wake_at == math.inf
    core.tick(100.0)
    assert core.take_messages() == []


def test_nor_while_there_is_no_connection() -> None:
    core = connected()
    core.disconnected()
    assert core.wake_at == math.inf
    core.tick(100.0)
    assert core.take_messages() == []


def test_a_refused_client_says_nothing_more() -> None:
    core = connected()
    (ended,) = core.received([m.Refused(m.Refusal.BAD_HELLO, "no")], 1.0)
    assert (ended.sink, ended.answer.status) == ("sink", Status.FAILED)
    assert core.wake_at == math.inf


def test_a_refused_id_is_tried_again_for_a_while() -> None:
    core = connected()
    refused = m.Refused(m.Refusal.DUPLICATE_ID, "C1 is here")
    now, tries = 0.0, 0
    ended: list[Ended] = []
    while not ended:
        ended = core.received([refused], now)
        now += HELLO_RETRY_S
        core.tick(now)
        tries += len([message for message in core.take_messages() if isinstance(message, m.ClientHello)])
    assert ends(ended) == [("sink", Status.FAILED)]
    assert core.refused == refused
    assert tries == DUPLICATE_PATIENCE_S / HELLO_RETRY_S


def test_and_for_as_long_after_the_next_connection() -> None:
    core = connected()
    refused = m.Refused(m.Refusal.DUPLICATE_ID, "C1 is here")
    core.received([refused], 0.0)
    core.disconnected()
    core.connected(100.0)
    core.received([refused], 100.0)
    assert core.refused is None


# --- what is easily forgotten


def test_what_is_too_big_is_told_without_delay() -> None:
    core = welcomed()
    core.submit("s", bytes(LIMIT + 1), None, 0.0, "sink")
    assert core.wake_at == 0.0
    assert ends(core.tick(0.0)) == [("sink", Status.TOO_BIG)]
    assert core.wake_at == math.inf


def test_a_big_body_is_sent_once_however_many_connections_it_took() -> None:
    core = ClientCore("C1", "boot")
    number = core.submit("s", bytes(UNASKED_BYTES + 1), None, 0.0, "sink")
    for now in (0.0, 1.0):
        core.connected(now)
        core.take_messages()
    core.received([WELCOME], 1.0)
    assert [message.id for message in core.take_messages() if isinstance(message, m.Request)] == [number]


def test_refusals_with_a_welcome_between_them_are_not_added_up() -> None:
    core = ClientCore("C1", "boot")
    refused = m.Refused(m.Refusal.DUPLICATE_ID, "a client called C1 lives")
    core.connected(0.0)
    core.received([refused], 0.0)
    core.tick(HELLO_RETRY_S)
    core.received([WELCOME], HELLO_RETRY_S)
    core.received([m.HelloAgain()], 100.0)
    core.received([refused], 100.0)
    assert core.refused is None


def test_two_requests_for_a_hello_in_one_batch_are_answered_once() -> None:
    core = welcomed()
    core.received([m.HelloAgain(), m.HelloAgain()], 1.0)
    assert core.take_messages() == [HELLO]
