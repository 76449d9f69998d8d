"""The broker core, promise by promise, without a socket, a thread or a sleep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.dispatch import RECALL_AFTER_S, RECALL_PATIENCE_S, TIMERS_MIN, UNSERVED_S
from cbw.core.broker.outbox import RECORDS_MAX
from cbw.core.broker.parked_replies import ANSWER_BYTES
from cbw.core.broker.snapshot import state_of
from cbw.core.broker.tables import Entry
from cbw.core.broker.worker_table import RECENTLY_LOST_MAX
from cbw.core.broker.workers import SERVICES_MAX
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import DEFAULT_SERVICE, Refusal, Status
from cbw.wire import native
from tests.unit.core.broker.system import (
    CoreSystem,
    client_said,
    plain_said,
    req_ready,
    req_said,
    worker_said,
)


@pytest.fixture
def system() -> CoreSystem:
    system = CoreSystem()
    system.client()
    return system


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


class TestNobodyServes:
    def unserved(self, system: CoreSystem) -> list[tuple[str, int]]:
        return [(record.service, record.count) for record in system.records if record.event == "unserved"]

    def test_is_said_once_when_requests_have_waited(self, system: CoreSystem) -> None:
        system.ask(1, 2)
        system.wait(UNSERVED_S - 0.5)
        assert self.unserved(system) == []
        system.wait(2)
        assert self.unserved(system) == [("s", 2)]
        system.wait(10)
        assert len(self.unserved(system)) == 1

    def test_is_said_again_when_a_worker_came_and_went(self, system: CoreSystem) -> None:
        system.ask(1)
        system.wait(UNSERVED_S + 1)
        system.worker("W1")
        system.lose_worker("W1")
        system.wait(UNSERVED_S + 1)
        assert self.unserved(system) == [("s", 1)] * 2

    def test_is_not_said_if_a_worker_comes_in_time(self, system: CoreSystem) -> None:
        system.ask(1)
        system.wait(UNSERVED_S - 0.5)
        system.worker("W1")
        system.wait(5, "W1")
        assert self.unserved(system) == []

    def test_nor_of_requests_that_have_expired(self, system: CoreSystem) -> None:
        system.ask(1, ttl=1.0)
        system.wait(UNSERVED_S + 2)
        assert self.unserved(system) == []

    def test_nor_if_they_were_cancelled(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Cancel(1)]))
        system.wait(UNSERVED_S + 2)
        assert self.unserved(system) == []


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


class TestClients:
    def test_a_stranger_is_asked_for_its_hello(self, system: CoreSystem) -> None:
        system.tell(client_said(b"X", [messages.Request(1, "s", b"")]))
        assert system.said("X", messages.HelloAgain)
        assert system.core.requests.count == 0

    def test_a_request_before_a_hello_that_is_refused_is_accepted(self, system: CoreSystem) -> None:
        system.worker()
        hello, bad = messages.ClientHello("C2", "b"), messages.ClientHello("", "b")
        system.tell(client_said(b"C2", [hello, messages.Request(1, "s", b"1"), bad]))
        system.answer_all("W1")
        assert system.answers("C2") == [(1, Status.OK)]

    def test_nothing_is_kept_for_a_plain_client_on_the_connection_of_another(self, system: CoreSystem) -> None:
        peer = b"\0anon"
        system.tell(client_said(peer, [messages.ClientHello("C2", "b")]))
        system.tell(plain_said(peer, (b"",), b"x"))
        system.tell(events.Undelivered(events.Side.CLIENT, peer, [messages.Answer(1, Status.OK, b"")]))
        assert system.core.requests.parked.bytes == 0

    def test_a_request_sent_again_joins_the_running_one(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2)
        system.ask(1)
        system.client("C1", peer="C1 again")
        system.ask(1, client="C1 again")
        assert len(system.take_tasks("W1")) == 1
        assert system.core.outbox.counts["requests_joined"] == 1

    def test_an_answer_that_came_while_it_was_away_is_kept(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.answer_all("W1")
        system.client("C1", peer="back")
        system.ask(1, client="back")
        assert system.answers("back") == [(1, Status.OK)]
        assert system.bodies("W1") == []

    def test_an_answer_that_could_not_be_delivered_is_kept_too(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.answer_all("W1")
        answers = system.take("C1")
        system.tell(
            events.Undelivered(events.Side.CLIENT, b"C1", [x for x in answers if isinstance(x, messages.Answer)])
        )
        system.client("C1", peer="back")
        system.ask(1, client="back")
        assert system.answers("back") == [(1, Status.OK)]

    def test_what_it_does_not_fetch_when_it_is_back_is_dropped(self, system: CoreSystem) -> None:
        system.worker()
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        assert b"C1" not in system.core.clients.by_peer
        system.answer_all("W1")
        assert system.core.requests.parked.bytes
        system.client(peer="C1b")
        system.wait(2.5, "W1")
        assert system.core.requests.parked.bytes
        system.wait(1, "W1")
        assert not system.core.requests.parked.bytes
        assert not system.core.clients.needs_sweep

    def test_one_that_did_not_read_for_long_is_asked_for_its_hello(self, system: CoreSystem) -> None:
        """Or it would wait for the answers that were dropped."""
        system.take("C1")
        system.tell(events.PeerUnread(events.Side.CLIENT, b"C1", [messages.Answer(1, Status.OK, b"")], native.CLIENT))
        assert system.take("C1") == [messages.HelloAgain()]

    def test_one_that_stays_away_is_forgotten(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.wait(62)
        assert system.core.requests.count == 0
        system.worker("W1")
        assert system.bodies("W1") == []

    def test_goodbye_forgets_it_at_once(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(client_said(b"C1", [messages.Goodbye()]))
        assert system.core.requests.count == 0

    def test_answers_go_to_who_asked(self, system: CoreSystem) -> None:
        system.client("C2")
        system.worker("W1", concurrency=2)
        system.ask(1, client="C1")
        system.ask(1, client="C2")
        first, second = system.take_tasks("W1")
        system.answer("W1", second)
        assert (system.answers("C1"), system.answers("C2")) == ([], [(1, Status.OK)])
        system.answer("W1", first)
        assert system.answers("C1") == [(1, Status.OK)]

    def test_the_end_of_the_connection_that_it_has_left_does_not_make_it_absent(self, system: CoreSystem) -> None:
        system.client("C2", peer="P1")
        system.client("C2", peer="P2")
        system.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        system.worker()
        system.ask(1, client="P2")
        system.answer_all("W1")
        assert system.answers("P2") == [(1, Status.OK)]

    def test_one_that_calls_itself_otherwise_is_another(self, system: CoreSystem) -> None:
        system.client("C2", peer="P")
        system.ask(1, client="P")
        system.client("C3", peer="P")
        system.worker()
        assert system.take_tasks("W1") == [], "nobody waits for it any more"
        assert "client_gone" in system.events()

    def test_an_answer_for_one_that_cannot_be_reached_is_kept(self, system: CoreSystem) -> None:
        system.worker()
        system.ask(1)
        tasks = system.take_tasks("W1")
        system.take("C1")
        system.tell(events.Undelivered(events.Side.CLIENT, b"C1", []))
        system.answer("W1", *tasks)
        assert system.answers() == []
        system.client(peer="again")
        system.ask(1, client="again")
        assert system.answers("again") == [(1, Status.OK)]

    def test_what_one_that_does_not_read_has_missed_is_counted(self, system: CoreSystem) -> None:
        order = [messages.Answer(1, Status.OK, b""), messages.Answer(2, Status.OK, b"")]
        system.tell(events.PeerUnread(events.Side.CLIENT, b"C1", order, native.CLIENT))
        assert system.core.outbox.counts["messages_dropped"] == 2


class TestDuplicateIds:
    def refusal(self, system: CoreSystem, peer: str) -> Refusal | None:
        return next((x.reason for x in system.take(peer) if isinstance(x, messages.Refused)), None)

    def test_a_second_living_worker_is_refused(self, system: CoreSystem) -> None:
        system.worker("W1", boot="one")
        system.worker("W1", boot="two", peer="other")
        assert self.refusal(system, "other") is Refusal.DUPLICATE_ID
        system.ask(1)
        assert system.bodies("W1") == [1]

    def test_it_is_accepted_once_the_first_is_gone(self, system: CoreSystem) -> None:
        system.worker("W1", boot="one")
        system.lose_worker("W1")
        system.worker("W1", boot="two", peer="other")
        assert self.refusal(system, "other") is None

    def test_the_same_worker_on_another_connection_replaces_itself(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.worker("W1", peer="other")
        assert [task.attempt for task in system.take_tasks("other")] == [2]

    def test_a_second_living_client_is_refused(self, system: CoreSystem) -> None:
        system.client("C1", boot="two", peer="other")
        assert self.refusal(system, "other") is Refusal.DUPLICATE_ID

    def test_a_new_client_takes_the_id_of_one_that_is_away(self, system: CoreSystem) -> None:
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.client("C1", boot="two", peer="other")
        assert self.refusal(system, "other") is None
        system.worker("W1")
        assert system.bodies("W1") == []  # what its forerunner asked is nobody's

    @pytest.mark.parametrize("name", ["", "x" * (NAME_CHARS_MAX + 1)])
    def test_a_bad_id_is_refused(self, system: CoreSystem, name: str) -> None:
        system.client(name, peer="x")
        assert self.refusal(system, "x") is Refusal.BAD_HELLO
        system.worker(name, peer="y")
        assert self.refusal(system, "y") is Refusal.BAD_HELLO

    @pytest.mark.parametrize("boot", ["", "x" * (NAME_CHARS_MAX + 1)])
    def test_so_is_a_bad_boot(self, system: CoreSystem, boot: str) -> None:
        system.client("C2", boot=boot, peer="x")
        assert self.refusal(system, "x") is Refusal.BAD_HELLO
        system.worker("W1", boot=boot, peer="y")
        assert self.refusal(system, "y") is Refusal.BAD_HELLO

    def test_and_nothing_after_it_is_heard(self, system: CoreSystem) -> None:
        system.tell(client_said(b"C2", [messages.ClientHello("", "b"), messages.Request(1, "s", b"")]))
        (refused,) = system.take("C2")
        assert isinstance(refused, messages.Refused)
        assert not system.core.requests.count

    def test_so_is_a_worker_of_too_many_services(self, system: CoreSystem) -> None:
        system.worker("W1", services=tuple(f"s{number}" for number in range(SERVICES_MAX + 1)))
        assert self.refusal(system, "W1") is Refusal.BAD_HELLO
        assert not system.core.requests.dispatcher.services


class TestLimits:
    def test_requests(self) -> None:
        system = CoreSystem(requests_max=2)
        system.client()
        system.ask(1, 2, 3)
        assert system.answers() == [(3, Status.BUSY)]
        system.worker("W1", concurrency=2)
        system.answer_all("W1")
        system.take("C1")
        system.ask(4)
        assert system.bodies("W1") == [4]

    def test_bytes(self) -> None:
        system = CoreSystem(requests_bytes_max=10)
        system.client()
        system.tell(client_said(b"C1", [messages.Request(1, "s", b"x" * 8), messages.Request(2, "s", b"x" * 8)]))
        assert system.answers() == [(2, Status.BUSY)]

    def test_names_of_lost_workers(self, system: CoreSystem) -> None:
        for number in range(RECENTLY_LOST_MAX + 10):
            system.worker(f"W{number}")
            system.lose_worker(f"W{number}")
        assert len(system.core.workers.table._recently_lost) == RECENTLY_LOST_MAX

    def test_a_body(self) -> None:
        system = CoreSystem(body_bytes_max=10)
        system.client()
        system.tell(client_said(b"C1", [messages.Request(1, "s", b"x" * 11)]))
        assert system.answers() == [(1, Status.TOO_BIG)]

    def test_plain_clients_feel_back_pressure(self) -> None:
        system = CoreSystem(requests_max=2)
        for number in range(4):
            system.tell(plain_said(b"P%d" % number, (b"",), b"x"))
        assert [type(order) for order in system.others] == [events.PauseClients]
        system.worker("W1", services=(DEFAULT_SERVICE,), concurrency=4)
        system.answer_all("W1")
        assert [type(order) for order in system.others] == [events.PauseClients, events.ResumeClients]

    def test_answers_for_clients_that_are_away(self) -> None:
        system = CoreSystem(parked_bytes_max=2 * (ANSWER_BYTES + 100))
        for name in ("C1", "C2"):
            system.client(name)
        system.worker("W1", concurrency=3)
        system.ask(1, client="C1")
        system.ask(2, 3, client="C2")
        for name in ("C1", "C2"):
            system.tell(events.PeerLost(events.Side.CLIENT, name.encode()))
        system.events()
        system.answer_all("W1")
        assert system.core.requests.parked.bytes <= 2 * (ANSWER_BYTES + 100)
        assert system.core.outbox.counts["answers_dropped"] == 1
        assert [record for record in system.events() if record == "answer_dropped"]
        system.client("C2", peer="C2 again")
        system.ask(2, 3, client="C2 again")
        assert system.answers("C2 again") == [(2, Status.OK), (3, Status.OK)]
        system.client("C1", peer="C1 again")
        system.ask(1, client="C1 again")  # the oldest had to go, so it runs again
        assert system.answers("C1 again") == []
        system.answer_all("W1")
        assert system.answers("C1 again") == [(1, Status.OK)]
        assert system.core.requests.parked.bytes == 0

    def test_an_answer_that_fits_nowhere(self) -> None:
        system = CoreSystem(parked_bytes_max=10)
        system.tell(plain_said(b"P1", (b"",), b"1"))
        system.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        system.worker("W1", services=(DEFAULT_SERVICE,))
        system.answer_all("W1")
        assert (system.core.requests.parked.bytes, system.core.outbox.counts["answers_dropped"]) == (0, 1)

    def test_what_is_kept_is_forgotten_with_its_client(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.answer_all("W1")
        assert system.core.requests.parked.bytes > 0
        system.wait(62, "W1")
        assert system.core.requests.parked.bytes == 0

    def test_a_service_name_that_is_too_long(self, system: CoreSystem) -> None:
        system.ask(1, service="x" * (NAME_CHARS_MAX + 1))
        assert system.answers() == [(1, Status.BAD_REQUEST)]

    def test_services_without_work_or_workers_are_not_kept(self, system: CoreSystem) -> None:
        for number in range(10):
            system.ask(number, service=f"s{number}")
        for number in range(10):
            system.tell(client_said(b"C1", [messages.Cancel(number)]))
        assert not system.core.requests.dispatcher.services, "though no worker ever came"
        for number in range(10):
            system.worker(f"W{number}", services=(f"s{number}",))
            system.lose_worker(f"W{number}")
        assert not system.core.requests.dispatcher.services

    def test_what_has_ended_keeps_no_large_body(self, system: CoreSystem) -> None:
        system.worker("W1")
        system.ask(0)  # the worker is busy, so what follows waits, and has a timer
        for number in range(1, 50):
            request = messages.Request(number, "s", bytes(100_000), 3600.0)
            system.tell(client_said(b"C1", [request]))
            system.tell(client_said(b"C1", [messages.Cancel(number)]))
        timers = [entry for *_, entry in system.core.requests.dispatcher._deadlines]
        assert sum(len(entry.request.body) for entry in timers) == 0

    def test_one_that_is_returned_again_and_again_has_one_timer(self, system: CoreSystem) -> None:
        system.ask(1, ttl=9.0)
        for _ in range(50):
            system.worker(credit=1)
            (task,) = system.take_tasks("W1")
            system.tell(worker_said(b"W1", [messages.Credit(0), messages.Returned([task.id]), messages.Goodbye()]))
        assert len(system.core.requests.dispatcher._deadlines) == 1
        system.wait(10)
        assert system.answers() == [(1, Status.EXPIRED)]

    def test_timers_are_as_many_as_requests_that_wait(self, system: CoreSystem) -> None:
        for number in range(20_000):
            system.tell(client_said(b"C1", [messages.Request(number, "s", b"", 3600.0), messages.Cancel(number - 100)]))
        assert len(system.core.requests.dispatcher._deadlines) <= TIMERS_MIN + 1


class TestTheBrokerItself:
    def test_when_it_has_stood_still_nobody_elses_silence_counts(self, system: CoreSystem) -> None:
        """What they have said meanwhile has not been read."""
        for number in range(5):
            system.worker(f"W{number}")
        system.wait(1, *(f"W{number}" for number in range(5)))
        system.now += 60
        system.tell()
        for number in range(5):
            system.tell(worker_said(b"W%d" % number, [messages.Beat()]))
        system.wait(1, *(f"W{number}" for number in range(5)))
        assert len(system.core.workers.by_peer) == 5
        system.wait(5)
        assert not system.core.workers.by_peer

    def test_tasks_that_were_never_sent_blame_nobody(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2, credit=2)
        system.ask(1, 2)
        sent, unsent = system.take_tasks("W1")
        system.tell(events.PeerUnread(events.Side.WORKER, b"W1", [unsent], native.WORKER))
        assert system.core.outbox.counts["attempts_failed"] == 1
        assert system.core.outbox.counts["tasks_returned"] == 1
        system.worker("W2", concurrency=2, credit=2)
        assert [(task.body, task.attempt) for task in system.take_tasks("W2")] == [(sent.body, 2), (unsent.body, 1)]

    def test_answers_that_two_batches_could_not_deliver_are_kept(self, system: CoreSystem) -> None:
        system.worker("W1", concurrency=2, credit=2)
        system.ask(1, 2)
        system.answer_all("W1")
        system.take("C1")
        answers = (messages.Answer(number, Status.OK, b"") for number in (1, 2))
        system.tell(*(events.Undelivered(events.Side.CLIENT, b"C1", [answer]) for answer in answers))
        system.client(peer="C1b")
        system.ask(1, 2, client="C1b")
        assert system.answers("C1b") == [(1, Status.OK), (2, Status.OK)]


class TestPlainPeers:
    @pytest.fixture
    def lab(self) -> CoreSystem:
        system = CoreSystem()
        system.tell(req_ready(b"PW1"))
        return system

    def ask(self, system: CoreSystem, client: str, body: bytes = b"x", *, is_replaced: bool = False) -> None:
        system.tell(plain_said(client.encode(), (b"",), body, is_replaced))

    def replies(self, system: CoreSystem, client: str) -> list[bytes]:
        return [answer.body for answer in system.plain_replies[client]]

    def test_a_request_and_its_reply(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")]
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_one_task_at_a_time(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        self.ask(lab, "P2")
        assert len(lab.plain_tasks["PW1"]) == 1
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert len(lab.plain_tasks["PW1"]) == 2

    def test_one_that_does_not_answer_in_time_is_late(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(req_ready(b"PW2"))
        lab.wait(1.9)
        assert not lab.plain_tasks["PW2"]
        lab.wait(0.2)
        assert lab.plain_tasks["PW2"] == [(b"P1", b"hi")]

    def test_a_late_answer_is_void_but_its_worker_is_ready_again(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(req_ready(b"PW2"))
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.tell(req_said(b"PW2", b"P1", b"in time"))
        assert self.replies(lab, "P1") == [b"in time"]
        assert lab.fenced == [("PW1", "P1/1", "P1", "")]
        self.ask(lab, "P2", b"next")
        assert lab.plain_tasks["PW1"][-1] == (b"P2", b"next")

    def test_one_that_was_late_once_is_not_lost_for_it_later(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.wait(2.1)
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        lab.wait(1)
        lab.tell(req_said(b"PW1", b"P1", b"in time"))
        lab.wait(70)
        assert lab.core.outbox.counts["workers_lost"] == 0

    def test_the_late_answer_of_one_that_was_lost_is_fenced(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        lab.tell(req_said(b"PW1", b"P1", b"too late"))
        assert self.replies(lab, "P1") == []
        assert lab.fenced == [("PW1", "P1/1", "P1", "")]
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")] * 2  # it is not lost, and is given it anew

    def test_one_that_was_lost_is_looked_for_until_it_has_been_away_too_long(self, lab: CoreSystem) -> None:
        lab.tell(req_ready(b"PW1"))  # it has only just spoken
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        looked_for_at = []
        began_at = lab.now
        for _ in range(9):
            lab.tell(events.PeersConnected(events.Side.WORKER))  # but it is somebody else
            for _ in range(200):
                lab.wait(0.05)
                if b"PW1" in lab.core.workers.by_peer:
                    looked_for_at.append(lab.now - began_at)
                    lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        assert 50 < looked_for_at[-1] < lab.core.limits.absence_s + 1

    def test_one_that_came_back_without_a_word_is_absent_until_it_speaks(self, lab: CoreSystem) -> None:
        lab.tell(events.PeerLost(events.Side.WORKER, b"PW1"))
        lab.tell(events.PeersConnected(events.Side.WORKER))
        lab.wait(0.1)
        assert state_of(lab.core.workers.by_peer[b"PW1"]) == "absent"
        self.ask(lab, "P1", b"hi")
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == [b"ho"]
        assert state_of(lab.core.workers.by_peer[b"PW1"]) == "free"

    def test_an_answer_for_another_client_is_void(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        lab.tell(req_said(b"PW1", b"P9", b"wrong"))
        assert not lab.plain_replies["P9"] and not lab.plain_replies["P1"]

    def test_a_client_that_asks_anew_never_gets_the_answer_to_what_it_asked_before(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"old")
        self.ask(lab, "P1", b"new", is_replaced=True)
        lab.tell(req_said(b"PW1", b"P1", b"to old"))
        lab.tell(req_said(b"PW1", b"P1", b"to new"))
        assert self.replies(lab, "P1") == [b"to new"]

    def test_a_client_that_comes_back_without_a_word_gets_its_answer(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        assert self.replies(lab, "P1") == []
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(0.5)
        assert self.replies(lab, "P1") == [b"ho"]

    def test_a_client_that_comes_back_without_a_word_after_long_gets_its_answer(self, lab: CoreSystem) -> None:
        """What it asked runs on although it was away for longer than absences are remembered."""
        lab.worker("W1", services=(DEFAULT_SERVICE,))
        lab.lose_worker("PW1")
        self.ask(lab, "P1", b"1")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(70, "W1")
        lab.answer_all("W1")
        assert self.replies(lab, "P1") == [b"done 1"]

    def test_one_that_has_got_its_answer_without_a_word_is_forgotten_in_the_end(self, lab: CoreSystem) -> None:
        """Nobody tells that it leaves: of a connection that has said nothing, a ROUTER does not know whose it was."""
        self.test_a_client_that_comes_back_without_a_word_gets_its_answer(lab)
        lab.wait(70)
        assert not lab.core.clients.by_peer and not lab.core.clients.absent

    def test_a_client_whose_identity_another_may_have_gets_nothing(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"ho"))
        lab.wait(1)
        assert self.replies(lab, "P1") == []
        assert lab.core.outbox.counts["clients_uncertain"] == 1

    def test_it_gets_its_answer_however_long_that_is_uncertain(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(req_said(b"PW1", b"P1", b"first"))
        lab.tell(events.PeersConnected(events.Side.CLIENT))
        lab.wait(1)
        assert self.replies(lab, "P1") == [b"first"]
        self.ask(lab, "P1", b"again")
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"second"))
        lab.wait(10)
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"first", b"second"]

    def test_it_is_not_forgotten_while_a_reply_is_withheld_from_it(self, lab: CoreSystem) -> None:
        """Found by the simulation: it was back without a word, and waited for ever."""
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(events.IdentityUncertain(b"P1", True))
        lab.tell(req_said(b"PW1", b"P1", b"ho"), events.PeersConnected(events.Side.CLIENT))
        lab.wait(70)
        lab.tell(events.IdentityUncertain(b"P1", False))
        lab.wait(1)
        assert self.replies(lab, "P1") == [b"ho"]

    def test_it_gets_its_answer_when_its_identity_is_certain_again(self, lab: CoreSystem) -> None:
        self.test_a_client_whose_identity_another_may_have_gets_nothing(lab)
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_nor_does_the_other_get_it_who_asks_then(self, lab: CoreSystem) -> None:
        self.test_a_client_whose_identity_another_may_have_gets_nothing(lab)
        self.ask(lab, "P1", b"mine", is_replaced=True)
        lab.tell(events.IdentityUncertain(b"P1", False))
        lab.tell(req_said(b"PW1", b"P1", b"yours"))
        assert self.replies(lab, "P1") == [b"yours"]

    def test_nor_one_that_is_away_and_may_be_another_when_it_is_back(self, lab: CoreSystem) -> None:
        self.ask(lab, "P1", b"hi")
        lab.tell(events.PeerLost(events.Side.CLIENT, b"P1"))
        lab.tell(
            events.IdentityUncertain(b"P1", True),
            req_said(b"PW1", b"P1", b"ho"),
            events.PeersConnected(events.Side.CLIENT),
        )
        lab.wait(1)
        assert self.replies(lab, "P1") == []
        lab.tell(events.IdentityUncertain(b"P1", False))
        assert self.replies(lab, "P1") == [b"ho"]

    def test_an_anonymous_client_never_comes_back(self, lab: CoreSystem) -> None:
        lab.tell(plain_said(b"\0abcd", (b"",), b"x"))
        lab.tell(events.PeerLost(events.Side.CLIENT, b"\0abcd"))
        assert lab.core.requests.count == 0
        assert not lab.core.clients.by_peer

    def test_an_idle_worker_that_comes_back_without_a_word_is_used_again(self, lab: CoreSystem) -> None:
        lab.lose_worker("PW1")
        self.ask(lab, "P1", b"hi")
        assert not lab.plain_tasks["PW1"]
        lab.tell(events.PeersConnected(events.Side.WORKER))
        lab.wait(0.5)
        assert lab.plain_tasks["PW1"] == [(b"P1", b"hi")]

    def test_a_plain_client_and_a_native_worker(self) -> None:
        system = CoreSystem()
        system.worker("W1", services=(DEFAULT_SERVICE,))
        self.ask(system, "P1", b"5")
        system.answer_all("W1")
        assert self.replies(system, "P1") == [b"done 5"]

    def test_a_native_client_and_a_plain_worker(self, lab: CoreSystem) -> None:
        lab.client()
        lab.ask(1, service=DEFAULT_SERVICE)
        ((frame, body),) = lab.plain_tasks["PW1"]
        assert frame.startswith(b"C1#") and body == b"1"
        lab.tell(req_said(b"PW1", frame, b"ho"))
        assert lab.answers() == [(1, Status.OK)]


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
