"""Answers in parts and progress in the client's core: what is asked of which broker, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core import messages
from cbw.core.client import events
from cbw.core.client.core import ClientCore
from cbw.core.messages import AnswerPart, PartsWanted, ProgressMade, Request, RequestIfServed, Status, StreamRequest
from cbw.core.parts import PARTS_FIRST, streamed_body


class Asking:
    """A core that has just said hello, and what it orders."""

    def __init__(self, **welcome: bool) -> None:
        self.core = ClientCore("C1", "boot")
        self.sent: list[messages.Message] = []
        self.news: list[tuple[Any, messages.Message]] = []
        self.ended: list[events.Ended] = []
        self.welcome = messages.Welcome("BRO", "boot", 3.0, 1000, **welcome)  # type: ignore[arg-type]
        self.step(events.Connected(), events.BatchArrived([self.welcome]))

    def step(self, *facts: events.Fact, now: float = 1.0) -> None:
        for order in self.core.step(facts, now):
            if isinstance(order, events.Send):
                self.sent += order.messages
            elif isinstance(order, events.Deliver):
                self.news += order.news
            elif isinstance(order, events.End):
                self.ended += order.requests

    def ask(self, *, parts: int | None = PARTS_FIRST, requires_worker: bool = False) -> None:
        request = StreamRequest(1, "s", b"go", parts=parts, wants_progress=True, requires_worker=requires_worker)
        self.sent.clear()
        self.step(events.StreamRequested(request, None, "sink"))

    def hear(self, *batch: messages.Message) -> None:
        self.step(events.BatchArrived(list(batch)))


def test_parts_and_progress_go_to_the_sink_and_the_end_behind_them() -> None:
    asking = Asking(takes_streams=True)
    asking.ask()
    assert asking.sent == [StreamRequest(1, "s", b"go", parts=PARTS_FIRST, wants_progress=True)]
    part, progress = AnswerPart(1, 1, b"one"), ProgressMade(1, 1, 2)
    asking.hear(part, progress, messages.Answer(1, Status.STREAMED, streamed_body(1)))
    assert asking.news == [("sink", part), ("sink", progress)]
    assert [ended.answer.status for ended in asking.ended] == [Status.STREAMED]
    asking.hear(AnswerPart(1, 2, b"late"))
    assert len(asking.news) == 2


def test_room_is_told_when_the_program_has_taken_parts() -> None:
    asking = Asking(takes_streams=True)
    asking.ask()
    asking.sent.clear()
    asking.hear(AnswerPart(1, 1, b"one", 5))
    asking.step(events.PartsTaken(1, 1), events.PartsTaken(7, 1))
    (wanted,) = asking.sent
    assert isinstance(wanted, PartsWanted) and (wanted.id, wanted.task) == (1, 5) and wanted.parts > PARTS_FIRST


def test_after_a_lost_connection_it_says_what_has_come() -> None:
    asking = Asking(takes_streams=True)
    asking.ask()
    asking.hear(AnswerPart(1, 1, b"one"), AnswerPart(1, 2, b"two"))
    asking.step(events.Disconnected(), events.Connected())
    asking.step(events.PartsTaken(1, 2))
    asking.sent.clear()
    asking.hear(asking.welcome)
    (again,) = asking.sent
    assert isinstance(again, StreamRequest) and again.received == 2 and (again.parts or 0) > PARTS_FIRST


class TestUnwanted:
    """A stream that ends here before it ends at the broker would wait there for ever, as nobody takes its parts."""

    @pytest.fixture
    def asking(self) -> Asking:
        asking = Asking(takes_streams=True)
        asking.ask()
        asking.step(events.CancelRequested([1]))
        return asking

    def said_again(self, asking: Asking) -> list[messages.Message]:
        """Over another connection."""
        asking.sent.clear()
        asking.step(events.Disconnected(), events.Connected(), events.BatchArrived([asking.welcome]))
        return [message for message in asking.sent if type(message) is messages.Cancel]

    def test_the_broker_is_told_with_each_hello_as_the_cancel_may_be_lost(self, asking: Asking) -> None:
        assert asking.sent[-1] == messages.Cancel(1)
        for _ in range(2):
            assert self.said_again(asking) == [messages.Cancel(1)]

    def test_until_it_answers(self, asking: Asking) -> None:
        asking.hear(messages.Answer(1, Status.CANCELLED, messages.error_body("cancelled", "")))
        assert self.said_again(asking) == []

    def test_until_it_answers_the_beat_behind(self, asking: Asking) -> None:
        """Found by the simulation: what no broker knew was cancelled with each hello, for ever."""
        assert self.said_again(asking) == [messages.Cancel(1)]
        assert asking.sent[-1] == messages.Beat()
        asking.hear(messages.Beat())
        assert self.said_again(asking) == []
        assert messages.Beat() not in asking.sent

    def test_beats_of_an_earlier_hello_say_nothing_of_the_last(self, asking: Asking) -> None:
        self.said_again(asking)
        asking.hear(messages.HelloAgain(), asking.welcome)
        asking.hear(messages.Beat())
        asking.hear(messages.HelloAgain(), asking.welcome)
        asking.hear(messages.Beat())
        assert self.said_again(asking) == [messages.Cancel(1)], "two beats are not answered yet"
        asking.hear(messages.Beat())
        assert self.said_again(asking) == [], "another connection: one beat was sent over it"

    def test_a_beat_that_was_not_sent_is_not_waited_for(self, asking: Asking) -> None:
        self.said_again(asking)
        asking.step(events.Unsent([messages.Beat()]), events.BatchArrived([messages.HelloAgain(), asking.welcome]))
        asking.hear(messages.Beat())
        assert self.said_again(asking) == []

    def test_one_that_has_ended_here_and_is_run_again_is_cancelled_once(self) -> None:
        """It was sent again, over another connection, while its answer was on the way."""
        asking = Asking(takes_streams=True)
        asking.ask()
        asking.hear(messages.Answer(1, Status.OK, b"done"))
        asking.sent.clear()
        asking.hear(AnswerPart(1, 1, b"one"))
        asking.hear(AnswerPart(1, 2, b"two"))
        assert asking.sent == [messages.Cancel(1)] and asking.news == []

    @pytest.mark.parametrize("is_new", [True, False])
    def test_one_that_was_sent_again_is_cancelled_when_it_ends_as_it_may_be_run_again(self, is_new: bool) -> None:
        """Found by the simulation: what it was sent of the second run was lost, so it never knew of that, which waited for it."""
        asking = Asking(takes_streams=True)
        asking.ask()
        if not is_new:
            asking.hear(messages.HelloAgain(), asking.welcome)
            assert [type(each) for each in asking.sent[1:]] == [messages.ClientHello, StreamRequest]
        asking.sent.clear()
        asking.hear(messages.Answer(1, Status.OK, b"done"))
        assert asking.sent == ([] if is_new else [messages.Cancel(1)])
        assert self.said_again(asking) == ([] if is_new else [messages.Cancel(1)])

    def test_also_if_its_time_is_over(self) -> None:
        asking = Asking(takes_streams=True)
        asking.step(events.StreamRequested(StreamRequest(1, "s", b"go", parts=PARTS_FIRST), 5.0, "sink"))
        asking.sent.clear()
        for now in (5.0, 9.0):  # the broker is asked where it is, and does not say: it may not have heard that
            asking.step(now=now)
        assert asking.sent == [messages.Cancel(1, is_late=True), messages.Cancel(1)]
        assert [ended.answer.status for ended in asking.ended] == [Status.EXPIRED]
        assert self.said_again(asking) == [messages.Cancel(1)]


def test_parts_and_progress_of_what_has_not_asked_for_them_are_dropped() -> None:
    asking = Asking(takes_streams=True)
    asking.step(events.Submitted(1, "s", [b"go"], None, "sink"))
    asking.hear(AnswerPart(1, 1, b"one"), ProgressMade(1, 1), AnswerPart(9, 1, b"one"))
    assert asking.news == []
    asking.step(events.StreamRequested(StreamRequest(2, "s", b"go", wants_progress=True), None, "sink"))
    asking.hear(AnswerPart(2, 1, b"one"))
    assert asking.news == [], "it wants one answer"


@pytest.mark.parametrize("refuses_unserved", [True, False])
@pytest.mark.parametrize("requires_worker", [True, False])
def test_a_broker_that_knows_no_streams(refuses_unserved: bool, requires_worker: bool) -> None:
    """It is sent what it knows: without progress there is still an answer, but there are no parts."""
    asking = Asking(refuses_unserved=refuses_unserved)
    asking.ask(parts=None, requires_worker=requires_worker)
    kind = RequestIfServed if refuses_unserved and requires_worker else Request
    assert asking.sent == [kind(1, "s", b"go")] and type(asking.sent[0]) is kind
    asking.hear(messages.Answer(1, Status.OK, b"done"))
    assert [ended.answer.body for ended in asking.ended] == [b"done"]
    asking.ask()
    assert asking.sent == []
    refused = asking.ended[-1].refused
    assert refused is not None and refused.reason is messages.Refusal.VERSION and "no streams" in refused.text
