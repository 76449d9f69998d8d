"""A worker that has too much gives back what it has not begun, when another one is idle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.dispatch import RECALL_AFTER_S, RECALL_PATIENCE_S
from cbw.core.broker.tables import Entry
from tests.unit.core.broker.system import CoreSystem, client_said, worker_said


class TestRecall:
    def test_a_suspect_that_waits_stops_no_recall(self, system: CoreSystem) -> None:
        """It waits for a worker without another suspect; the free slot of one that has one is for the others."""
        for name, number in (("W1", 1), ("W2", 2)):
            system.worker(name)
            system.ask(number)
        system.worker("S", credit=10)
        system.ask(*range(10, 20))
        system.take("S")
        system.worker("F", concurrency=2, credit=2)
        system.tell(events.PeerLost(events.Side.WORKER, b"W1"), events.PeerLost(events.Side.WORKER, b"W2"))
        assert system.bodies("F") == [1]
        system.wait(0.1, "S", "F")
        recalls = [message for message in system.take("S") if isinstance(message, messages.Recall)]
        system.tell(worker_said(b"S", [messages.Returned(recalls[0].tasks)]))
        assert len(system.bodies("F")) == 1

    def test_tasks_not_begun_are_recalled_for_an_idle_worker(self, system: CoreSystem) -> None:
        system.worker("W1", credit=10)
        system.ask(*range(5))
        system.worker("W2", credit=10)
        system.take("W1")
        system.wait(0.05, "W1", "W2")
        recalls = [message for message in system.take("W1") if isinstance(message, messages.Recall)]
        assert len(recalls) == 1
        system.tell(worker_said(b"W1", [messages.Returned(recalls[0].tasks)]))
        assert system.bodies("W2") == [3, 4]

    def test_a_worker_that_has_answered_a_recall_may_be_asked_again_at_once(self, system: CoreSystem) -> None:
        system.worker("W1", credit=10)
        system.ask(*range(5))
        system.worker("W2")
        system.wait(0.01, "W1", "W2")
        (recall,) = (message for message in system.take("W1") if isinstance(message, messages.Recall))
        returned = messages.Returned(recall.tasks[-1:])  # it had begun the others
        system.tell(worker_said(b"W1", [returned]))
        system.answer_all("W2")
        system.wait(0.01, "W1", "W2")
        assert system.said("W1", messages.Recall)

    def test_a_returned_task_is_no_failed_attempt(self, system: CoreSystem) -> None:
        system.worker("W1", credit=2)
        system.ask(1, 2)
        tasks = system.take_tasks("W1")
        system.tell(worker_said(b"W1", [messages.Credit(1), messages.Returned([tasks[1].id])]))
        system.worker("W2")
        (again,) = system.take_tasks("W2")
        assert (again.body, again.attempt) == (b"2", 1)

    def test_returned_tasks_keep_their_order(self, system: CoreSystem) -> None:
        system.worker("W1", credit=4)
        system.ask(*range(6))
        tasks = system.take_tasks("W1")
        system.tell(worker_said(b"W1", [messages.Credit(0), messages.Returned([task.id for task in tasks])]))
        system.worker("W2", credit=6)
        assert system.bodies("W2") == [0, 1, 2, 3, 4, 5]

    def recalled(self, system: CoreSystem, worker: str = "W1") -> list[int]:
        """The requests, by their numbers, that the broker wants back."""
        recalls = [message for message in system.take(worker) if isinstance(message, messages.Recall)]
        return [int(entry.request.body) for recall in recalls for entry in map(self.entry_of(system), recall.tasks)]

    def entry_of(self, system: CoreSystem) -> Callable[[int], Entry]:
        return lambda task: next(w.in_hand[task] for w in system.core.workers.by_peer.values() if task in w.in_hand)

    def hoard(self, system: CoreSystem, *requests: int, **options: Any) -> list[messages.Task]:
        """W1 holds them all, and can run one."""
        system.worker("W1", credit=10, **options)
        system.ask(*requests)
        return system.take_tasks("W1")

    def test_it_comes_soon(self, system: CoreSystem) -> None:
        self.hoard(system, 1, 2, 3)
        system.worker("W2")
        assert system.core.wake_at <= system.now + RECALL_AFTER_S

    def test_a_worker_with_full_slots_has_nothing_too_much(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2)
        system.ask(1, 2)
        system.worker("W2")
        assert not system.core.requests.dispatcher._recall_timer.is_set

    def test_one_that_is_not_answered_is_said_again_but_not_at_once(self, system: CoreSystem) -> None:
        self.hoard(system, 1, 2, 3)
        system.worker("W2")
        system.wait(2 * RECALL_AFTER_S)
        assert self.recalled(system) == [3]
        system.wait(RECALL_PATIENCE_S / 2)
        assert self.recalled(system) == []
        system.wait(RECALL_PATIENCE_S)
        assert self.recalled(system) == [3]

    def test_of_one_that_leaves_nothing_is_wanted_back(self, system: CoreSystem) -> None:
        """It gives back what it has not begun by itself."""
        self.hoard(system, 1, 2, 3)
        system.tell(worker_said(b"W1", [messages.Credit(0)]))
        system.worker("W2")
        system.wait(0.05)
        assert self.recalled(system) == []

    def test_what_was_cancelled_is_not_wanted_back(self, system: CoreSystem) -> None:
        self.hoard(system, 1, 2, 3)
        system.tell(client_said(b"C1", [messages.Cancel(3)]))
        system.worker("W2")
        system.wait(2 * RECALL_AFTER_S)
        assert self.recalled(system) == [2]

    def test_nor_what_the_idle_worker_does_not_serve(self, system: CoreSystem) -> None:
        system.worker("W1", services=("a", "b"), credit=10)
        system.ask(1, 2, 3, service="a")
        system.ask(4, 5, service="b")
        system.take("W1")
        system.worker("W2", services=("b",))
        system.wait(2 * RECALL_AFTER_S)
        assert self.recalled(system) == [5]

    def test_too_much_of_one_service_concerns_the_free_workers_of_another(self, system: CoreSystem) -> None:
        """What is wanted of the other service may stand behind it."""
        system.worker("W2", services=("b",))
        system.worker("W1", services=("a", "b"), credit=10)
        system.ask(1, 2, 3, service="a")
        assert system.core.requests.dispatcher._recall_timer.is_set
