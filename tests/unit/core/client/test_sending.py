"""What a request says of its time, and what travels with it."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.client.core import ClientCore
from cbw.core.client.events import BatchArrived, Connected, Send, Submitted


@pytest.fixture
def core() -> ClientCore:
    """A client that the broker knows, which keeps answers until it hears of them."""
    core = ClientCore("C1", "boot")
    core.step([Connected()], 0.0)
    core.step([BatchArrived([messages.Welcome("BRO", "b", 3.0, 1 << 20, stores_answers=True)])], 0.0)
    return core


def sent(core: ClientCore, now: float, *facts: Submitted | BatchArrived) -> list[messages.Message]:
    return [message for order in core.step(facts, now) if isinstance(order, Send) for message in order.messages]


@pytest.mark.parametrize(("due_at", "delay_s"), [(None, None), (12.0, 2.0), (10.0, 0.0), (7.0, 0.0)])
def test_a_delay_is_what_is_left_of_it(core: ClientCore, due_at: float | None, delay_s: float | None) -> None:
    (request,) = sent(core, 10.0, Submitted(1, "s", [b"x"], None, "sink", due_at=due_at))
    assert isinstance(request, messages.Request) and request.delay_s == delay_s


def test_what_is_sent_takes_the_news_of_arrived_answers_along(core: ClientCore) -> None:
    sent(core, 10.0, Submitted(1, "s", [b"x"], None, "sink"))
    answer = messages.Answer(1, messages.Status.OK, b"")
    assert sent(core, 10.0, BatchArrived([answer])) == []  # by itself it can wait
    batch = sent(core, 10.0, Submitted(2, "s", [b"x"], None, "sink"))
    assert messages.Received([1]) in batch


def test_an_answer_right_behind_the_welcome_has_arrived_too() -> None:
    """Found by the simulation: the broker kept it, as if it might be asked for again."""
    core = ClientCore("C1", "boot")
    core.step([Connected(), Submitted(1, "s", [b"x"], None, "sink")], 0.0)
    welcome = messages.Welcome("BRO", "b", 3.0, 1 << 20, stores_answers=True)
    core.step([BatchArrived([welcome, messages.Answer(1, messages.Status.OK, b"")])], 0.0)
    assert messages.Received([1]) in sent(core, core.wake_at)
