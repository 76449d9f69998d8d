"""Who has an identity, as the ROUTER of the broker knows it: two living programs that call themselves the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from cbw.core.port import Arrival, Sent
from cbw.transport import displaced
from cbw.transport.connections import DISPUTE_S
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


SORRY = b"sorry"


def heard(router: Router, one: zmq.Socket[bytes]) -> bytes:
    """What the program hears next, while the broker goes on."""

    def has_come() -> bool:
        router.on_ready(())
        router.watch()
        return bool(one.poll(0))

    wait_until(has_come, "a message")
    return one.recv()


def test_who_has_lost_an_identity_is_told_whatever_it_says(router: Router, dial: Dial) -> None:
    one, two = contest(router, dial)
    router.tell_displaced(b"SAME", [b"", SORRY])
    assert heard(router, one) == SORRY
    for said in (b"again", bytes(200_000)):  # longer than what is read at a time
        one.send(said)
        assert heard(router, one) == SORRY
    is_served(router, two)
    one.send(b"after a message that it has not asked for")
    assert heard(router, one) == SORRY


def is_served(router: Router, one: zmq.Socket[bytes]) -> None:
    """The one that has the identity is served."""
    assert router.send(b"SAME", [b"", b"answer"]) is Sent.YES
    assert one.recv() == b"answer"


def test_it_is_told_also_when_the_other_has_gone(router: Router, dial: Dial) -> None:
    one, two = contest(router, dial)
    router.tell_displaced(b"SAME", [b"", SORRY])
    assert heard(router, one) == SORRY
    two.close()
    watch_until(router, lambda: router.take_lost(time.monotonic()) == [b"SAME"], "the end of the other")
    one.send(b"three")
    assert heard(router, one) == SORRY
    three = dial(b"SAME")
    three.send(b"started again")
    assert hear(router).frames == [b"", b"started again"]
    is_served(router, three)


def test_a_reply_that_is_on_its_way_arrives_first(router: Router, dial: Dial) -> None:
    one = dial(b"SAME")
    one.send(b"one")
    hear(router)
    big = bytes(30_000_000)  # more than the kernel takes
    assert router.send(b"SAME", [b"", big]) is Sent.YES
    two = dial(b"SAME")
    two.send(b"two")
    assert hear(router).is_replaced
    router.tell_displaced(b"SAME", [b"", SORRY])
    assert heard(router, one) == big
    one.send(b"three")
    assert heard(router, one) == SORRY


def test_one_that_is_gone_is_forgotten(router: Router, dial: Dial) -> None:
    one, _ = contest(router, dial)
    router.tell_displaced(b"SAME", [b"", SORRY])
    assert heard(router, one) == SORRY
    assert router.displaced.count == 1
    one.close()

    def is_forgotten() -> bool:
        router.on_ready(())
        return not router.displaced.count

    wait_until(is_forgotten, "the end of its connection")
    assert router.connections.dispute_ends_at < time.monotonic() + DISPUTE_S + 1


def test_more_than_can_be_held(router: Router, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displaced, "HELD_MAX", 2)
    one = dial(b"SAME")
    one.send(b"0")
    hear(router)
    for number in range(1, 4):
        dial(b"SAME").send(b"%d" % number)
        hear(router)
        router.tell_displaced(b"SAME", [b"", SORRY])
    assert router.displaced.count == 3

    def is_closed() -> bool:
        router.on_ready(())
        return router.displaced.count == 2

    wait_until(is_closed, "the end of the first")


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
