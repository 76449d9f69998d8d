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
    assert AnswerPart(1, 1, b"one") in system.take("C1") and answers(system) == []


def test_a_worker_that_is_not_back_breaks_it_as_it_may_have_sent_parts(system: Journaled) -> None:
    ask(system)
    task_of(system)
    system.wait(1.0, "W1")  # that it is begun is stored after a while, with the next that is accepted
    system.client("C2")
    system.ask(7, client="C2", service="other")
    system.crash()
    system.wait(10)
    ask(system)
    (answer,) = answers(system)
    assert answer.status is Status.BROKEN
