"""What waits for a client that does not read, when the client comes back or its identity is in question (G1, G7)."""

from __future__ import annotations

import pytest

from cbw.core.broker.events import Side
from cbw.core.messages import Answer, ClientHello, Collect, Request, Status, Welcome
from cbw.wire import native
from tests.unit.core.broker.driven import Broker

C = b"C1"
A, B = b"\0conA", b"\0conB"
W = b"W1"


def _plain_reply_waits(broker: Broker) -> None:
    broker.worker_says(W, b"", b"", b"")
    broker.clients.room[C] = 0
    broker.client_says(C, b"", b"question")
    broker.worker_says(W, b"", C, b"secret")
    del broker.clients.room[C]


def test_a_reply_that_waits_is_void_for_another_program_that_asks(broker: Broker) -> None:
    _plain_reply_waits(broker)
    broker.client_says(C, b"", b"other question", is_replaced=True)
    assert broker.take(C) == []


def test_a_reply_that_waits_is_withheld_while_the_identity_is_uncertain(broker: Broker) -> None:
    _plain_reply_waits(broker)
    broker.clients.uncertain = [(C, True)]
    broker.turn()
    assert broker.take(C) == []


@pytest.mark.parametrize("is_loss_told", [True, False])
def test_a_hello_and_the_loss_of_the_last_connection_in_one_turn(broker: Broker, is_loss_told: bool) -> None:
    def says(peer: bytes, *batch: ClientHello | Request) -> None:
        for frames, _ in native.encode(batch):
            broker.clients.arrive(peer, frames)

    broker.worker_says(W, b"", b"", b"")
    says(A, ClientHello("cl", "1"), Request(5, "", b"x"))
    broker.turn()
    ((_, client, _),) = broker.take(W)
    broker.clients.room[A] = 0
    broker.worker_says(W, b"", client, b"ho")
    says(B, ClientHello("cl", "1"), Request(5, "", b"x"))
    if is_loss_told:
        broker.clients.lose(A)
    broker.turn()
    answers = [
        message for frames in broker.take(B) for message in native.to_client(frames) if isinstance(message, Answer)
    ]
    assert [(answer.id, answer.status, answer.body) for answer in answers] == [(5, Status.OK, b"ho")]
    assert broker.take(W) == [] and broker.core.requests.count == 0, "it is not run again"


def test_a_request_sent_again_while_its_answer_waits_for_the_same_connection(broker: Broker) -> None:
    """Found by the simulation (seed 3216)."""
    broker.worker_says(W, b"", b"", b"")
    for frames, _ in native.encode([ClientHello("cl", "1"), Request(5, "", b"x")]):
        broker.clients.arrive(A, frames)
    broker.turn()
    broker.clients.room[A] = 0
    ((_, client, _),) = broker.take(W)
    broker.worker_says(W, b"", client, b"ho")
    for frames, _ in native.encode([Request(5, "", b"x")]):
        broker.clients.arrive(A, frames)
    broker.turn()
    assert broker.core.requests.count == 0 and broker.take(W) == [], "it is not run again"


def test_a_client_whose_welcome_waits_may_fetch_the_answer_of_a_ticket(broker: Broker) -> None:
    broker.clients.room[A] = 0
    broker.says(Side.CLIENT, A, ClientHello("C1", "b"))
    broker.says(Side.CLIENT, A, Collect(1, "no such ticket"))
    del broker.clients.room[A]
    broker.wait(0.1)
    assert [type(message) for message in broker.batch(A)] == [Welcome, Answer]
