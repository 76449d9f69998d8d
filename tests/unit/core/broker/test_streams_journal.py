"""Answers in parts and a broker with a journal: their parts are not stored, their ends are."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.messages import AnswerPart, Status, StreamRequest, StreamTask
from cbw.core.parts import parts_of, streamed_body

from .journaled import Journaled
from .system import client_said, worker_said


def start_worker(system: Journaled, tasks: list[int] | None = None) -> None:
    hello = messages.WorkerHello("W1", "b", ["s"], 1, 1, tasks or [], takes_streams=True)
    system.tell(worker_said(b"W1", [hello]))


def ask(system: Journaled, **options: bool | int) -> None:
    system.client("C1")
    system.tell(client_said(b"C1", [StreamRequest(1, "s", b"go", parts=4, **options)]))  # type: ignore[arg-type]


def task_of(system: Journaled) -> StreamTask:
    (task,) = (each for each in system.take("W1") if isinstance(each, StreamTask))
    return task


def answers(system: Journaled) -> list[messages.Answer]:
    return [each for each in system.take("C1") if isinstance(each, messages.Answer)]


@pytest.fixture
def system() -> Journaled:
    system = Journaled()
    start_worker(system)
    return system


def test_the_end_survives_the_broker(system: Journaled) -> None:
    ask(system)
    task = task_of(system)
    system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one")]))
    system.tell(worker_said(b"W1", [messages.Answer(task.id, Status.STREAMED, streamed_body(1))]))
    system.crash()
    ask(system, received=1)
    (answer,) = answers(system)
    assert answer.status is Status.STREAMED and parts_of(answer.body) == 1


def test_one_that_waited_goes_to_a_worker_as_a_stream() -> None:
    system = Journaled()
    ask(system)
    system.crash()
    ask(system)
    start_worker(system)
    assert task_of(system).parts == 4


def test_one_of_which_parts_had_come_is_broken(system: Journaled) -> None:
    """Its worker has said hello without it, as it closes what it cannot send any more."""
    ask(system)
    task = task_of(system)
    system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one"), AnswerPart(task.id, 2, b"two")]))
    system.crash()
    start_worker(system)
    ask(system, received=2)
    (answer,) = answers(system)
    assert answer.status is Status.BROKEN


def test_or_begins_anew(system: Journaled) -> None:
    ask(system, restarts=True)
    task = task_of(system)
    system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one"), AnswerPart(task.id, 2, b"two")]))
    system.crash()
    ask(system, received=2, restarts=True)
    start_worker(system)
    again = task_of(system)
    system.tell(worker_said(b"W1", [AnswerPart(again.id, 1, b"one")]))
    assert AnswerPart(1, 1, b"one", again.id) in system.take("C1") and answers(system) == []


class TestOnlyItsClientKnowsWhetherPartsCame:
    """After a restart of the broker. Until it says so it gets none."""

    @pytest.fixture
    def system(self, system: Journaled) -> Journaled:
        """Its worker has had it, and another attempt has begun."""
        ask(system)
        task_of(system)
        system.wait(1.0, "W1")  # that it is begun is stored after a while, with the next that is accepted
        system.client("C2")
        system.ask(7, client="C2", service="other")
        system.crash()
        system.wait(10)
        start_worker(system)
        return system

    def test_if_they_did_it_is_broken(self, system: Journaled) -> None:
        ask(system, received=1)
        (answer,) = answers(system)
        assert answer.status is Status.BROKEN

    def test_also_if_as_many_were_made_again(self, system: Journaled) -> None:
        system.tell(worker_said(b"W1", [AnswerPart(task_of(system).id, 1, b"one")]))
        ask(system, received=1)
        (answer,) = answers(system)
        assert answer.status is Status.BROKEN

    def test_also_if_it_ends_meanwhile(self, system: Journaled) -> None:
        task = task_of(system)
        end = messages.Answer(task.id, Status.STREAMED, streamed_body(1))
        system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one"), end]))
        ask(system, received=1)
        (answer,) = answers(system)
        assert answer.status is Status.BROKEN

    def test_if_not_it_goes_on(self, system: Journaled) -> None:
        ask(system)
        task = task_of(system)
        system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one")]))
        assert AnswerPart(1, 1, b"one", task.id) in system.take("C1") and answers(system) == []

    def test_and_begins_anew_if_parts_were_made_meanwhile(self, system: Journaled) -> None:
        task = task_of(system)
        system.client("C1")
        system.tell(worker_said(b"W1", [AnswerPart(task.id, 1, b"one")]))
        assert not any(isinstance(message, AnswerPart) for message in system.take("C1"))
        ask(system)
        assert messages.CancelTask(task.id) in system.take("W1") and answers(system) == []
