"""A broker is lost, and another one, at another place, goes on with its journal: the worker goes on with what it has begun."""

from __future__ import annotations

import pytest
from msgspec import structs

from cbw.core import messages
from cbw.core.worker.broker_session import LATE_KEPT_S
from cbw.core.worker.core import LOOK_UP_S, WorkerCore
from cbw.core.worker.events import BatchArrived, BrokersFound, Connected, Disconnect, Disconnected, Order, Send

from .sessions import WELCOME, begun, finished, ok, task

OTHER = structs.replace(WELCOME, broker="BRO2", boot="0.2")


def said(orders: list[Order], connection: int) -> list[messages.Message]:
    """What goes over this connection."""
    sent = [order for order in orders if isinstance(order, Send) and order.connection == connection]
    return [message for order in sent for message in order.messages]


@pytest.fixture
def core() -> WorkerCore:
    """A worker that has begun a task of the first of two brokers; the second does not listen yet."""
    core = WorkerCore("W1", "boot", [""], 1, places=("a:9999", "b:9999"))
    core.step([Connected(0), BatchArrived([WELCOME, task(7)], 0)], 0.0)
    assert core.in_hand == [7]
    return core


@pytest.mark.parametrize("is_noticed", [True, False])
def test_it_is_asked_to_go_on(core: WorkerCore, is_noticed: bool) -> None:
    """It is so also if the worker has not noticed that the first broker is lost: that may be frozen."""
    core.step([Disconnected(0)] if is_noticed else [], 0.5)
    (hello,) = said(core.step([Connected(1)], 1.0), 1)
    assert isinstance(hello, messages.WorkerHello) and hello.tasks == [7]
    core.step([BatchArrived([structs.replace(OTHER, tasks=[7])], 1)], 1.1)
    orders = core.step([finished(ok(7))], 1.2)
    assert ok(7) in said(orders, 1) and ok(7) not in said(orders, 0)


def test_it_has_ended_meanwhile(core: WorkerCore) -> None:
    core.step([Disconnected(0)], 0.5)
    core.step([finished(ok(7))], 0.6)
    (hello,) = said(core.step([Connected(1)], 1.0), 1)
    assert isinstance(hello, messages.WorkerHello) and hello.tasks == [7]
    assert ok(7) in said(core.step([BatchArrived([structs.replace(OTHER, tasks=[7])], 1)], 1.1), 1)


def test_a_broker_with_a_queue_of_its_own_hears_nothing_of_it(core: WorkerCore) -> None:
    core.step([Disconnected(0)], 0.5)
    core.step([Connected(1)], 1.0)
    core.step([BatchArrived([OTHER], 1)], 1.1)
    assert ok(7) not in said(core.step([finished(ok(7))], 1.2), 1)
    core.step([Connected(0)], 2.0)
    assert ok(7) in said(core.step([BatchArrived([WELCOME], 0)], 2.1), 0), "that one fences it"


def test_an_answer_is_kept_while_a_successor_may_come(core: WorkerCore) -> None:
    """The name of the lost broker may have gone before its successor listens."""
    core.step([Disconnected(0)], 0.5)
    core.step([finished(ok(7))], 0.6)
    assert Disconnect(0) not in core.step([BrokersFound(["b:9999"])], LOOK_UP_S)
    assert Disconnect(0) in core.step([BrokersFound(["b:9999"])], LATE_KEPT_S + 1.0)


def test_what_is_in_hand_of_one_that_lives_stays_there(core: WorkerCore) -> None:
    core.step([Connected(1)], 1.0)
    core.step([BatchArrived([OTHER], 1)], 1.1)
    assert not begun(core.step([BatchArrived([task(8)], 1)], 1.2)), "there is no room"
    assert ok(7) in said(core.step([finished(ok(7))], 1.3), 0)


def test_what_it_goes_on_with_holds_its_slot(core: WorkerCore) -> None:
    """Found by the simulation: other brokers were offered that slot too, and what they sent was given back, without end."""
    core.step([Disconnected(0)], 0.5)
    core.step([Connected(0), Connected(1)], 1.0)
    orders = core.step([BatchArrived([OTHER], 1)], 1.1)
    orders += core.step([BatchArrived([structs.replace(WELCOME, tasks=[7])], 0)], 1.2)
    assert core.in_hand == [7]
    credits = [message.tasks for message in said(orders, 1) if isinstance(message, messages.Credit)]
    assert credits[-1] == 0
