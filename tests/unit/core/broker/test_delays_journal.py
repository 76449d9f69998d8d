"""Delays with a journal: they go on after a crash, and so does the count of retries."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import journal as journal_module
from cbw.core.broker.events import StopRequested
from cbw.core.broker.snapshot import snapshot
from cbw.core.messages import Status

from .journaled import Journaled
from .system import client_said
from .test_delays import ask_later, error, retry


def begin(*, is_slow: bool = False, ttl: float | None = None) -> Journaled:
    system = Journaled(is_slow=is_slow)
    system.worker("W1")
    system.client("C1")
    system.ask(1, ttl=ttl)
    return system


def come_back(system: Journaled) -> None:
    system.client("C1")
    system.worker("W1")
    system.take("C1")


def the_task(system: Journaled, worker: str = "W1") -> messages.Task:
    (task,) = (each for each in system.take(worker) if isinstance(each, messages.Task))
    return task


def test_a_delay_goes_on_after_a_crash_but_not_while_no_broker_runs() -> None:
    system = begin()
    retry(system, after_s=3.0)
    system.wait(1.0, "W1")
    ask_later(system, 2, delay_s=60.0)  # the journal's clock is as late as its last batch
    system.crash(after_s=100.0)
    come_back(system)
    system.wait(1.9, "W1")
    assert system.take_tasks("W1") == []
    system.wait(0.3, "W1")
    task = the_task(system)
    assert (task.body, task.retries) == (b"1", 1)


def test_retries_are_counted_over_crashes() -> None:
    system = begin()
    for used in range(3):
        retry(system, after_s=0.5)
        system.wait(0.1, "W1")
        system.crash()
        come_back(system)
        system.wait(0.6, "W1")
        assert system.core.requests.count == 1
        (row,) = system.core.workers.by_peer.values()
        (entry,) = row.in_hand.values()
        assert entry.delay is not None and entry.delay.retries == used + 1


def test_they_are_counted_too_if_the_crash_is_between_a_retry_and_its_next_attempt() -> None:
    system = begin()
    retry(system, after_s=0.5)
    system.lose_worker("W1")
    system.wait(1.0)  # it is due, and nobody is there
    system.ask(2)
    system.crash()
    come_back(system)
    assert the_task(system).retries == 1


def test_a_crash_while_the_next_attempt_runs_counts_an_attempt_and_keeps_the_retries() -> None:
    system = begin()
    retry(system, after_s=0.5)
    system.wait(0.6, "W1")
    assert the_task(system).retries == 1
    system.wait(0.1, "W1")
    system.crash()
    system.client("C1")
    system.wait(3.5)  # its worker does not come back
    system.worker("W2")
    task = the_task(system, "W2")
    assert (task.attempt, task.retries) == (2, 1)


def test_what_is_due_waits_behind_what_could_begin_before_it_also_after_a_crash() -> None:
    system = Journaled()
    system.client("C1")
    ask_later(system, 1, delay_s=5.0)
    system.wait(1.0, "C1")
    system.ask(2)
    system.wait(6.0, "C1")  # the first is due, and nobody is there
    system.ask(3)  # the journal's clock is as late as its last batch
    system.crash()
    (service,) = snapshot(system.core, system.now)["services"]
    assert service["oldest_s"] == pytest.approx(6.0)
    system.client("C1")
    system.worker("W1")
    assert the_task(system).body == b"2"


def test_a_delay_that_is_not_stored_is_lost_with_its_broker() -> None:
    """It is as if the answer of the worker had not arrived."""
    system = begin(is_slow=True)
    system.store()
    system.wait(0.1, "W1")
    system.store()
    retry(system, after_s=60.0)
    system.wait(0.1, "W1")
    system.crash()
    come_back(system)
    system.store()
    assert the_task(system).retries == 0


def test_a_delayed_request_is_delayed_when_it_is_stored() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    ask_later(system, 1, delay_s=1.0)
    system.wait(2.0, "W1")
    assert system.take_tasks("W1") == []
    system.store()
    assert system.bodies("W1") == [1], "the time counts from its acceptance"


def test_one_whose_delay_and_deadline_pass_while_it_is_stored_expires() -> None:
    system = Journaled(is_slow=True)
    system.worker("W1")
    system.client("C1")
    ask_later(system, 1, delay_s=1.0, ttl=2.0)
    system.wait(2.5, "W1")
    system.store()
    assert system.take_tasks("W1") == []
    system.store()
    assert system.answers() == [(1, Status.EXPIRED)]


def test_a_delayed_request_survives_with_the_rest_of_its_time() -> None:
    system = Journaled()
    system.client("C1")
    ask_later(system, 1, delay_s=5.0, ttl=20.0)
    system.wait(2.0)
    system.ask(2)
    system.crash()
    come_back(system)
    assert system.bodies("W1") == [2]
    system.answer("W1", messages.Task(2000, "s", b"2", None, 1))
    system.wait(2.9, "W1")
    assert system.bodies("W1") == []
    system.wait(0.2, "W1")
    task = the_task(system)
    assert task.ttl is not None and task.ttl == pytest.approx(15.0, abs=0.1)


def test_an_end_while_it_is_delayed_is_the_end_of_its_delay() -> None:
    system = Journaled()
    system.client("C1")
    ask_later(system, 1, delay_s=1.0)
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    system.crash()
    come_back(system)
    system.wait(1.5, "W1")
    assert system.bodies("W1") == []


def test_the_deadline_is_kept_after_a_crash() -> None:
    system = begin(ttl=3.0)
    retry(system, after_s=2.0)
    system.wait(0.5, "W1")
    system.crash()
    system.client("C1")
    system.wait(4.0)
    status, _, text = error(system)
    assert status is Status.EXPIRED and "at last with ConnectionError: no route" in text


def test_a_broker_that_stops_keeps_it_for_the_next_one() -> None:
    system = begin()
    retry(system, after_s=2.0)
    system.tell(StopRequested(system.now + 5.0))
    assert system.answers() == []
    system.crash()
    come_back(system)
    system.wait(2.1, "W1")
    assert the_task(system).retries == 1


def test_compaction_keeps_delays_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SLACK_BYTES", 0)
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1)
    system = begin()
    retry(system, after_s=50.0)
    ask_later(system, 2, delay_s=40.0)
    first = min(system.stored)
    system.worker("W2", services=("t",))
    for number in range(10, 60):
        system.ask(number, service="t")
        system.answer_all("W2")
        system.tell(client_said(b"C1", [messages.Received([number])]))
        system.wait(0.1, "W1", "W2")
    assert min(system.stored) > first
    system.crash()
    come_back(system)
    assert len(system.core.requests.dispatcher.delays) == 2
    system.wait(46.0, "W1")
    system.answer("W1", *system.take_tasks("W1"))
    system.wait(5.0, "W1")
    assert the_task(system).retries == 1
