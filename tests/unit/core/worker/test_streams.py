"""Answers in parts in the worker's core: what of them is sent, and when their handlers are closed."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.messages import AnswerPart, PartsWanted, ProgressMade, Status, StreamTask
from cbw.core.parts import streamed_body
from cbw.core.worker import events
from cbw.core.worker.core import WorkerCore


class Working:
    """A registered core, and its orders."""

    def __init__(self, *, takes_streams: bool = True) -> None:
        self.core = WorkerCore("W1", "boot", ["s"], 1, takes_streams=True)
        self.welcome = messages.Welcome("BRO", "b", 3.0, 100, takes_streams=takes_streams)
        self.step(events.Connected(), events.BatchArrived([self.welcome]))

    def step(self, *facts: events.Fact, now: float = 1.0) -> list[events.Order]:
        return self.core.step(facts, now)

    def sent(self, *facts: events.Fact) -> list[messages.Message]:
        orders = self.step(*facts)
        return [message for order in orders if isinstance(order, events.Send) for message in order.messages]

    def begin(self) -> None:
        task = StreamTask(7, "s", b"go", None, 1, parts=4)
        assert self.step(events.BatchArrived([task])) == [events.Begin([task])]


@pytest.fixture
def working() -> Working:
    working = Working()
    working.begin()
    return working


def went_on(*news: AnswerPart | ProgressMade) -> events.AnswersWentOn:
    return events.AnswersWentOn(list(news))


def test_its_hello_says_that_it_takes_streams() -> None:
    core = WorkerCore("W1", "boot", ["s"], 1, takes_streams=True)
    (send,) = core.step([events.Connected()], 1.0)
    assert isinstance(send, events.Send) and isinstance(send.messages[0], messages.WorkerHello)
    assert send.messages[0].takes_streams


def test_parts_are_sent_as_they_are_made(working: Working) -> None:
    part, progress = AnswerPart(7, 1, b"one"), ProgressMade(7, 1, 2)
    assert working.sent(went_on(part, progress)) == [part, progress]
    end = messages.Answer(7, Status.STREAMED, streamed_body(1))
    assert end in working.sent(events.TasksFinished([end], 0.1))
    assert working.core.tasks_failed == 0 and working.sent(went_on(AnswerPart(7, 2, b"late"))) == []


def test_room_is_passed_on_behind_the_begin() -> None:
    working = Working()
    task = StreamTask(7, "s", b"go", None, 1, parts=4)
    orders = working.step(events.BatchArrived([task]), events.BatchArrived([PartsWanted(7, 9)]))
    assert orders == [events.Begin([task]), events.GrantParts(7, 9)]


def test_handlers_that_may_wait_do_not_run_where_the_socket_is_read(working: Working) -> None:
    end = messages.Answer(7, Status.STREAMED, streamed_body(0))
    working.step(events.TasksFinished([end], 0.00001))
    assert not working.core.is_quick


def test_a_part_that_is_too_large_ends_it(working: Working) -> None:
    orders = working.step(went_on(AnswerPart(7, 1, b"x" * 101), AnswerPart(7, 2, b"two")))
    sent = [message for order in orders if isinstance(order, events.Send) for message in order.messages]
    (answer,) = (message for message in sent if isinstance(message, messages.Answer))
    assert answer.status is Status.TOO_BIG and "part 1 of the answer has 101 bytes" in messages.error_of(answer.body)[1]
    assert not any(isinstance(message, AnswerPart) for message in sent)
    assert events.CancelTasks([7]) in orders
    end = messages.Answer(7, Status.CANCELLED, b"")
    assert not [each for each in working.sent(events.TasksFinished([end], 0.1)) if isinstance(each, messages.Answer)]


def test_a_lost_connection_closes_it_and_the_next_hello_does_not_name_it(working: Working) -> None:
    orders = working.step(events.Disconnected())
    assert events.CancelTasks([7]) in orders
    assert working.sent(went_on(AnswerPart(7, 1, b"one"))) == []
    (hello,) = working.sent(events.Connected())
    assert isinstance(hello, messages.WorkerHello) and hello.tasks == [] and hello.credit == 0, "its slot is held"
    end = messages.Answer(7, Status.CANCELLED, b"")
    working.step(events.BatchArrived([working.welcome]))
    assert not [each for each in working.sent(events.TasksFinished([end], 0.1)) if isinstance(each, messages.Answer)]
    assert working.core.left_over == []


def test_a_broker_that_knows_no_progress_is_told_none() -> None:
    working = Working(takes_streams=False)
    task = messages.Task(7, "s", b"go", None, 1)
    working.step(events.BatchArrived([task]))
    assert working.sent(went_on(ProgressMade(7, 1))) == []
