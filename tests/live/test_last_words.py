"""What a peer said last is read before the news that it is lost, however close together the two come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

import cbw
from cbw.core import messages
from cbw.transport.poller import Poller
from cbw.transport.router import Router
from cbw.wire import native

from .conftest import HOST, Broker, StartWorker
from .program import wait_until

SHORT_S = 5.0
"""An answer that is withheld does not come within any time."""
Die = Callable[[], None]


@pytest.fixture
def die(router: Router) -> Iterator[Die]:
    """Somebody has said something, and says one thing more before its connection ends; returns when both are here."""
    with zmq.Context() as context:
        peer = context.socket(zmq.DEALER)
        peer.connect(f"tcp://{HOST}:{router.port}")
        peer.send(b"first words")
        wait_for_news(router.socket)
        router.on_ready([router.socket])
        assert said(router) == [b"first words"]

        def end() -> None:
            router.watch()
            peer.send(b"last words")
            peer.close()
            wait_for_news(router.monitor_news)

        yield end


def wait_for_news(source: Any) -> None:
    poller = Poller(source)
    wait_until(lambda: source in poller.poll(0.1), "news")


def said(router: Router) -> list[bytes]:
    return [arrival.frames[0] for arrival in router.receive(10)]


def test_what_was_read_up_to_the_limit(router: Router, die: Die) -> None:
    """Whether there is more was not asked; it is when somebody reads on without a sleep."""
    die()
    router.on_ready([router.socket])
    assert [arrival.frames[0] for arrival in router.receive(1)] == [b"last words"]
    assert said(router) == []


def test_a_loss_that_ended_the_sleep(router: Router, die: Die) -> None:
    die()
    router.on_ready([router.monitor_news])  # the words were not here yet when it was asked for them
    assert router.is_unsettled
    assert said(router) == [b"last words"]
    assert len(router.take_lost(time.monotonic())) == 1


def test_a_loss_that_was_noticed_behind_what_was_received(router: Router, die: Die) -> None:
    router.on_ready([])
    assert said(router) == []
    die()
    router.watch()
    assert router.take_lost(time.monotonic()) == []
    assert router.is_unsettled, "or nobody would look again"
    router.on_ready([router.socket])
    assert said(router) == [b"last words"]
    assert len(router.take_lost(time.monotonic())) == 1


def test_a_loss_behind_more_than_is_received_in_a_turn(router: Router, die: Die) -> None:
    die()
    router.on_ready([router.socket, router.monitor_news])
    assert [arrival.frames[0] for arrival in router.receive(0)] == []
    assert router.take_lost(time.monotonic()) == []
    assert said(router) == [b"last words"]
    assert len(router.take_lost(time.monotonic())) == 1


def test_the_words_of_one_that_came_and_went_unseen(router: Router) -> None:
    with zmq.Context() as context:
        peer = context.socket(zmq.DEALER)
        peer.connect(f"tcp://{HOST}:{router.port}")
        peer.send(b"only words")
        peer.close()

    def has_gone() -> bool:
        router.watch()
        return router.connections.count == 1 and not router.connections._silent

    wait_until(has_gone, "the end of its connection")
    router.on_ready([router.socket])
    assert said(router) == [b"only words"]
    assert len(router.take_lost(time.monotonic())) == 1
    assert not router.connections._fd_of


@pytest.fixture
def busy(broker: Broker, start_worker: StartWorker) -> Iterator[Broker]:
    """A broker that always has something to read, so that words and ends of connections are noticed in any order."""
    start_worker("W1", "echo")
    is_over = threading.Event()

    def load() -> None:
        with cbw.Client(broker.address) as client:
            while not is_over.is_set():
                list(client.map([b"x" * 100] * 2000, window=1000))

    thread = threading.Thread(target=load)
    thread.start()
    yield broker
    is_over.set()
    thread.join()


def test_clients_that_come_and_go_get_the_descriptors_of_those_before(busy: Broker) -> None:
    """The goodbye of one is not taken for a word of the next: who lives is answered."""
    for _ in range(150):
        with cbw.Client(busy.address, timeout=SHORT_S) as client:
            assert client.call("x") == b"x"


def test_strangers_that_speak_and_go_at_once_leave_their_descriptors_to_others(busy: Broker) -> None:
    (hello, _), *_ = native.encode([messages.ClientHello("T", "boot")])
    with zmq.Context() as context:
        for number in range(100):
            stranger = context.socket(zmq.DEALER)
            if number % 2:
                stranger.setsockopt(zmq.IDENTITY, b"P%d" % number)
            stranger.connect(f"tcp://{HOST}:{busy.client_port}")
            stranger.send_multipart(hello)
            stranger.close(1000)
            with cbw.Client(busy.address, timeout=SHORT_S) as client:
                assert client.call("x") == b"x"
