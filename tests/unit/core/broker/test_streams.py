"""Answers in parts and progress, as the broker's core passes them on, and what breaks them."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.snapshot import snapshot
from cbw.core.broker.streams import UNASKED_MAX, WANTED_MAX
from cbw.core.messages import AnswerPart, PartsWanted, ProgressMade, Status, StreamRequest, StreamTask
from cbw.core.parts import PARTS_FIRST, parts_of, streamed_body
from cbw.core.plain_messages import Partial
from cbw.wire import majordomo_02
from cbw.wire.majordomo_01 import hello_of

from .system import CoreSystem, client_said, worker_said


def start_worker(system: CoreSystem, name: str = "W1") -> None:
    hello = messages.WorkerHello(name, "b", ["s"], 1, 1, takes_streams=True)
    system.tell(worker_said(name.encode(), [hello]))


def ask(system: CoreSystem, id: int = 1, parts: int | None = 4, client: str = "C1", **options: Any) -> None:
    system.tell(client_said(client.encode(), [StreamRequest(id, "s", b"go", parts=parts, **options)]))


def want(system: CoreSystem, parts: int, id: int = 1, task: int = 0) -> None:
    system.tell(client_said(b"C1", [PartsWanted(id, parts, task)]))


def task_of(system: CoreSystem, worker: str = "W1") -> StreamTask:
    (task,) = (each for each in system.take(worker) if isinstance(each, messages.Task))
    assert isinstance(task, StreamTask)
    return task


def send(system: CoreSystem, task: messages.Task, *numbers: int, worker: str = "W1") -> None:
    system.tell(worker_said(worker.encode(), [AnswerPart(task.id, n, b"part %d" % n) for n in numbers]))


def end(system: CoreSystem, task: messages.Task, parts: int, worker: str = "W1") -> None:
    answer = messages.Answer(task.id, Status.STREAMED, streamed_body(parts))
    system.tell(worker_said(worker.encode(), [answer]))


def parts_got(system: CoreSystem, client: str = "C1") -> list[int]:
    """The numbers of the parts that the client has got, all for request 1."""
    got = [each for each in system.take(client) if isinstance(each, AnswerPart)]
    assert all(each.id == 1 and each.body == b"part %d" % each.number for each in got)
    return [each.number for each in got]


def only_answer(system: CoreSystem, client: str = "C1") -> tuple[Status, str]:
    (answer,) = (each for each in system.take(client) if isinstance(each, messages.Answer))
    return answer.status, messages.error_of(answer.body)[1]


@pytest.fixture
def system() -> CoreSystem:
    system = CoreSystem()
    start_worker(system)
    system.client("C1")
    system.take("C1"), system.take("W1")
    return system


def test_it_announces_that_it_takes_streams(system: CoreSystem) -> None:
    system.client("C2")
    (welcome,) = system.take("C2")
    assert isinstance(welcome, messages.Welcome) and welcome.takes_streams


def test_parts_pass_and_the_end_says_how_many(system: CoreSystem) -> None:
    ask(system)
    task = task_of(system)
    assert task.parts == 4
    send(system, task, 1, 2)
    assert parts_got(system) == [1, 2]
    end(system, task, 2)
    (answer,) = system.take("C1")
    assert isinstance(answer, messages.Answer) and answer.status is Status.STREAMED and parts_of(answer.body) == 2
    assert system.events()[-1] == "answered" and system.core.requests.count == 0


def test_room_for_more_is_passed_on_to_the_worker(system: CoreSystem) -> None:
    ask(system)
    task = task_of(system)
    want(system, 9)
    assert system.take("W1") == [PartsWanted(task.id, 9)]
    want(system, 7)
    want(system, 1, id=2)
    assert system.take("W1") == []


def test_room_that_is_told_while_the_request_waits_stands_in_its_task() -> None:
    system = CoreSystem()
    system.client("C1")
    ask(system)
    want(system, 6)
    start_worker(system)
    assert task_of(system).parts == 6


def test_a_client_cannot_make_the_broker_keep_whatever_it_likes(system: CoreSystem) -> None:
    ask(system, parts=10**9)
    task = task_of(system)
    assert task.parts == WANTED_MAX
    want(system, 10**9)
    assert system.take("W1") == []
    send(system, task, 1)
    want(system, 10**9)
    assert system.take("W1") == [PartsWanted(task.id, WANTED_MAX + 1)]


def test_a_worker_that_sends_more_than_there_is_room_for_breaks_it(system: CoreSystem) -> None:
    ask(system, parts=2)
    task = task_of(system)
    send(system, task, 1, 2, 3)
    batch = system.take("C1")
    assert [each.number for each in batch if isinstance(each, AnswerPart)] == [1, 2]
    (answer,) = (each for each in batch if isinstance(each, messages.Answer))
    assert answer.status is Status.BROKEN and system.core.outbox.counts["messages_bad"] == 1
    assert system.take("W1") == [messages.CancelTask(task.id)]
    send(system, task, 4)
    assert parts_got(system) == [] and system.core.outbox.counts["answers_fenced"] == 1


def test_a_lost_worker_breaks_it(system: CoreSystem) -> None:
    ask(system)
    send(system, task_of(system), 1, 2)
    system.take("C1")
    start_worker(system, "W2")
    system.lose_worker("W1")
    assert only_answer(system) == (Status.BROKEN, "the answer broke off after 2 parts: lost its connection")
    assert not system.take_tasks("W2") and system.core.outbox.counts["attempts_failed"] == 1
    assert system.events()[-1] == "failed"


def test_a_lost_worker_that_has_sent_nothing_is_an_attempt_like_others(system: CoreSystem) -> None:
    ask(system)
    task_of(system)
    system.lose_worker("W1")
    start_worker(system, "W2")
    task = task_of(system, "W2")
    assert (task.attempt, task.parts) == (2, 4)


def test_one_that_restarts_begins_with_its_first_part_again(system: CoreSystem) -> None:
    ask(system, restarts=True)
    late = task_of(system)
    send(system, late, 1, 2)
    want(system, 9)
    system.lose_worker("W1")
    assert parts_got(system) == [1, 2]
    start_worker(system, "W2")
    task = task_of(system, "W2")
    assert (task.attempt, task.parts) == (2, 4)
    send(system, task, 1, worker="W2")
    assert parts_got(system) == [1]
    send(system, late, 3)
    assert parts_got(system) == []


def test_room_for_parts_of_an_earlier_attempt_is_none_for_those_of_the_next(system: CoreSystem) -> None:
    ask(system, restarts=True)
    late = task_of(system)
    send(system, late, 1, 2)
    system.lose_worker("W1")
    want(system, 64, task=late.id)
    start_worker(system, "W2")
    task = task_of(system, "W2")
    assert task.parts == 4
    want(system, 96, task=late.id)
    assert system.take("W2") == []
    want(system, 9, task=task.id)
    assert system.take("W2") == [PartsWanted(task.id, 9)]


@pytest.mark.parametrize("restarts", [True, False])
def test_a_worker_that_says_hello_again_has_closed_it(system: CoreSystem, restarts: bool) -> None:
    """Over the same connection: that is no failed attempt, but the parts that it has sent are of one that is over."""
    ask(system, restarts=restarts)
    send(system, task_of(system), 1, 2)
    assert parts_got(system) == [1, 2]
    start_worker(system)
    if restarts:
        again = task_of(system)
        assert again.attempt == 1
        send(system, again, 1)
        assert parts_got(system) == [1]
    else:
        assert only_answer(system)[0] is Status.BROKEN and system.take_tasks("W1") == []


def test_a_retry_after_parts_is_an_error(system: CoreSystem) -> None:
    ask(system)
    task = task_of(system)
    send(system, task, 1)
    system.take("C1")
    error = messages.error_body("ValueError", "no more")
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.RETRY, error, 1.0)]))
    status, text = only_answer(system)
    assert status is Status.FAILED and text.startswith("no more") and "parts of its answer were sent" in text


class TestClientsThatComeBack:
    def back(self, system: CoreSystem, received: int, **options: Any) -> None:
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.client("C1", peer="C1b")
        system.take("C1b")
        ask(system, client="C1b", received=received, **options)

    def test_it_goes_on_if_nothing_is_lost(self, system: CoreSystem) -> None:
        ask(system)
        task = task_of(system)
        send(system, task, 1)
        self.back(system, 1, parts=7)
        assert system.take("W1") == [PartsWanted(task.id, 7)]
        send(system, task, 2)
        assert parts_got(system, "C1b") == [2]

    def test_it_is_broken_if_a_part_is_lost(self, system: CoreSystem) -> None:
        ask(system)
        task = task_of(system)
        send(system, task, 1, 2)
        self.back(system, 1)
        assert only_answer(system, "C1b")[0] is Status.BROKEN
        assert system.take("W1") == [messages.CancelTask(task.id)]

    def test_parts_that_come_meanwhile_are_lost_and_it_takes_no_slot_for_nobody(self, system: CoreSystem) -> None:
        ask(system)
        task = task_of(system)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        send(system, task, 1)
        assert system.core.outbox.counts["partials_dropped"] == 1
        assert system.take("W1") == [messages.CancelTask(task.id)] and system.core.requests.count == 0
        system.client("C1", peer="C1b")
        end(system, task, 1)
        ask(system, client="C1b")
        send(system, task_of(system), 1)
        assert parts_got(system, "C1b") == [1], "it has got nothing of the first attempt"

    def test_one_that_waits_for_its_client_to_read_does_not_wait_for_long(self, system: CoreSystem) -> None:
        ask(system, parts=1)
        task = task_of(system)
        send(system, task, 1)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.wait(system.core.limits.liveness_s - 0.1, "W1")
        assert system.take("W1")[-1] == messages.Beat()
        system.wait(1.0, "W1")
        assert messages.CancelTask(task.id) in system.take("W1")
        self.back(system, 1, task=task.id)
        assert only_answer(system, "C1b")[0] is Status.BROKEN

    def test_it_begins_anew_if_it_may(self, system: CoreSystem) -> None:
        ask(system, restarts=True)
        task = task_of(system)
        send(system, task, 1, 2)
        self.back(system, 1, restarts=True)
        assert system.take("W1") == [messages.CancelTask(task.id)]
        send(system, task, 3)
        assert parts_got(system, "C1b") == []
        end(system, task, 3)
        again = task_of(system)
        send(system, again, 1)
        assert parts_got(system, "C1b") == [1]

    def test_its_worker_was_busy_since_it_got_the_attempt_that_is_left(self, system: CoreSystem) -> None:
        system.wait(10.0, "W1")
        system.lose_worker("W1")
        system.tell(worker_said(b"W2", [messages.WorkerHello("W2", "b", ["s"], 2, 2, takes_streams=True)]))
        ask(system, restarts=True)
        send(system, task_of(system, "W2"), 1, 2, worker="W2")
        system.client("C2")
        ask(system, 1, None, "C2")
        (other,) = system.take_tasks("W2")
        self.back(system, 1, restarts=True)
        system.wait(1.0, "W2")
        system.answer("W2", other)
        (shown,) = snapshot(system.core, system.now)["workers"]
        assert shown["mean_s"] == pytest.approx(1.0)

    def test_as_many_parts_of_an_earlier_attempt_are_not_those_that_were_sent(self, system: CoreSystem) -> None:
        ask(system, restarts=True)
        first = task_of(system)
        send(system, first, 1, 2)
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        system.lose_worker("W1")
        start_worker(system, "W2")
        second = task_of(system, "W2")
        send(system, second, 1, 2, worker="W2")
        self.back(system, 2, task=first.id, restarts=True)
        assert system.take("W2") == [messages.CancelTask(second.id)]

    def test_a_suspect_that_begins_anew_travels_alone_until_its_worker_has_answered(self, system: CoreSystem) -> None:
        """Found by the simulation: the worker wanted more, and nobody knew."""
        ask(system, restarts=True)
        send(system, task_of(system), 1)
        system.lose_worker("W1")
        system.tell(worker_said(b"W2", [messages.WorkerHello("W2", "b", ["s"], 1, 3, takes_streams=True)]))
        second = task_of(system, "W2")
        send(system, second, 1, 2, worker="W2")
        system.tell(events.PeerLost(events.Side.CLIENT, b"C1"))
        self.back(system, 1, task=second.id, restarts=True)
        assert system.take("W2") == [messages.CancelTask(second.id)]
        end(system, second, 2, worker="W2")
        assert task_of(system, "W2").attempt == 2

    def test_what_has_room_is_told_of_parts_of_an_earlier_attempt(self, system: CoreSystem) -> None:
        ask(system, received=30, parts=90, restarts=True)
        assert task_of(system).parts == PARTS_FIRST

    def test_a_broker_that_does_not_know_it_says_so(self, system: CoreSystem) -> None:
        ask(system, received=3)
        assert only_answer(system)[0] is Status.BROKEN and system.take("W1") == []

    def test_or_begins_anew(self, system: CoreSystem) -> None:
        ask(system, received=3, restarts=True)
        send(system, task_of(system), 1)
        assert parts_got(system) == [1]


class TestWorkersThatKnowNoStreams:
    @pytest.fixture
    def system(self) -> CoreSystem:
        system = CoreSystem()
        system.worker("W1")
        system.client("C1")
        system.take("C1"), system.take("W1")
        return system

    def test_they_get_a_plain_task_and_make_one_part(self, system: CoreSystem) -> None:
        ask(system)
        (task,) = system.take_tasks("W1")
        assert type(task) is messages.Task
        want(system, 10)
        assert system.take("W1") == []
        system.answer("W1", task)
        assert system.answers() == [(1, Status.OK)]


def test_parts_of_a_majordomo_worker_reach_a_native_client() -> None:
    system = CoreSystem(is_tracing=False)
    system.client("C1")
    system.take("C1")
    system.tell(events.WorkerSaid(b"M1", [hello_of(b"M1", "s")], majordomo_02.WORKER))
    ask(system, parts=2)
    (task,) = system.take_tasks("M1")
    say = [Partial(task.id, b"part %d" % number) for number in range(1, UNASKED_MAX + 4)]
    system.tell(events.WorkerSaid(b"M1", say[:3], majordomo_02.WORKER))
    assert parts_got(system) == [1, 2, 3], "it cannot be told to wait"
    system.tell(events.WorkerSaid(b"M1", say[3:], majordomo_02.WORKER))
    batch = system.take("C1")
    assert [each.status for each in batch if isinstance(each, messages.Answer)] == [Status.BROKEN], "but not for ever"


class TestProgress:
    def test_who_asks_for_it_is_told(self, system: CoreSystem) -> None:
        ask(system, parts=None, wants_progress=True)
        (task,) = system.take_tasks("W1")
        assert type(task) is messages.Task
        system.tell(worker_said(b"W1", [ProgressMade(task.id, 1, 4, "x" * 1000)]))
        assert system.take("C1") == [ProgressMade(1, 1, 4, "x" * 200)]
        system.answer("W1", task)
        assert system.answers() == [(1, Status.OK)]

    def test_the_status_shows_it_while_the_request_runs(self, system: CoreSystem) -> None:
        system.ask(1)
        (task,) = system.take_tasks("W1")
        system.tell(worker_said(b"W1", [ProgressMade(task.id, 1, 4, "half a half")]))
        assert system.take("C1") == []
        (shown,) = snapshot(system.core, system.now + 2)["progress"]
        assert shown == {
            "request": "C1/1",
            "service": "s",
            "worker": "W1",
            "running_s": 2.0,
            "done": 1,
            "total": 4,
            "text": "half a half",
        }
        system.answer("W1", task)
        assert snapshot(system.core, system.now)["progress"] == []

    def test_a_lost_worker_does_not_break_what_wants_one_answer(self, system: CoreSystem) -> None:
        ask(system, parts=None, wants_progress=True)
        (task,) = system.take_tasks("W1")
        system.tell(worker_said(b"W1", [ProgressMade(task.id, 1)]))
        system.lose_worker("W1")
        system.take("C1")
        system.worker("W2")
        system.answer_all("W2")
        assert system.answers() == [(1, Status.OK)]
