"""Messages of very many frames, or of too many bytes in all: dropped, counted, answered, and the broker serves on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest
import zmq

from cbw.core import messages
from cbw.transport.poller import Poller
from cbw.transport.router import TURN_FRAMES, Router
from cbw.transport.sockets import ENVELOPE_BYTES, FRAMES_MAX
from cbw.wire import native

from .conftest import HOST, Broker, StartBroker, StartWorker
from .program import PATIENCE_S, wait_until

BODY_BYTES_MAX = 1000
MANY = [b""] * FRAMES_MAX
BIG = [bytes(ENVELOPE_BYTES // 2)] * 3
"""Each of these frames is allowed, all of them together are not."""

Dial = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def dial() -> Iterator[Dial]:
    """``dial(port)``: a DEALER of the test's own."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect(port: int) -> zmq.Socket[bytes]:
            one = context.socket(zmq.DEALER)
            sockets.append(one)
            one.linger = 0
            one.rcvtimeo = int(PATIENCE_S * 1000)
            one.connect(f"tcp://{HOST}:{port}")
            return one

        yield connect
        for one in sockets:
            one.close()


@pytest.fixture
def small(start_broker: StartBroker, start_worker: StartWorker) -> Broker:
    """A broker that allows small bodies only, and a worker."""
    broker = start_broker("--body-bytes-max", BODY_BYTES_MAX)
    start_worker("W1", "echo", at=broker)
    return broker


@pytest.mark.parametrize("excess", [MANY, BIG], ids=["frames", "bytes"])
def test_a_plain_client_is_told_in_its_envelope(excess: list[bytes], small: Broker, dial: Dial) -> None:
    client = dial(small.client_port)
    client.send_multipart([b"1", b"", *excess])
    client.send_multipart([b"2", b"", b"hi"])
    assert client.recv_multipart()[:2] == [b"1", b""]
    assert client.recv_multipart() == [b"2", b"", b"hi"]
    small.program.wait_for("bad message", "a message of more than")


def test_what_it_is_told(small: Broker, dial: Dial) -> None:
    client = dial(small.client_port)
    client.send_multipart([b"", *MANY])
    _, text = client.recv_multipart()
    assert text == b"ERROR TOO_BIG too_big: a message of more than %d frames" % FRAMES_MAX


def test_the_largest_message_is_none_too_many(small: Broker, dial: Dial) -> None:
    client = dial(small.client_port)
    client.send_multipart([b"", *MANY[1:]])
    assert client.recv_multipart() == [b"", b""]


@pytest.mark.parametrize("excess", [MANY, BIG], ids=["frames", "bytes"])
@pytest.mark.parametrize("side", ["client", "worker"])
def test_a_peer_of_ours_is_refused(excess: list[bytes], side: str, small: Broker, dial: Dial) -> None:
    peer = dial(small.client_port if side == "client" else small.worker_port)
    peer.send_multipart([native.MAGIC, msgspec.msgpack.encode([[0]]), *excess])
    decode = native.to_client if side == "client" else native.to_worker
    (refused,) = decode(peer.recv_multipart())
    assert refused.reason is messages.Refusal.BAD_MESSAGE
    assert "a message of more than" in refused.text
    small.program.wait_for("bad message", "a message of more than")


def test_a_plain_worker_with_a_huge_answer_is_as_one_that_is_late(start_broker: StartBroker, dial: Dial) -> None:
    """Its dialect has no word for it, so its request goes elsewhere when the time for an answer is over."""
    broker = start_broker("--body-bytes-max", BODY_BYTES_MAX, "--answer-timeout", 0.3, "--attempts-max", 1)
    worker, client = dial(broker.worker_port), dial(broker.client_port)
    worker.send_multipart([b"", b"READY"])
    client.send_multipart([b"", b"hi"])
    _, name, *_ = worker.recv_multipart()
    worker.send_multipart([b"", name, b"", *MANY])
    _, text = client.recv_multipart()
    assert text.startswith(b"ERROR GAVE_UP")
    broker.program.wait_for("bad message", "a message of more than")


def test_a_turn_ends_after_thousands_of_frames(router: Router, dial: Dial) -> None:
    client, poller = dial(router.port), Poller(router.socket)
    most = TURN_FRAMES // FRAMES_MAX + 1

    def is_full() -> bool:
        """Whether a turn is: more is sent than is received."""
        for _ in range(2 * most):
            client.send_multipart(MANY[1:])
        router.on_ready(poller.poll(0.0))
        received = len(list(router.receive(512)))
        assert received <= most
        return received == most

    wait_until(is_full, "a turn that ended because of the frames")


def test_who_stops_to_receive_leaves_the_rest_for_later(router: Router, dial: Dial) -> None:
    """As a turn does that has had enough of messages that mean nothing."""
    client = dial(router.port)
    said = [b"%d" % number for number in range(10)]
    for word in said:
        client.send(word)
    poller, heard = Poller(router.socket), []

    def has_come() -> bool:
        router.on_ready(poller.poll(0.0))
        for arrival in router.receive(512):
            heard.append(arrival.frames[0])
            break
        return len(heard) == len(said)

    wait_until(has_come, "all of them")
    assert heard == said
