"""What the journal knows of workers, and of what they have been given."""

from __future__ import annotations

import pytest

from cbw.core import catalogue, messages
from cbw.core.broker import journal as journal_module
from cbw.core.broker.replay import Replay

from .journaled import Journaled
from .system import client_said, req_ready, worker_said


def test_one_that_came_before_others_is_known_however_much_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 1000)
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    for number in range(1, 200):
        if number in (1, 100):
            system.tell(req_ready(b"P%d" % number))
        system.ask(number)
        system.answer_all("W1")
        system.tell(client_said(b"C1", [messages.Received([number])]))
        system.wait(0.05, "W1")
    system.crash()
    assert sorted(peer for peer, _ in system.core.workers.returning) == [b"P1", b"P100"]


def test_what_has_been_with_its_worker_for_long_enough_is_written_at_that_time() -> None:
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    system.now += journal_module.BEGUN_DELAY_S
    system.tell()
    replay = Replay()
    for position, data in system.stored.items():
        replay.read(position, data)
    assert [begun.worker for begun in replay.begun.values()] == ["W1"]


def test_tasks_that_may_still_run_after_a_restart_are_recorded() -> None:
    """Otherwise the trace shows workers without anything in hand."""
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    system.tell(req_ready(b"P1"))
    system.ask(2, service="")
    system.wait(journal_module.BEGUN_DELAY_S, "W1")
    (task,) = system.take_tasks("W1")
    system.crash()
    system.tell(worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 1, 1, [task.id])]))
    found = [record for record in system.records if record.event == catalogue.TASK_RECOVERED]
    assert {(record.worker, record.request) for record in found} == {("W1", "C1/1"), ("P1", "C1/2")}


def test_a_worker_hears_that_a_request_was_cancelled_while_it_was_away() -> None:
    """Its broker was restarted meanwhile: nobody is told anything before the worker is back, and then it need not go on."""
    system = Journaled()
    system.client("C1")
    system.worker("W1")
    system.ask(1)
    system.wait(journal_module.BEGUN_DELAY_S, "W1")
    (task,) = system.take_tasks("W1")
    system.crash()
    system.client("C1")
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    assert not system.to.get("")
    system.tell(worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 1, 1, [task.id])]))
    welcome, *others = system.to["W1"]
    assert isinstance(welcome, messages.Welcome) and not welcome.tasks
    assert others == [messages.CancelTask(task.id)]
