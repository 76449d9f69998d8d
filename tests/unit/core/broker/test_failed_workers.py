"""Workers that fall silent, leave, come back or cannot be reached, and what becomes of their requests."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, worker_said


class TestFailedWorkers:
    def test_the_requests_of_a_lost_worker_go_to_others(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W2")
        system.lose_worker("W1")
        (task,) = system.take_tasks("W2")
        assert (task.body, task.attempt) == (b"1", 2)

    def test_a_silent_worker_is_lost_after_three_beats(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W2")
        system.wait(2.9, "W2")
        assert system.bodies("W2") == []
        system.wait(0.5, "W2")
        assert system.bodies("W2") == [1]

    def test_a_beating_worker_is_not_lost(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.wait(60, "W1")
        assert b"W1" in system.core.workers.by_peer

    def test_a_beat_is_answered(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.tell(worker_said(b"W1", [messages.Beat()]))
        assert system.said("W1", messages.Beat)

    def test_the_answer_of_a_lost_worker_is_fenced(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        (task,) = system.take_tasks("W1")
        system.wait(4)
        system.worker("W2")
        system.answer("W1", task)
        assert system.answers() == []
        assert system.fenced == [("W1", "C1/1", "C1", "s")]
        assert system.said("W1", messages.HelloAgain)
        system.answer_all("W2")
        assert system.answers() == [(1, Status.OK)]

    def test_a_worker_that_comes_back_is_used_again(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.wait(4)
        system.worker("W1")
        system.ask(1)
        assert system.bodies("W1") == [1]

    def test_what_it_returns_but_does_not_have_is_passed_over(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2)
        system.ask(1)
        (task,) = system.take_tasks("W1")
        system.tell(worker_said(b"W1", [messages.Returned([task.id + 1, task.id])]))
        assert system.bodies("W1") == [1]
        assert system.core.outbox.counts["tasks_returned"] == 1

    def test_its_answers_and_failures_are_counted(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=3)
        system.ask(1, 2, 3)
        crashed, *done = system.take_tasks("W1")
        system.answer("W1", crashed, status=Status.CRASHED)
        system.answer("W1", *done)
        worker = system.core.workers.by_peer[b"W1"]
        assert (worker.answered, worker.failed) == (3, 1)

    def test_goodbye_gives_back_without_blame(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W2")
        system.tell(worker_said(b"W1", [messages.Goodbye()]))
        assert [task.attempt for task in system.take_tasks("W2")] == [1]

    def test_what_could_not_be_delivered_has_not_begun(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        tasks = system.take_tasks("W1")
        system.worker("W2")
        system.tell(events.Undelivered(events.Side.WORKER, b"W1", list(tasks)))
        assert [task.attempt for task in system.take_tasks("W2")] == [1]

    def test_what_an_unreachable_worker_said_before_counts(self, system: CoreSystem) -> None:
        """Its connection is gone, but an answer and a goodbye had arrived and were not read yet."""
        system.worker("W1", credit=2)
        system.ask(1)
        (begun,) = system.take_tasks("W1")
        system.ask(2)
        undelivered = system.take_tasks("W1")
        system.tell(events.Undelivered(events.Side.WORKER, b"W1", list(undelivered)))
        system.ask(3)
        assert system.bodies("W1") == []
        system.answer("W1", begun)
        assert system.answers() == [(1, Status.OK)]
        system.tell(worker_said(b"W1", [messages.Goodbye()]), events.PeerLost(events.Side.WORKER, b"W1"))
        assert system.core.outbox.counts["attempts_failed"] == 0
        system.worker("W2", credit=2)
        assert system.bodies("W2") == [2, 3]

    def test_what_an_unreachable_worker_had_begun_has_failed_when_it_is_lost(self, system: CoreSystem) -> None:
        system.worker("W1", credit=2)
        system.ask(1, 2)
        _, undelivered = system.take_tasks("W1")
        system.tell(events.Undelivered(events.Side.WORKER, b"W1", [undelivered]))
        system.worker("W2", credit=2)
        assert [task.attempt for task in system.take_tasks("W2")] == [1]
        system.lose_worker("W1")
        assert system.core.outbox.counts["attempts_failed"] == 1

    def test_an_answer_for_another_workers_task_is_fenced(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.worker("W2")
        system.ask(1)
        (task,) = system.take_tasks("W1")
        system.answer("W2", task)
        assert system.answers() == []
        assert system.core.outbox.counts["answers_fenced"] == 1

    def test_a_second_hello_over_the_same_connection_is_no_failure(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.take("W1")
        system.worker("W1")
        (task,) = system.take_tasks("W1")
        assert (task.body, task.attempt) == (b"1", 1)
        assert system.core.outbox.counts["attempts_failed"] == 0

    def test_one_that_calls_itself_otherwise_is_another(self, system: CoreSystem) -> None:
        system.worker("W1", peer="P")
        system.ask(1)
        system.take("P")
        system.worker("W2", peer="P")
        assert system.bodies("P") == [1]
        assert [worker.name for worker in system.core.workers.by_peer.values()] == ["W2"]

    def test_a_stranger_that_leaves_is_told_nothing(self, system: CoreSystem) -> None:
        system.tell(worker_said(b"X", [messages.Goodbye()]))
        assert system.take("X") == []

    def test_a_suspect_that_was_given_back_is_given_again(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.lose_worker("W1")
        system.worker("W2")
        (task,) = system.take_tasks("W2")
        system.tell(worker_said(b"W2", [messages.Returned([task.id])]))
        assert system.bodies("W2") == [1]
