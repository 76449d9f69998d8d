"""Which worker gets which request, and how many at once."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, worker_said


class TestHandingOut:
    def test_a_request_goes_to_a_ready_worker_and_its_answer_back(self, system: CoreSystem) -> None:
        system.worker()
        system.ask(1)
        (task,) = system.take_tasks("W1")
        assert (task.body, task.service, task.attempt) == (b"1", "s", 1)
        system.answer("W1", task)
        assert system.answers() == [(1, Status.OK)]
        assert system.core.requests.count == 0

    def test_the_least_recently_used_worker_is_next(self, system: CoreSystem) -> None:
        for name in ("W1", "W2", "W3"):
            system.worker(name)
        order = []
        for number in range(6):
            system.ask(number)
            (name,) = [name for name in ("W1", "W2", "W3") if system.to[name] and system.take_tasks(name)] or [""]
            order.append(name)
            worker = system.core.workers.by_peer[name.encode()]
            task = next(iter(worker.in_hand))
            system.tell(worker_said(name.encode(), [messages.Answer(task, Status.OK, b"")]))
        assert order == ["W1", "W2", "W3"] * 2

    def test_requests_wait_for_a_worker_of_their_service(self, system: CoreSystem) -> None:
        system.worker("W1", services=("other",))
        system.ask(1)
        assert system.bodies("W1") == []
        system.worker("W2")
        assert system.bodies("W2") == [1]

    def test_a_worker_may_serve_several_services(self, system: CoreSystem) -> None:
        system.worker("W1", services=("a", "b"), concurrency=2)
        system.ask(1, service="a")
        system.ask(2, service="b")
        assert system.bodies("W1") == [1, 2]

    def test_no_worker_gets_more_than_its_credit(self, system: CoreSystem) -> None:
        system.worker("W1", credit=3)
        system.ask(*range(5))
        assert system.bodies("W1") == [0, 1, 2]

    def test_waiting_requests_are_spread_not_poured_into_the_first(self, system: CoreSystem) -> None:
        system.ask(*range(6))
        for name in ("W1", "W2", "W3"):
            system.tell(worker_said(name.encode(), [messages.WorkerHello(name, "b", ["s"], 1, 1)]))
        assert [system.bodies(name) for name in ("W1", "W2", "W3")] == [[0], [1], [2]]
        system.tell(*[worker_said(name.encode(), [messages.Credit(100)]) for name in ("W1", "W2", "W3")])
        assert [len(system.bodies(name)) for name in ("W1", "W2", "W3")] == [1, 1, 1]

    def test_a_free_worker_comes_before_one_that_wants_something_ahead(self, system: CoreSystem) -> None:
        system.worker("W1", credit=10)
        system.ask(1)
        system.worker("W2", credit=10)
        system.ask(2)
        assert system.bodies("W2") == [2]

    def test_more_credit_brings_more_tasks(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1, 2)
        assert system.bodies("W1") == [1]
        system.tell(worker_said(b"W1", [messages.Credit(2)]))
        assert system.bodies("W1") == [2]

    def test_of_two_services_the_one_whose_request_waits_longest_is_first(self, system: CoreSystem) -> None:
        system.ask(1, service="b")
        system.wait(0.1)
        system.ask(2, service="a")
        system.worker("W1", services=("a", "b"))
        assert system.bodies("W1") == [1]

    def test_nothing_goes_ahead_of_a_suspect_or_it_would_never_get_a_slot(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.lose_worker("W1")
        system.ask(*range(2, 20))
        system.worker("W2", concurrency=2, credit=10)
        assert system.bodies("W2") == [1, 2]
