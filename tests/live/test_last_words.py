"""What a peer said last is read before the news that it is lost, however close together the two come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import zmq

from cbw.net import Router
from cbw.sleeper import Sleeper

from .conftest import HOST
from .program import wait_until

PATIENCE_S = 20.0
Die = Callable[[], None]


@pytest.fixture
def die(router: Router) -> Iterator[Die]:
    """Somebody has said something, and says one thing more before its connection ends; returns when both are here."""
    with zmq.Context() as context:
        peer = context.socket(zmq.DEALER)
        peer.connect(f"tcp://{HOST}:{router.port}")
        peer.send(b"first words")
        router.woke(Sleeper(router.socket).sleep(PATIENCE_S))
        assert said(router) == [b"first words"]

        def end() -> None:
            router.watch()
            peer.send(b"last words")
            peer.close()
            assert Sleeper(router.monitor_news).sleep(PATIENCE_S) == [router.monitor_news]

        yield end


def said(router: Router) -> list[bytes]:
    return [arrival.frames[0] for arrival in router.receive(10)]


def test_a_loss_that_ended_the_sleep(router: Router, die: Die) -> None:
    die()
    router.woke([router.monitor_news])  # the words were not here yet when it was asked for them
    assert router.has_changes
    assert said(router) == [b"last words"]
    assert len(router.take_lost()) == 1


def test_a_loss_that_was_noticed_behind_what_was_received(router: Router, die: Die) -> None:
    router.woke([])
    assert said(router) == []
    die()
    router.watch()
    assert router.take_lost() == []
    assert router.has_changes, "or nobody would look again"
    router.woke([router.socket])
    assert said(router) == [b"last words"]
    assert len(router.take_lost()) == 1


def test_a_loss_behind_more_than_is_received_in_a_turn(router: Router, die: Die) -> None:
    die()
    router.woke([router.socket, router.monitor_news])
    assert [arrival.frames[0] for arrival in router.receive(0)] == []
    assert router.take_lost() == []
    assert said(router) == [b"last words"]
    assert len(router.take_lost()) == 1


def test_the_words_of_one_that_came_and_went_unseen(router: Router) -> None:
    with zmq.Context() as context:
        peer = context.socket(zmq.DEALER)
        peer.connect(f"tcp://{HOST}:{router.port}")
        peer.send(b"only words")
        peer.close()

    def has_gone() -> bool:
        router.watch()
        return router._connections == 1 and not router._silent

    wait_until(has_gone, "the end of its connection")
    router.woke([router.socket])
    assert said(router) == [b"only words"]
    assert len(router.take_lost()) == 1
    assert not router._fd_of
