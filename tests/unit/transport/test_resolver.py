"""Names with several addresses: which one is used, and which next."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cbw.errors import CannotResolve
from cbw.transport.resolver import MOVE_S, Resolver, resolve

PATIENCE_S = 10.0
Names = Callable[[str, list[str]], None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """``names("bro", ["10.0.0.2"])``: what the name server answers from now on."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_: int) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known.__setitem__


def look_up(resolver: Resolver) -> None:
    """Look the name up, wait for the answer, and take it."""
    resolver.look_up()
    until = time.perf_counter() + PATIENCE_S
    while not resolver.has_answer:
        assert time.perf_counter() < until, "the look-up does not end"
        time.sleep(0.001)
    resolver.take_answer()


def looked_up(host: str) -> Resolver:
    """A resolver that has taken the answer of its name server."""
    resolver = Resolver([(host, 9998)])
    look_up(resolver)
    return resolver


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(1.5)``: so late it is."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    return lambda now: monkeypatch.setattr(time, "monotonic", lambda: now)


def test_the_lowest_by_number_not_by_letter(names: Names) -> None:
    names("bro", ["172.18.0.10", "172.18.0.9", "172.18.0.9"])
    assert resolve("bro", 9998) == ["172.18.0.9", "172.18.0.10"]
    assert looked_up("bro").endpoint == "tcp://172.18.0.9:9998"


def test_one_address_is_left_to_libzmq(names: Names) -> None:
    """It resolves the name at each attempt, so an address that changes is found."""
    names("bro", ["172.18.0.9"])
    assert looked_up("bro").endpoint == "tcp://bro:9998"
    assert str(looked_up("bro")) == ""


def test_a_name_that_means_nothing_yet_is_left_to_libzmq(names: Names) -> None:
    assert looked_up("bro").endpoint == "tcp://bro:9998"
    with pytest.raises(CannotResolve, match="'bro' does not resolve: Name or service not known"):
        resolve("bro", 9998)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_is_not_looked_up(address: str, names: Names) -> None:
    assert resolve(address, 9998) == [address]


def test_what_to_connect_to_is_not_known_before_the_answer_is_taken(names: Names) -> None:
    names("bro", ["10.0.0.1"])
    bro = Resolver([("bro", 9998)])
    assert not bro.is_known
    look_up(bro)
    assert bro.is_known
    assert Resolver([("127.0.0.1", 9998)]).is_known


def test_a_look_up_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells when it has ended; meanwhile no other is begun."""
    may_answer, has_answered = threading.Event(), threading.Event()
    asked = []

    def getaddrinfo(host: str, *_: int) -> list[Any]:
        asked.append(host)
        assert may_answer.wait(PATIENCE_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 9998))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    bro = Resolver([("bro", 9998)], has_answered.set)
    bro.look_up()
    bro.look_up()
    assert not bro.has_answer
    may_answer.set()
    assert has_answered.wait(PATIENCE_S)
    assert bro.has_answer
    bro.take_answer()
    assert (asked, bro.endpoint, bro.has_answer) == (["bro"], "tcp://bro:9998", False)


def test_an_answer_that_is_not_wanted_changes_nothing(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = looked_up("bro")
    clock(MOVE_S)
    bro.use_next()
    bro.look_up()
    while not bro.has_answer:
        time.sleep(0.001)
    bro.take_answer(is_wanted=False)
    assert str(bro) == "10.0.0.2, of bro's 2 addresses"


def test_each_in_turn_when_none_takes_connections(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = looked_up("bro")
    chosen = []
    for attempt in range(1, 4):
        clock(attempt * MOVE_S)
        bro.use_next()
        chosen.append(str(bro))
    assert chosen == [f"{address}, of bro's 2 addresses" for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]


def test_not_faster_than_that(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = looked_up("bro")
    clock(MOVE_S / 2)
    bro.use_next()
    assert bro.endpoint == "tcp://10.0.0.1:9998"


def test_looks_again(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = looked_up("bro")
    clock(MOVE_S)
    bro.use_next()
    names("bro", ["10.0.0.2", "10.0.0.1", "10.0.0.3"])
    look_up(bro)
    assert str(bro) == "10.0.0.1, of bro's 3 addresses"
    names("bro", ["10.0.0.3"])
    look_up(bro)
    assert bro.endpoint == "tcp://bro:9998"


def test_a_name_without_an_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, family: int, *_: int) -> list[Any]:
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::2", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver = looked_up("bro")
    assert (resolver.endpoint, resolver.is_ipv6) == ("tcp://bro:9998", True)


def test_a_name_server_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def getaddrinfo(*question: object) -> list[Any]:
        asked.append(question)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(CannotResolve, match="Temporary failure"):
        resolve("bro", 9998)
    assert len(asked) == 1


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_stands_in_brackets(host: str) -> None:
    resolver = Resolver([(host, 9998)])
    assert (resolver.endpoint, resolver.is_ipv6) == ("tcp://[::1]:9998", True)
