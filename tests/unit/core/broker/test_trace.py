"""What the core records and counts of a request's life, and of messages that are none."""

from __future__ import annotations

import pytest

from cbw.core.broker import events
from tests.unit.core.broker.system import CoreSystem


def test_a_bad_message_is_counted_and_told(system: CoreSystem) -> None:
    system.tell(events.BadMessageArrived(events.Side.CLIENT, b"X", "nonsense"))
    assert system.core.outbox.counts["messages_bad"] == 1
    assert "bad_message" in system.events()


@pytest.mark.parametrize(("is_tracing", "name"), [(True, "C1/7"), (False, "")])
def test_a_task_names_its_request_if_there_is_a_trace(is_tracing: bool, name: str) -> None:
    system = CoreSystem(is_tracing=is_tracing)
    system.client()
    system.worker("W1")
    system.ask(7)
    (task,) = system.take_tasks("W1")
    assert task.request == name


def test_the_trace_tells_a_requests_life(system: CoreSystem) -> None:
    system.worker("W1")
    system.events()
    system.ask(1)
    system.answer_all("W1")
    assert system.events() == ["accepted", "handed_out", "answered"]
