"""How long a journal gets: what has ended is dropped, and what is needed is written again; nearly full, it takes little."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import journal as journal_module
from cbw.core.broker.events import JournalFilled
from cbw.core.messages import Status
from cbw.wire import lab

from .journaled import Journaled
from .system import client_said, req_ready, worker_said


@pytest.mark.parametrize("count", [1, 7])
def test_the_journal_does_not_grow_with_what_has_ended(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 10_000)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1000)
    system = Journaled()
    system.client("C1")
    system.client("C2")
    system.ask(*range(1000, 1000 + count), client="C2", service="nobody serves this")
    system.tell(req_ready(b"P1"))
    system.worker("W1", credit=100, concurrency=100)
    for number in range(1, 500):
        system.ask(number)
        system.answer_all("W1")
        system.tell(client_said(b"C1", [messages.Received([number])]))
        system.wait(0.05, "W1")
    assert sum(map(len, system.stored.values())) < 50_000
    system.crash()
    assert system.core.requests.count == count
    system.client("C2")
    system.worker("W2", services=("nobody serves this",), concurrency=count)
    assert system.bodies("W2") == list(range(1000, 1000 + count))
    assert [peer for peer, dialect in system.core.workers.returning if dialect is lab.LAB] == [b"P1"]


def test_headers_of_what_an_earlier_broker_accepted_are_needed_no_longer_than_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 10_000)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1000)
    system = Journaled()
    system.client("C1")
    system.ask(1000, service="nobody serves this")  # it stands before them, and is needed
    headers = {"baggage": "x" * 8000}
    system.tell(client_said(b"C1", [messages.Request(number, "s", b"", headers=headers) for number in range(1, 21)]))
    system.crash()
    assert sum(map(len, system.stored.values())) > 160_000
    system.client("C1")
    system.worker("W1", credit=100, concurrency=100)
    system.answer_all("W1")
    system.tell(client_said(b"C1", [messages.Received([*range(1, 21)])]))
    system.wait(1.0, "W1")
    assert sum(map(len, system.stored.values())) < 20_000


def test_a_journal_with_little_room_is_made_shorter_also_when_nothing_happens() -> None:
    system = Journaled()
    system.client("C1")
    system.ask(1, service="nobody serves this")
    system.worker("W1", credit=100, concurrency=100)
    for number in range(2, 400):
        system.ask(number)
        system.answer_all("W1")
        system.tell(client_said(b"C1", [messages.Received([number])]))
    system.wait(1.0, "W1")
    before = len(system.stored)
    assert before > 300
    system.tell(JournalFilled(0.6))
    system.wait(1.0, "W1")
    assert len(system.stored) < before / 4
    system.crash()
    assert system.core.requests.count == 1


def test_a_journal_that_is_nearly_full_takes_no_new_requests_until_there_is_room() -> None:
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    system.tell(JournalFilled(0.9))
    system.ask(2)
    assert system.answers() == [(2, Status.BUSY)]
    system.answer_all("W1")
    assert system.answers() == [(1, Status.OK)], "what was accepted goes on"
    system.tell(JournalFilled(0.7))
    system.ask(3)
    assert system.answers() == [(3, Status.BUSY)], "else it would change its mind all the time"
    system.tell(JournalFilled(0.6))
    system.ask(4)
    system.answer_all("W1")
    assert system.answers() == [(4, Status.OK)]


def test_a_journal_that_is_nearly_full_gets_one_answer_at_a_time_from_each_worker() -> None:
    """Many at once may need more room than there is, and none of them makes any before it is stored."""
    system = Journaled()
    system.client("C1")
    for number in range(1, 8):
        system.ask(number)
    system.tell(JournalFilled(0.9))
    system.is_slow = True
    system.worker("W1", credit=6, concurrency=1)
    (first,) = system.take_tasks("W1")
    system.wait(0.05)
    system.answer("W1", first)
    system.wait(0.05)
    assert system.bodies("W1") == [], "its answer is not stored"
    system.store()
    assert system.bodies("W1") == [2]
    system.tell(JournalFilled(0.5))
    system.store()
    system.wait(0.05)
    assert system.bodies("W1") == [3, 4, 5, 6, 7], "there is room for as much as it wants"


def test_what_runs_is_still_known_after_it_was_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 2000)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 500)
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    (task,) = system.take_tasks("W1")
    system.worker("W2", services=("t",))
    for number in range(2, 100):
        system.ask(number, service="t")
        system.answer_all("W2")
        system.tell(client_said(b"C1", [messages.Received([number])]))
        system.wait(0.05, "W1", "W2")
    assert min(system.stored) > 10
    system.crash()
    system.tell(worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 1, 1, [task.id])]))
    system.client("C1")
    system.answer("W1", task)
    assert system.answers() == [(1, Status.OK)]


@pytest.mark.parametrize("count", [20, 21, 22, 23])
def test_requests_keep_their_order_when_only_some_were_written_again(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 0)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1)
    monkeypatch.setattr(journal_module, "REWRITE_BYTES", 1)
    system = Journaled()
    system.client("C1")
    for number in range(1, 5):
        system.ask(number, service="t")
    system.worker("W1")
    for number in range(10, 10 + count):
        system.ask(number)
        system.answer_all("W1")
        system.tell(client_said(b"C1", [messages.Received([number])]))
    system.crash()
    system.client("C1")
    system.worker("W2", services=("t",), concurrency=4)
    assert system.bodies("W2") == [1, 2, 3, 4]
