"""Who has an identity, as the ROUTER of the broker knows it: two living programs that call themselves the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from cbw.core.port import Arrival, Sent
from cbw.transport.poller import Poller
from cbw.transport.router import Router

from .conftest import HOST
from .program import wait_until

Dial = Callable[[bytes], "zmq.Socket[bytes]"]


@pytest.fixture
def dial(router: Router) -> Iterator[Dial]:
    """``dial(b"SAME")``: a REQ socket of that identity."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect(identity: bytes) -> zmq.Socket[bytes]:
            one = context.socket(zmq.REQ)
            sockets.append(one)
            one.linger = 0
            one.setsockopt(zmq.IDENTITY, identity)
            one.connect(f"tcp://{HOST}:{router.port}")
            return one

        yield connect
        for one in sockets:
            one.close()


def hear(router: Router) -> Arrival:
    """The next message."""
    heard: list[Arrival] = []
    poller = Poller(router.socket)

    def has_come() -> bool:
        router.on_ready(poller.poll(0.0))
        heard.extend(router.receive(1))
        return bool(heard)

    wait_until(has_come, "a message")
    return heard[0]


def watch_until(router: Router, is_so: Callable[[], object], what: str) -> None:
    """Read the monitor until something is so."""

    def watched() -> object:
        router.watch()
        return is_so()

    wait_until(watched, what)


def connected(router: Router, count: int) -> None:
    """Wait until so many connections have been made since the start."""
    watch_until(router, lambda: router.connections.count >= count, f"{count} connections")


def contest(router: Router, dial: Dial) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """Two programs live under one identity; the second has it."""
    one = dial(b"SAME")
    one.send(b"one")
    assert not hear(router).is_replaced
    two = dial(b"SAME")
    two.send(b"two")
    assert hear(router).is_replaced
    return one, two


def test_the_earlier_of_two_comes_back_without_a_word(router: Router, dial: Dial) -> None:
    one, _ = contest(router, dial)
    assert router.connections.has_disputes
    assert router.take_uncertain(time.monotonic()) == []
    place = one.get_string(zmq.LAST_ENDPOINT)
    one.disconnect(place)
    one.connect(place)
    connected(router, 3)
    assert router.take_uncertain(time.monotonic()) == [(b"SAME", True)]
    assert router.take_uncertain(time.monotonic()) == []
    one.close()
    watch_until(router, lambda: not router.connections._silent, "the end of its connection")
    assert router.take_uncertain(time.monotonic()) == [(b"SAME", False)]


def test_a_stranger_is_in_doubt_until_it_speaks(router: Router, dial: Dial) -> None:
    _, two = contest(router, dial)
    stranger = dial(b"OTHER")
    connected(router, 3)
    assert router.take_uncertain(time.monotonic()) == [(b"SAME", True)]
    stranger.send(b"hi")
    assert hear(router).peer == b"OTHER"
    assert router.take_uncertain(time.monotonic()) == [(b"SAME", False)]
    assert router.send(b"SAME", [b"", b"answer"]) is Sent.YES
    assert two.recv() == b"answer"


def test_a_client_that_was_started_anew_contests_nothing(router: Router, dial: Dial) -> None:
    for _ in range(3):
        one = dial(b"SAME")
        one.send(b"hi")
        hear(router)
        one.close()
        watch_until(router, lambda: router.take_lost(time.monotonic()) == [b"SAME"], "the end of its connection")
    assert not router.connections.has_disputes


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(63)], ids=["nothing", "HTTP", "garbage"]
)
def test_a_connection_that_never_says_anything_is_not_remembered(said: bytes, router: Router) -> None:
    with socket.create_connection((HOST, router.port)) as one:
        one.sendall(said)
        connected(router, 1)
    watch_until(router, lambda: not router.connections._silent, "the end of its connection")
