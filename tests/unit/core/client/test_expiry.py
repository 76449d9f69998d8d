"""A request whose deadline passes: its client asks the broker where it was, and waits for that no longer than a moment."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.client.core import EXPIRY_STEP_S, OVERDUE_S, ROUND_TRIP_S_MAX
from cbw.core.client.events import Ended
from cbw.core.messages import Refusal, Status, error_of

from .test_core import HELLO, WELCOME, DrivenClient, ends, ok, welcomed

LATE = messages.Cancel(1, is_late=True)


def why(ended: list[Ended]) -> tuple[str, str]:
    """The kind and the text of the one that has ended with ``EXPIRED``."""
    (one,) = ended
    assert one.answer.status is Status.EXPIRED
    return error_of(one.answer.body)


def overdue() -> DrivenClient:
    """A client whose request 1 has had its time, at 5.0."""
    client = welcomed()
    client.submit(b"1", 5.0, "early")
    client.submit(b"2", 9.0, "late")
    client.take_sent()
    assert client.core.wake_at == 5.0
    assert client.step(now=4.9) == []
    assert client.step(now=5.0) == []
    assert client.take_sent() == [LATE]
    return client


def test_the_broker_says_where_it_was() -> None:
    client = overdue()
    body = messages.error_body("worker", "no answer in time: worker W1 has had it for 5 s")
    assert why(client.received(messages.Answer(1, Status.EXPIRED, body), now=5.001)) == error_of(body)
    assert client.step(now=8.9) == []
    assert client.core.wake_at == 9.0


def test_an_answer_that_crosses_the_question_is_the_answer() -> None:
    client = overdue()
    assert ends(client.received(ok(1), now=5.001)) == [("early", Status.OK)]


def test_a_broker_that_does_not_answer_is_not_waited_for() -> None:
    client = overdue()
    assert client.core.wake_at == pytest.approx(5.0 + OVERDUE_S)
    assert client.step(now=5.0 + OVERDUE_S / 2) == []
    assert why(client.step(now=5.0 + OVERDUE_S)) == (
        "unreachable",
        "no answer in time, and the broker does not say where the request is",
    )
    assert client.take_sent() == [], "it was told before"


def test_a_broker_that_is_far_away_has_its_round_trip() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.received(WELCOME, now=0.3)
    client.submit(b"1", 5.0, now=0.3)
    client.step(now=5.0)
    assert client.step(now=5.3) == []
    assert why(client.step(now=5.0 + OVERDUE_S + 0.3))[0] == "unreachable"


def test_a_broker_that_took_long_once_is_not_waited_for_as_long() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.received(WELCOME, now=2.5)
    client.submit(b"1", 5.0, now=2.5)
    client.step(now=5.0)
    assert client.step(now=5.0 + OVERDUE_S + ROUND_TRIP_S_MAX) != []


def test_an_earlier_broker_only_says_that_it_was_cancelled() -> None:
    client = overdue()
    cancelled = messages.Answer(1, Status.CANCELLED, messages.error_body("cancelled", "cancelled by the client"))
    assert why(client.received(cancelled, now=5.001)) == ("expired", "no answer in time")


def test_what_is_overdue_is_not_sent_again_over_a_new_connection() -> None:
    client = overdue()
    client.disconnected(5.01)
    client.connected(5.02)
    hello, again = client.take_sent()
    assert hello == HELLO and isinstance(again, messages.Request) and again.id == 2
    assert why(client.step(now=5.1)) == ("unreachable", "the broker was not reached in time")


def test_deadlines_side_by_side_are_not_looked_at_one_by_one() -> None:
    client = DrivenClient()
    client.submit(b"1", 5.0, "one")
    client.submit(b"2", 5.0 + EXPIRY_STEP_S / 2, "two")
    client.step(now=5.0)
    assert client.core.wake_at == 5.0 + EXPIRY_STEP_S
    assert ends(client.step(now=5.0 + EXPIRY_STEP_S)) == [("two", Status.EXPIRED)]


def test_without_a_broker() -> None:
    client = DrivenClient()
    client.submit(b"1", 5.0)
    assert why(client.step(now=5.0)) == ("unreachable", "the broker was not reached in time")
    assert client.take_sent() == []


def test_while_the_broker_does_not_let_this_client_in() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.submit(b"1", 1.0)
    client.received(messages.Refused(Refusal.DUPLICATE_ID, "a client called 'C1' lives"), now=0.1)
    kind, text = why(client.step(now=1.0))
    assert kind == "refused" and text.endswith("a client called 'C1' lives")
    client.received(WELCOME, now=1.1)
    client.submit(b"2", 2.0, now=1.2)
    client.step(now=2.0)
    assert why(client.step(now=3.0))[0] == "unreachable", "that is over"
