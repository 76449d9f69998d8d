"""How long tickets are kept, how much room they take, and what becomes of them when the broker stops or compacts its journal."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import journal as journal_module
from cbw.core.broker import tickets as tickets_module
from cbw.core.broker.events import StopRequested
from cbw.core.messages import Answer, Started, Status

from .journaled import Journaled
from .system import CoreSystem, client_said
from .test_tickets import bodies, both, collect, ended, start, started


@both
def test_answers_are_kept_for_their_time(kind: type[CoreSystem]) -> None:
    system = ended(kind, results_keep_s=100.0)
    system.wait(99.0)
    collect(system, 1)
    assert system.answers() == [(1, Status.OK)]
    system.wait(2.0)
    collect(system, 2)
    assert system.answers() == [(2, Status.UNKNOWN_TICKET)]
    assert system.core.outbox.counts["results_expired"] == 1
    assert [r.request for r in system.records if r.event == "result_expired"] == ["ticket/t"]
    assert system.core.tickets.bytes == 0


def test_their_time_goes_on_after_a_crash_and_what_was_dropped_stays_so() -> None:
    system = ended(results_keep_s=100.0)
    system.client("C1")
    start(system, 1, ticket="later")
    system.wait(60.0)
    start(system, 2, ticket="last")
    system.crash(after_s=1000.0)  # while no broker runs, no time passes for them
    system.wait(35.0)
    assert system.core.tickets.results == 1
    system.wait(10.0)
    assert system.core.tickets.results == 0
    system.crash()
    assert list(system.core.tickets.rows) == ["later", "last"] and system.core.requests.count == 2


def test_a_million_do_not_end_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets_module, "EXPIRED_MAX", 3)
    system = CoreSystem(results_keep_s=10.0)
    system.worker("W1", concurrency=10)
    system.client("C1")
    for number in range(10):
        start(system, number, ticket=f"t{number}")
    system.answer_all("W1")
    system.now += 20.0
    system.tell()
    assert system.core.tickets.results == 7
    system.wait(0.5)
    assert system.core.tickets.results == 0


@both
def test_the_oldest_answers_make_room(kind: type[CoreSystem]) -> None:
    system = kind(results_bytes_max=7000)
    system.worker("W1", concurrency=10)
    system.client("C1")
    for number in range(4):
        start(system, number, ticket=f"t{number}")
        system.answer_all("W1")
    system.take("C1")
    start(system, 9, ticket="large", body=b"x" * 2000)
    system.answer_all("W1")
    assert list(system.core.tickets.rows) == ["t2", "t3", "large"]
    assert system.core.outbox.counts["results_dropped"] == 2
    assert "result_dropped" in system.events()
    if isinstance(system, Journaled):
        system.wait(0.2)
        system.crash()
        assert list(system.core.tickets.rows) == ["t2", "t3", "large"]


@both
def test_an_answer_for_which_there_is_no_room_is_told_and_pushes_nobody_out(kind: type[CoreSystem]) -> None:
    system = kind(results_bytes_max=5000)
    system.worker("W1", concurrency=10)
    system.client("C1")
    start(system, 1, ticket="small")
    system.answer_all("W1")
    start(system, 2, ticket="large", body=b"x" * 4000)
    collect(system, 3, ticket="large")
    system.answer_all("W1")
    assert bodies(system) == [(3, b"done " + b"x" * 4000)]
    assert list(system.core.tickets.rows) == ["small"]
    if isinstance(system, Journaled):
        system.wait(0.2)
        system.limits["results_bytes_max"] = 1000  # somebody has changed the setting
        system.crash()
        assert list(system.core.tickets.rows) == []


def test_without_answers_that_could_make_room_nothing_is_taken_on() -> None:
    system = CoreSystem(results_bytes_max=4000)
    for name in ("C1", "C2"):
        system.client(name)
    for number in range(3):
        start(system, number, ticket=f"t{number}")
    (answer,) = [m for m in system.take("C1") if isinstance(m, Answer)]
    assert (answer.id, answer.status) == (2, Status.BUSY) and b"--results-bytes-max" in answer.body
    for key in range(10, 15):
        collect(system, key, ticket="t0")
    assert system.answers() == [(13, Status.BUSY), (14, Status.BUSY)], "one client may take a quarter"
    collect(system, 1, ticket="t0", client="C2")
    assert system.answers("C2") == [(1, Status.BUSY)], "there is no room for anybody"
    assert list(system.core.tickets.rows) == ["t0", "t1"]


def test_what_a_client_is_told_not_to_be_taken_on_is_not() -> None:
    system = Journaled(results_bytes_max=12_000, is_slow=True)
    system.client("C1")
    system.client("C2")
    system.store()
    for key in range(12):
        start(system, key, ticket="t" if key < 8 else f"t{key}")
    assert system.answers() == [(10, Status.BUSY), (11, Status.BUSY)]
    assert list(system.core.tickets.rows) == ["t", "t8", "t9"]
    start(system, 1, client="C2")
    system.store()
    assert [key for key, _ in started(system)] == list(range(10))
    assert [key for key, _ in started(system, "C2")] == [1]


def test_a_broker_at_its_limit_says_so() -> None:
    system = Journaled(requests_max=1)
    system.client("C1")
    start(system, 1)
    start(system, 2, ticket="u")
    assert system.answers() == [(2, Status.BUSY)]
    assert list(system.core.tickets.rows) == ["t"]


@both
def test_a_broker_that_stops(kind: type[CoreSystem]) -> None:
    """Without a journal a ticket ends with it. A client asks its successor, who does not know the ticket."""
    system = kind()
    system.client("C1")
    start(system, 1)
    collect(system, 2)
    system.take("C1")
    system.tell(StopRequested(system.now + 10.0))
    start(system, 3, ticket="u")
    answers = [(2, Status.STOPPING)] if kind is CoreSystem else []
    assert system.answers() == [*answers, (3, Status.STOPPING)]
    assert list(system.core.tickets.rows) == ([] if kind is CoreSystem else ["t"])


def test_what_is_kept_survives_that_the_journal_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 10_000)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1000)
    system = ended(results_keep_s=200.0)
    start(system, 2, ticket="waits", service="nobody")
    system.wait(20.0)
    system.worker("W1")
    for number in range(10, 500):
        system.ask(number)
        system.answer_all("W1")
        system.tell(client_said(b"C1", [messages.Received([number])]))
        system.wait(0.05, "W1")
    assert min(system.stored) > 10 and sum(map(len, system.stored.values())) < 50_000
    system.crash()
    system.client("C1", boot="another")
    start(system, 1, body=b"another")
    start(system, 2, ticket="waits", service="nobody")
    collect(system, 3)
    said = system.take("C1")
    assert [type(m) for m in said] == [messages.Welcome, Answer, Started, Answer]
    assert [m.status for m in said if isinstance(m, Answer)] == [Status.TICKET_TAKEN, Status.OK]
    system.wait(160.0)
    assert list(system.core.tickets.rows) == ["waits"]
    system.worker("W2", services=("nobody",))
    assert system.bodies("W2") == [1]


def test_a_start_without_room_is_counted_as_refused_for_want_of_room() -> None:
    system = CoreSystem(results_bytes_max=100)
    system.client("C1")
    start(system, 1, ticket="t")
    assert system.answers() == [(1, Status.BUSY)]
    counts = system.core.outbox.counts
    assert (counts["requests_refused"], counts["refused_busy"]) == (1, 1)
