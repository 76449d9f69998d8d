"""More than the broker can do at once: who is served first, who is refused, and when those come back."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker.pace import RETRY_MAX_S, RETRY_MIN_S
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, client_said, plain_said, worker_said

FLOOD = 100_000


@pytest.fixture
def system() -> CoreSystem:
    system = CoreSystem(is_tracing=False)
    system.client()
    system.client("C2")
    return system


def ask(system: CoreSystem, number: int, priority: int, client: str = "C1") -> None:
    system.tell(client_said(client.encode(), [messages.Request(number, "s", b"%d" % number, None, priority)]))


def busy_answers(system: CoreSystem, client: str = "C1") -> list[messages.Answer]:
    return [m for m in system.take(client) if isinstance(m, messages.Answer) and m.status is Status.BUSY]


class TestTurns:
    def test_one_client_with_100_000_waiting_does_not_delay_anothers_call(self, system: CoreSystem) -> None:
        system.ask(*range(FLOOD))
        system.ask(FLOOD, client="C2")
        system.worker(credit=2)
        assert system.bodies("W1") == [0, FLOOD]

    def test_nor_that_of_a_plain_client(self, system: CoreSystem) -> None:
        system.ask(*range(1000), service="")
        system.tell(plain_said(b"R1", (b"",), b"1000"))
        system.worker(services=("",), credit=2)
        assert system.bodies("W1") == [0, 1000]

    def test_a_clients_own_are_ordered_by_priority(self, system: CoreSystem) -> None:
        for number, priority in enumerate((5, 0, 9, 5, 9)):
            ask(system, number, priority)
        system.worker(credit=5)
        assert system.bodies("W1") == [2, 4, 0, 3, 1]

    def test_priority_gains_nothing_over_other_clients(self, system: CoreSystem) -> None:
        for number in range(3):
            ask(system, number, 0)
            ask(system, 10 + number, 9, "C2")
        system.worker(credit=6)
        assert system.bodies("W1") == [0, 10, 1, 11, 2, 12]

    def test_a_flood_at_one_service_does_not_delay_another_service_of_the_same_worker(self, system: CoreSystem) -> None:
        system.ask(*range(1000), service="a")
        system.worker(services=("a", "b"), credit=1)
        system.take("W1")
        system.now += 0.1
        system.ask(5000, client="C2", service="b")
        served = []
        for _ in range(3):
            system.now += 0.1
            (task,) = system.core.workers.by_peer[b"W1"].in_hand
            system.tell(worker_said(b"W1", [messages.Answer(task, Status.OK, b"")]))
            served += system.bodies("W1")
        assert 5000 in served

    @pytest.mark.parametrize("priority", [-1, 10, 1 << 60])
    def test_a_priority_out_of_bounds_is_refused(self, system: CoreSystem, priority: int) -> None:
        ask(system, 1, priority)
        assert system.answers() == [(1, Status.BAD_REQUEST)]


class TestBusy:
    @pytest.fixture
    def system(self) -> CoreSystem:
        system = CoreSystem(is_tracing=False, requests_max=10)
        system.client()
        return system

    def test_it_says_when_to_come_back(self, system: CoreSystem) -> None:
        system.ask(*range(12))
        first, second = busy_answers(system)
        assert first.retry_after_s is not None and second.retry_after_s is not None
        assert RETRY_MIN_S <= first.retry_after_s <= second.retry_after_s <= RETRY_MAX_S

    def test_the_slower_requests_end_the_later(self, system: CoreSystem) -> None:
        system.worker(credit=1)
        system.ask(*range(10))
        hints = []
        for number in range(60):
            system.ask(100 + number)  # one too many
            (busy,) = busy_answers(system)
            hints.append(busy.retry_after_s)
            system.wait(0.1 if number < 30 else 1.0, "W1")
            system.answer_all("W1")
            system.ask(200 + number)
            system.take("C1")
        assert hints[29] == pytest.approx(0.1, rel=0.5)
        assert hints[-1] == pytest.approx(1.0, rel=0.5)

    def test_nothing_else_that_is_refused_does(self, system: CoreSystem) -> None:
        ask(system, 1, 10)
        (answer,) = [message for message in system.take("C1") if isinstance(message, messages.Answer)]
        assert answer.status is Status.BAD_REQUEST and answer.retry_after_s is None
