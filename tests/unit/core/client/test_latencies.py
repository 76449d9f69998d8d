"""How long requests took for their client: from when the program made them to their ends."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.client import core as core_module
from cbw.core.client.events import CollectRequested, StartRequested, StreamRequested, Submitted
from cbw.core.messages import Status
from cbw.core.parts import streamed_body

from .test_core import DrivenClient, ok, welcomed


def taken(client: DrivenClient) -> dict[str, tuple[int, float]]:
    """How many requests of each service were timed, and how many seconds they took together."""
    told = client.core.latencies.look().shown("requests")["service_durations"]
    return {row["service"]: (sum(row["requests"]["counts"]), round(row["requests"]["total_s"], 6)) for row in told}


def test_it_counts_from_when_the_program_made_the_request() -> None:
    """The loop may have been busy before the core was told."""
    client = welcomed()
    client.step(Submitted(1, "s", [b"x", b"y"], None, "sink", submitted_at=1.0), now=1.5)
    client.received(ok(1), ok(2), now=3.0)
    assert taken(client) == {"s": (2, 4.0)}


def test_an_error_is_an_answer() -> None:
    client = welcomed()
    number, _ = client.submit(b"x", now=1.0)
    client.received(messages.Answer(number, Status.FAILED, messages.error_body("E", "no")), now=1.5)
    assert taken(client) == {"s": (1, 0.5)}


def test_a_stream_takes_until_its_last_part() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.received(messages.Welcome("BRO", "boot", 3.0, 1000, takes_streams=True), now=0.0)
    request = messages.StreamRequest(1, "tell", b"x", parts=8)
    client.step(StreamRequested(request, None, "sink", submitted_at=1.0), now=1.0)
    client.received(messages.AnswerPart(1, 1, b"a"), now=2.0)
    assert taken(client) == {}
    client.received(messages.Answer(1, Status.STREAMED, streamed_body(1)), now=5.0)
    assert taken(client) == {"tell": (1, 4.0)}


def test_what_has_no_answer_in_time_has_taken_that_long() -> None:
    """Or a service that hangs would look quick."""
    away = DrivenClient()
    away.submit(b"x", 5.0, now=1.0)
    assert [end.answer.status for end in away.step(now=5.0)] == [Status.EXPIRED]
    assert taken(away) == {"s": (1, 4.0)}
    client = welcomed()
    number, _ = client.submit(b"x", 5.0, now=1.0)
    assert client.step(now=5.0) == [], "the broker is asked where it is"
    client.received(messages.Answer(number, Status.CANCELLED, messages.error_body("cancelled", "")), now=5.01)
    assert taken(client) == {"s": (1, 4.01)}


def test_what_the_program_gives_up_says_nothing_of_the_service() -> None:
    client = welcomed()
    number, _ = client.submit(b"x", now=1.0)
    assert len(client.cancel(number, now=2.0)) == 1
    assert taken(client) == {}


def test_what_is_asked_under_a_ticket_is_no_request_that_the_program_waits_for() -> None:
    client = DrivenClient()
    client.step(StartRequested(messages.Start(1, "t", "s", b"x"), 2.0, None, "sink"), now=1.0)
    client.step(CollectRequested(2, "t", 2.0, "sink"), now=1.0)
    assert len(client.step(now=2.0)) == 2
    assert taken(client) == {}


def test_what_nobody_looks_at_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "UNCOUNTED_MAX", 3)
    client = welcomed()
    client.core._count_at = 3
    for _ in range(4):
        numbers = [client.submit(b"x", now=1.0)[0] for _ in range(2)]
        client.received(*map(ok, numbers), now=2.0)
        assert sum(map(len, client.core.latencies.remembered.values())) < 3
    assert taken(client) == {"s": (8, 8.0)}
