"""Failed attempts: whom they are blamed on, and when the broker gives a request up."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.outbox import RECORDS_MAX
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, client_said, worker_said


class TestGivingUp:
    def fail(self, system: CoreSystem, number: int) -> list[int]:
        """A worker comes, gets tasks, and dies of them; what it had."""
        name = f"F{number}"
        system.worker(name, concurrency=4)
        bodies = system.bodies(name)
        system.lose_worker(name)
        return bodies

    def test_after_three_attempts(self, system: CoreSystem) -> None:
        system.ask(1)
        assert [self.fail(system, number) for number in range(3)] == [[1], [1], [1]]
        assert system.answers() == [(1, Status.GAVE_UP)]
        failures = [record for record in system.records if record.event in ("attempt_failed", "gave_up")]
        assert [record.attempt for record in failures] == [1, 2, 3, 3]
        assert self.fail(system, 4) == []

    def test_failed_attempts_are_told_even_without_a_trace(self) -> None:
        system = CoreSystem(is_tracing=False)
        system.client()
        system.ask(1)
        for number in range(3):
            self.fail(system, number)
        failures = [record.event for record in system.records if record.request]
        assert failures == ["attempt_failed", "attempt_failed", "attempt_failed", "dead_letter_kept", "gave_up"]

    def test_but_no_flood_of_them(self) -> None:
        system = CoreSystem(is_tracing=False)
        system.client()
        system.ask(*range(1, 1001))
        system.worker("W1", concurrency=1000)
        system.records.clear()
        system.lose_worker("W1")
        assert len(system.records) == RECORDS_MAX

    def test_a_suspect_travels_alone_so_its_neighbours_survive(self, system: CoreSystem) -> None:
        system.ask(1, 2, 3, 4)
        assert self.fail(system, 0) == [1, 2, 3, 4]
        system.worker("W", concurrency=4, credit=50)
        for expected in (1, 2, 3, 4):
            tasks = system.take_tasks("W")
            assert [int(task.body) for task in tasks] == [expected]
            system.answer("W", *tasks)
        assert [status for _, status in system.answers()] == [Status.OK] * 4

    def test_nothing_is_sent_ahead_behind_a_suspect(self, system: CoreSystem) -> None:
        system.ask(1)
        self.fail(system, 0)
        system.worker("W", credit=10)
        system.ask(2)
        assert system.bodies("W") == [1]

    def test_a_suspect_gets_a_slot_though_its_worker_always_wants_more_ahead(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W2", credit=10)
        system.ask(*range(10, 60))
        system.lose_worker("W1")
        hand = system.take_tasks("W2")
        begun = []
        for number in range(60, 90):  # one is done, another is asked
            task = hand.pop(0)
            begun.append(task.body)
            answer = messages.Answer(task.id, Status.OK, b"")
            system.tell(
                worker_said(b"W2", [answer]),
                client_said(b"C1", [messages.Request(number, "s", b"%d" % number)]),
            )
            hand += system.take_tasks("W2")
        assert b"1" in begun

    def test_a_crashed_handler_process_costs_an_attempt_not_the_worker(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        for _ in range(3):
            system.answer("W1", *system.take_tasks("W1"), status=Status.CRASHED)
        assert system.answers() == [(1, Status.GAVE_UP)]
        assert b"W1" in system.core.workers.by_peer

    def test_a_handlers_error_ends_the_request(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.answer("W1", *system.take_tasks("W1"), status=Status.FAILED)
        assert system.answers() == [(1, Status.FAILED)]

    def test_a_status_that_no_worker_may_give_becomes_a_failure(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.answer("W1", *system.take_tasks("W1"), status=Status.BUSY)
        assert system.answers() == [(1, Status.FAILED)]
        assert system.core.outbox.counts["messages_bad"] == 1
