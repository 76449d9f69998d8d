"""Requests that their client cancels: waiting, running or unknown."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, client_said


class TestCancelling:
    def test_a_waiting_request(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Cancel(1)]))
        assert system.answers() == [(1, Status.CANCELLED)]
        system.worker("W1")
        assert system.bodies("W1") == []

    def test_a_running_request(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1, 2)
        (task,) = system.take_tasks("W1")
        system.tell(client_said(b"C1", [messages.Cancel(1)]))
        assert system.answers() == [(1, Status.CANCELLED)]
        assert system.said("W1", messages.CancelTask)
        assert system.bodies("W1") == []  # the slot is taken until the worker says what became of it
        system.answer("W1", task, status=Status.CANCELLED)
        assert system.bodies("W1") == [2]

    def test_an_unknown_request(self, system: CoreSystem) -> None:
        system.tell(client_said(b"C1", [messages.Cancel(77)]))
        assert system.answers() == []

    def test_it_is_counted(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Cancel(1), messages.Cancel(2)]))
        assert system.core.outbox.counts["cancelled"] == 1
