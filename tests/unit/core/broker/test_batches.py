"""What leaves a step: one batch a peer, unless somebody with another dialect has its identity now."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.broker.events import SendToClient, SendToWorker, Side, Undelivered
from cbw.core.broker.outbox import RECORDS_MAX, Outbox
from cbw.core.messages import Answer, Beat, Status
from cbw.wire import lab, majordomo_01, native

from .system import CoreSystem, plain_said


def test_messages_for_a_client_are_one_batch() -> None:
    outbox = Outbox("BRO", is_tracing=False)
    for number in range(3):
        outbox.tell_strange_client(b"C1", native.CLIENT, Answer(number, Status.OK, b""))
    (order,) = outbox.take_orders()
    assert isinstance(order, SendToClient) and len(order.messages) == 3


def test_messages_for_a_worker_are_one_batch() -> None:
    outbox = Outbox("BRO", is_tracing=False)
    for number in range(3):
        outbox.tell_strange_worker(b"W1", native.WORKER, Answer(number, Status.OK, b""))
    (order,) = outbox.take_orders()
    assert isinstance(order, SendToWorker) and len(order.messages) == 3


def test_whoever_speaks_another_dialect_gets_a_batch_of_its_own() -> None:
    outbox = Outbox("BRO", is_tracing=False)
    outbox.tell_strange_client(b"P", native.CLIENT, Beat())
    outbox.tell_strange_client(b"P", lab.CLIENT, Beat())
    outbox.tell_strange_worker(b"P", native.WORKER, Beat())
    outbox.tell_strange_worker(b"P", majordomo_01.WORKER, Beat())
    orders = [order for order in outbox.take_orders() if isinstance(order, SendToClient | SendToWorker)]
    assert [(type(order), order.dialect) for order in orders] == [
        (SendToClient, native.CLIENT),
        (SendToWorker, native.WORKER),
        (SendToWorker, majordomo_01.WORKER),
        (SendToClient, lab.CLIENT),
    ]


def test_an_answer_for_a_client_with_sessions_is_not_kept_for_a_program_without() -> None:
    """It has the identity of the other now (G1)."""
    system = CoreSystem()
    system.tell(plain_said(b"P1", (b"",), b"one"))
    system.tell(Undelivered(Side.CLIENT, b"P1", [Answer(1, Status.OK, b"of another program")]))
    assert system.core.requests.parked.count == 0


def test_failures_are_told_as_long_as_there_is_room_and_always_into_a_trace() -> None:
    for is_tracing in (False, True):
        outbox = Outbox("BRO", is_tracing=is_tracing)
        assert outbox.wants_failures
        for _ in range(RECORDS_MAX):
            outbox.trace(catalogue.STOPPING)
        assert outbox.wants_failures is is_tracing
