"""What the broker's driver makes of bytes that are no message, and what it tells those who sent them."""

from __future__ import annotations

import pytest

from cbw.core.broker.events import Side
from cbw.core.messages import ClientHello, Refusal, Refused, WorkerHello
from tests.unit.core.broker.driven import Broker

from .test_driver import native_worker

C, W, V = b"C1", b"W1", b"W2"
LAB_READY = (b"", b"", b"")


@pytest.fixture
def broker() -> Broker:
    return Broker()


WHY = "a message of more than 9 bytes"


@pytest.mark.parametrize(
    ("frames", "reply"),
    [
        ([b"", b"big"], [b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"id", b"", b"big"], [b"id", b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", b"MDPC01", b"s"], [b"", b"MDPC01", b"s", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"MDPC02", b"\x01", b"s"], [b"MDPC02", b"\x03", b"s", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", b"MDPC02", b"\x02", b"s"], [b"", b"MDPC02", b"\x04", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", *[b"many"] * 20], [b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"no", b"envelope"], None),
        ([b"", b"MDPC01"], None),
        ([b"MDPC02"], None),
    ],
)
def test_a_request_that_is_too_large(broker: Broker, frames: list[bytes], reply: list[bytes] | None) -> None:
    broker.client_says(C, *frames, fault=WHY)
    assert broker.take(C) == ([] if reply is None else [reply])
    assert broker.core.requests.count == 0 and broker.counts["messages_bad"] == 1
    assert [record.text for record in broker.events("bad_message")] == [WHY]


def test_a_message_of_a_native_peer_that_is_too_large(broker: Broker) -> None:
    broker.client_says(C, b"CBW1", b"\x90", fault=WHY)
    broker.worker_says(W, b"CBW1", b"\x90", fault=WHY)
    assert broker.batch(C) == broker.batch(W) == [Refused(Refusal.BAD_MESSAGE, WHY)]


@pytest.mark.parametrize(
    ("ready", "answer", "told", "is_lost"),
    [
        ([b"", b"", b""], [b"", b"C1"], [], False),
        ([b"", b"READY"], [b"", b"C1", b""], [], False),
        ([b"", b"MDPW01", b"\x01", b""], [b"", b"MDPW01", b"\x03", b"1", b""], [[b"", b"MDPW01", b"\x05"]], True),
        ([b"MDPW02", b"\x01", b""], [b"MDPW02", b"\x04", b"1", b""], [[b"MDPW02", b"\x06"]], True),
        ([b"\x01"], [b"1", b""], [], True),
    ],
)
def test_an_answer_that_is_too_large(
    broker: Broker, ready: list[bytes], answer: list[bytes], told: list[list[bytes]], is_lost: bool
) -> None:
    broker.worker_says(W, *ready)
    broker.client_says(C, b"", b"hi")
    broker.take(W)
    broker.worker_says(W, *answer, fault=WHY)
    assert broker.take(W) == told
    assert (W not in broker.core.workers.by_peer) is is_lost
    broker.wait(3.0)  # a REQ worker is late then
    assert broker.counts["attempts_failed"] == 1


def test_a_stranger_at_the_workers_port_that_sends_too_much(broker: Broker) -> None:
    broker.worker_says(W, b"what", b"is", fault=WHY)
    assert broker.take(W) == [] and broker.counts["messages_bad"] == 1


@pytest.mark.parametrize("side", list(Side))
def test_a_native_peer_at_the_wrong_port_is_told_the_right_one(broker: Broker, side: Side) -> None:
    if side is Side.WORKER:
        broker.says(side, W, ClientHello("C1", "b"))
        (refused,) = broker.batch(W)
        text = "this port is for workers; clients connect to port 9998"
    else:
        broker.says(side, C, WorkerHello("W1", "b", [""], 1, 1))
        (refused,) = broker.batch(C)
        text = "this port is for clients; workers connect to port 9999"
    assert refused == Refused(Refusal.BAD_MESSAGE, text)


def test_a_native_peer_of_another_version(broker: Broker) -> None:
    broker.worker_says(W, b"CBW2", b"\x90")
    (refused,) = broker.batch(W)
    assert refused == Refused(Refusal.VERSION, "speaks b'CBW2', this is CBW/1")


def test_a_registered_native_worker_is_not_lost_for_a_bad_message(broker: Broker) -> None:
    """It has ids for its tasks, so what can be read of it still counts."""
    native_worker(broker)
    broker.worker_says(W, b"CBW1", b"nonsense")
    broker.worker_says(W, b"what", b"is", b"this")
    assert broker.counts["messages_bad"] == 2
    assert W in broker.core.workers.by_peer


@pytest.mark.parametrize("frames", [[b"what"], [b"", b"hi"], [b"", b"MDPW03", b"\x01", b"s"], [b""]])
def test_a_stranger_at_the_workers_port_is_counted_and_told_about(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, *frames)
    assert broker.take(W) == [] and broker.counts["messages_bad"] == 1
    (record,) = broker.events("bad_message")
    assert record.worker == "W1" and record.text.startswith("no registration of a worker: ")


def test_good_and_bad_messages_of_one_turn_are_read_each_for_itself(broker: Broker) -> None:
    broker.clients.arrive(C, [b"nonsense"])
    broker.clients.arrive(C, [b"", b"one"])
    broker.clients.arrive(b"C2", [b"CBW1", b"nonsense"])
    broker.clients.arrive(b"C3", [b"", b"two"])
    broker.turn()
    assert broker.core.requests.count == 2 and broker.counts["messages_bad"] == 2
