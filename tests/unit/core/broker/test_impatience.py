"""``--unserved``: requests for a service that nobody has served for long end at once."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import impatience
from cbw.core.messages import Status, error_of

from .system import CoreSystem, client_said


@pytest.fixture
def system() -> CoreSystem:
    system = CoreSystem(unserved_s=5.0)
    system.client()
    return system


def told(system: CoreSystem) -> list[tuple[int, Status, str, str]]:
    answers = [message for message in system.take("C1") if isinstance(message, messages.Answer)]
    return [(answer.id, answer.status, *error_of(answer.body)) for answer in answers]


WHY = "for 5 s (--unserved) no worker here serves 's'"


def test_what_waits_from_the_start_on_ends_when_nobody_has_come(system: CoreSystem) -> None:
    system.wait(2)
    system.ask(1, 2)
    system.wait(2.9)
    assert told(system) == []
    system.wait(0.2)
    assert told(system) == [(1, Status.EXPIRED, "no_worker", WHY), (2, Status.EXPIRED, "no_worker", WHY)]
    assert system.core.requests.count == 0 and not system.core.requests.dispatcher.services


def test_then_others_end_at_once(system: CoreSystem) -> None:
    system.wait(5.1)
    system.ask(1)
    assert told(system) == [(1, Status.EXPIRED, "no_worker", WHY)]


def test_the_time_counts_from_when_the_last_worker_left(system: CoreSystem) -> None:
    system.worker("W1")
    system.worker("W2")
    system.wait(6, "W1", "W2")
    system.lose_worker("W1")
    system.wait(6, "W2")
    system.lose_worker("W2")
    system.ask(1)
    system.wait(4.9)
    assert told(system) == []
    system.wait(0.2)
    assert [answer[:2] for answer in told(system)] == [(1, Status.EXPIRED)]


def test_a_worker_that_comes_in_time_gets_them(system: CoreSystem) -> None:
    system.ask(1)
    system.wait(4.9)
    system.worker("W1")
    system.wait(1, "W1")
    system.answer_all("W1")
    assert system.answers() == [(1, Status.OK)]


def test_what_was_tried_before_ends_too(system: CoreSystem) -> None:
    system.worker("W1")
    system.ask(1)
    system.lose_worker("W1")
    system.wait(5.1)
    assert [answer[:2] for answer in told(system)] == [(1, Status.EXPIRED)]


def test_what_was_cancelled_is_passed_over(system: CoreSystem) -> None:
    system.ask(1, 2)
    system.tell(client_said(b"C1", [messages.Cancel(1)]))
    system.take("C1")
    system.wait(5.1)
    assert [answer[:2] for answer in told(system)] == [(2, Status.EXPIRED)]


def test_it_is_off_by_default() -> None:
    system = CoreSystem()
    system.client()
    system.ask(1)
    system.wait(60)
    assert told(system) == []


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impatience, "LEFT_MAX", 2)
    system = CoreSystem(unserved_s=5.0)
    system.client()
    system.wait(6)
    for name in ("a", "b", "c"):
        system.worker(name, services=(name,))
        system.lose_worker(name)
    system.ask(1, service="a")
    system.ask(2, service="c")
    assert [answer[0] for answer in told(system)] == [1], "a service that was forgotten counts from the start"
