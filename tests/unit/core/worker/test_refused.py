"""An id that is taken, more than once."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.hello import DUPLICATE_PATIENCE_S
from cbw.core.worker.broker_session import REFUSED_RETRY_S
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.events import BatchArrived, Connected, End, Order, Send


def test_refusals_from_before_a_welcome_do_not_count() -> None:
    taken = messages.Refused(messages.Refusal.DUPLICATE_ID, "W1 is here")
    core = WorkerCore("W1", "boot", [""], 1)
    core.step([Connected()], 0.0)
    core.step([BatchArrived([taken])], 0.0)
    core.step([], 1.0)  # says hello again
    core.step([BatchArrived([messages.Welcome("BRO", "b", 3.0, 1000)])], 1.0)
    core.step([BatchArrived([messages.HelloAgain()])], 1.5)  # over the same connection
    core.step([BatchArrived([taken])], DUPLICATE_PATIENCE_S + 0.5)
    assert not core.is_ended


BAD = messages.Refused(messages.Refusal.BAD_HELLO, "no such id")


def _hellos(orders: list[Order], connection: int) -> int:
    sent = (order.messages for order in orders if isinstance(order, Send) and order.connection == connection)
    return sum(type(message) is messages.WorkerHello for batch in sent for message in batch)


def _refused_by_one_of_two() -> WorkerCore:
    core = WorkerCore("W1", "boot", [""], 1, places=("a:9999", "b:9999"))
    core.step([Connected(0), Connected(1)], 0.0)
    core.step([BatchArrived([messages.Welcome("BRO", "b", 30.0, 1000)], 0), BatchArrived([BAD], 1)], 0.1)
    return core


def test_who_is_refused_by_one_broker_and_serves_another_asks_again_now_and_then() -> None:
    """Found by the simulation: another worker had its name there, and had left; nobody told it."""
    core = _refused_by_one_of_two()
    assert not core.is_ended
    assert not _hellos(core.step([], REFUSED_RETRY_S), 1)
    assert _hellos(core.step([], REFUSED_RETRY_S + 0.2), 1)
    core.step([BatchArrived([messages.Welcome("BRO2", "b2", 30.0, 1000)], 1)], REFUSED_RETRY_S + 0.3)
    assert [broker.broker for broker in core.brokers] == ["BRO", "BRO2"]


def test_who_is_refused_by_all_brokers_ends() -> None:
    core = _refused_by_one_of_two()
    core.step([BatchArrived([messages.HelloAgain()], 0)], 1.0)
    assert not core.is_ended
    orders = core.step([BatchArrived([BAD], 0)], 1.1)
    assert core.is_ended and core.refused == BAD and isinstance(orders[-1], End)
