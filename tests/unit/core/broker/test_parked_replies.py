"""Replies for those that are away: how many fit, and which of them go."""

from __future__ import annotations

from cbw.core.broker.events import PeerLost, Side
from cbw.core.broker.parked_replies import ANSWER_BYTES
from cbw.core.messages import Answer, Status, Task

from .journaled import Journaled
from .system import CoreSystem, worker_said


def test_a_large_one_pushes_out_as_many_as_it_needs_room() -> None:
    system = CoreSystem(parked_bytes_max=4 * ANSWER_BYTES)
    system.client()
    system.worker(concurrency=4)
    system.ask(1, 2, 3, 4)
    tasks = [message for message in system.take("W1") if isinstance(message, Task)]
    system.tell(PeerLost(Side.CLIENT, b"C1"))
    for task in tasks[:3]:
        system.tell(worker_said(b"W1", [Answer(task.id, Status.OK, b"")]))
    system.tell(worker_said(b"W1", [Answer(tasks[3].id, Status.OK, bytes(3 * ANSWER_BYTES))]))
    parked = system.core.requests.parked
    assert (parked.count, parked.bytes) == (1, 4 * ANSWER_BYTES)
    assert system.core.outbox.counts["answers_dropped"] == 3


def test_one_that_was_sent_and_makes_room_is_no_loss_while_its_client_is_here() -> None:
    """With a journal it is only kept until the client says that it has come."""
    system = Journaled(parked_bytes_max=ANSWER_BYTES + 100)
    system.client()
    system.worker(concurrency=2)
    system.ask(1, 2)
    system.answer_all("W1")
    assert system.core.requests.parked.count == 1
    assert system.core.outbox.counts["answers_dropped"] == 0
    assert "answer_dropped" not in system.events()
