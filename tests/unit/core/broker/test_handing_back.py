"""What native workers give back, and how much they may ask for."""

from __future__ import annotations

from cbw.core import messages
from cbw.core.broker.events import BadMessageArrived, Side, WorkerSaid
from cbw.wire import majordomo_01

from .system import CoreSystem, worker_said


def asked(count: int) -> CoreSystem:
    """A client that has asked for ``count`` things."""
    system = CoreSystem()
    system.client()
    system.ask(*range(1, count + 1))
    return system


def test_what_a_worker_leaves_is_handed_out_in_the_order_in_which_it_was_asked() -> None:
    system = asked(4)
    system.worker("W1", credit=4)
    assert system.bodies("W1") == [1, 2, 3, 4]
    system.tell(worker_said(b"W1", [messages.Goodbye()]))
    system.worker("W2", credit=4)
    assert system.bodies("W2") == [1, 2, 3, 4]


def test_a_negative_credit_counts_as_none() -> None:
    system = CoreSystem()
    system.client()
    system.worker("W1")
    system.tell(worker_said(b"W1", [messages.Credit(-5)]))
    (worker,) = system.core.workers.by_peer.values()
    assert worker.credit == 0
    system.ask(1)
    assert system.bodies("W1") == []


def test_a_client_that_says_hello_again_over_its_own_connection_is_welcome_as_a_new_program() -> None:
    system = asked(1)
    system.take("C1")
    system.client(boot="another")
    assert system.said("C1", messages.Welcome)
    assert not system.core.requests.count  # what it asked before is nobody's


def test_a_worker_that_says_hello_again_over_its_own_connection_has_not_failed() -> None:
    system = asked(2)
    system.worker("W1", credit=2)
    system.take("W1")
    system.worker("W1", credit=2)
    assert [(int(task.body), task.attempt) for task in system.take_tasks("W1")] == [(1, 1), (2, 1)]
    assert system.core.outbox.counts["attempts_failed"] == 0


def test_without_a_trace_nothing_is_recorded_of_a_worker_that_wants_nothing_yet() -> None:
    told = {}
    for is_tracing in (False, True):
        system = CoreSystem(is_tracing=is_tracing)
        system.tell(worker_said(b"W1", [messages.WorkerHello("W1", "b", ["s"], 1, 0)]))
        told[is_tracing] = "credit_changed" in system.events()
    assert told == {False: False, True: True}


def test_what_another_dialects_message_ends_is_no_conversation_of_a_native_worker() -> None:
    system = CoreSystem()
    system.worker("W1")
    bad = BadMessageArrived(Side.WORKER, b"W1", "no such command", majordomo_01.WORKER, (), True)
    system.tell(bad)
    assert b"W1" in system.core.workers.by_peer


def test_a_majordomo_worker_may_be_called_like_one_that_is_connected_elsewhere() -> None:
    """Only a second READY over its own connection ends its conversation."""
    system = CoreSystem()
    system.worker("M1", boot="M1", peer="elsewhere")
    hello = messages.WorkerHello("M1", "M1", ["s"], 1, 1)
    system.tell(WorkerSaid(b"M1", [hello], majordomo_01.WORKER))
    assert list(system.core.workers.by_peer) == [b"M1"]
