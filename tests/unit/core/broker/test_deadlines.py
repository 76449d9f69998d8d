"""Deadlines: what has expired is never handed out, and requests with one deadline end together."""

from __future__ import annotations

import math

import pytest

from cbw.core import messages
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, client_said, worker_said


@pytest.mark.parametrize("began_at", [0.5, 1e6])
def test_all_whose_deadline_has_come_end_in_one_step(began_at: float) -> None:
    system = CoreSystem()
    system.now = began_at
    system.client()
    system.ask(*range(10), ttl=1.0)
    system.ask(10, ttl=1.5)
    system.now += 1.0
    system.tell()
    assert system.answers() == [(number, Status.EXPIRED) for number in range(10)]
    system.now += 0.5
    system.tell()
    assert system.core.requests.count == 0


class TestDeadlines:
    def test_a_waiting_request_expires(self, system: CoreSystem) -> None:
        system.ask(1, ttl=1.0)
        system.wait(0.9)
        assert system.answers() == []
        system.wait(0.2)
        assert system.answers() == [(1, Status.EXPIRED)]

    @pytest.mark.parametrize("ttl", [0.0, -1.0, math.nan])
    def test_one_that_comes_too_late_is_refused(self, system: CoreSystem, ttl: float) -> None:
        system.worker()
        system.ask(1, ttl=ttl)
        assert system.answers() == [(1, Status.EXPIRED)]
        assert system.bodies("W1") == []
        assert system.core.outbox.counts["refused_expired"] == 1

    def test_an_expired_request_is_never_handed_out(self, system: CoreSystem) -> None:
        system.ask(1, ttl=1.0)
        system.now += 2.0
        system.worker("W1")
        assert system.bodies("W1") == []
        assert system.answers() == [(1, Status.EXPIRED)]

    def test_nor_counted_twice_when_the_dead_are_swept_out_meanwhile(self, system: CoreSystem) -> None:
        system.ask(1, ttl=1.0)
        system.ask(*range(2, 202))
        system.now += 2
        cancels: list[messages.Message] = [messages.Cancel(number) for number in range(3, 202)]
        hello = messages.WorkerHello("W1", "b", ["s"], 1, 1)
        system.tell(client_said(b"C1", cancels), worker_said(b"W1", [hello]))
        assert system.bodies("W1") == [2]
        assert system.core.requests.dispatcher.services["s"].waiting_count == 0

    def test_nor_after_a_failed_attempt(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1, ttl=1.0)
        system.wait(2.0, "W1")
        system.worker("W2")
        system.lose_worker("W1")
        assert system.bodies("W2") == []
        assert system.answers() == [(1, Status.EXPIRED)]

    def test_whoever_failed_at_it_before_is_not_forgotten(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1, ttl=1.0)
        system.lose_worker("W1")
        system.wait(1.1)
        (answer,) = [message for message in system.to["C1"] if isinstance(message, messages.Answer)]
        assert messages.error_of(answer.body)[1] == (
            "the deadline passed before another worker came that serves 's'; 1 failed at it"
        )

    def test_the_worker_is_told_the_time_left(self, system: CoreSystem) -> None:
        system.ask(1, ttl=5.0)
        system.wait(2.0)
        system.worker("W1")
        (task,) = system.take_tasks("W1")
        assert task.ttl == pytest.approx(3.0)
