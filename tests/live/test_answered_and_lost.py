"""A client that stood still finds an answer, the loss of its connection and the next connection all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

import cbw
from cbw.core import messages
from cbw.wire import native
from tests.ports import free_port

from .conftest import HOST
from .program import PATIENCE_S

WELCOME = messages.Welcome("BRO", "boot", 30.0, 1 << 20)
"""Of a broker that is not silent for too long in the time of this test."""


@contextmanager
def broker_at(port: int) -> Iterator[zmq.Socket[bytes]]:
    """A stand-in for a broker, which says exactly what the test wants."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.rcvtimeo = int(PATIENCE_S * 1000)
        socket.bind(f"tcp://{HOST}:{port}")
        yield socket


def heard(broker: zmq.Socket[bytes], count: int) -> tuple[bytes, list[messages.Message]]:
    """Who has said the next ``count`` messages, and what they are."""
    said: list[messages.Message] = []
    while len(said) < count:
        peer, *frames = broker.recv_multipart()
        said += native.from_client(frames)
    return peer, said


def say(broker: zmq.Socket[bytes], peer: bytes, *words: messages.Message) -> None:
    for frames, _ in native.encode(list(words)):
        broker.send_multipart([peer, *frames])


def ok(request: messages.Message, body: bytes) -> messages.Answer:
    assert isinstance(request, messages.Request)
    return messages.Answer(request.id, messages.Status.OK, body)


def test_what_was_answered_is_not_asked_again() -> None:
    port = free_port()
    stands_still, goes_on = threading.Event(), threading.Event()

    def stand_still(_answer: object) -> None:
        stands_still.set()
        goes_on.wait(PATIENCE_S)

    with cbw.Client(f"{HOST}:{port}", id="C1", timeout=PATIENCE_S) as client:
        begin, one, two = (client.submit(body, "s") for body in (b"begin", b"one", b"two"))
        begin.add_done_callback(stand_still)
        with broker_at(port) as first:
            peer, said = heard(first, 4)
            say(first, peer, WELCOME, ok(said[1], b""))
            assert stands_still.wait(PATIENCE_S)
            say(first, peer, ok(said[2], b"from the first"))
            time.sleep(0.5)  # it has arrived, and is not read
        with broker_at(port) as second:
            time.sleep(1.0)  # they are connected by now
            goes_on.set()
            peer, said = heard(second, 2)
            say(second, peer, WELCOME, ok(said[-1], b"from the second"))
            assert one.result() == b"from the first"
            assert two.result() == b"from the second"
    hello, *asked = said
    assert isinstance(hello, messages.ClientHello)
    assert [word.body for word in asked if isinstance(word, messages.Request)] == [b"two"]
