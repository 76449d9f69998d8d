"""Names with several addresses: which one is used, and which next."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from cbw.errors import CannotResolve
from cbw.place import MOVE_S, Place, resolve

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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``clock(1.5)``: so late it is."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    return lambda now: monkeypatch.setattr(time, "monotonic", lambda: now)


def test_the_lowest_by_number_not_by_letter(names: Names) -> None:
    names("bro", ["172.18.0.10", "172.18.0.9", "172.18.0.9"])
    assert resolve("bro", 9998) == ["172.18.0.9", "172.18.0.10"]
    assert Place("bro", 9998).endpoint == "tcp://172.18.0.9:9998"


def test_one_address_is_left_to_libzmq(names: Names) -> None:
    """It resolves the name at each attempt, so an address that changes is found."""
    names("bro", ["172.18.0.9"])
    assert Place("bro", 9998).endpoint == "tcp://bro:9998"
    assert str(Place("bro", 9998)) == ""


def test_a_name_that_means_nothing_yet_is_left_to_libzmq(names: Names) -> None:
    assert Place("bro", 9998).endpoint == "tcp://bro:9998"
    with pytest.raises(CannotResolve, match="'bro' does not resolve: Name or service not known"):
        resolve("bro", 9998)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_is_not_looked_up(address: str, names: Names) -> None:
    assert resolve(address, 9998) == [address]


def test_each_in_turn_when_none_takes_connections(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = Place("bro", 9998)
    chosen = []
    for attempt in range(1, 4):
        clock(attempt * MOVE_S)
        bro.failed()
        chosen.append(str(bro))
    assert chosen == [f"{address}, of bro's 2 addresses" for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]


def test_not_faster_than_that(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = Place("bro", 9998)
    clock(MOVE_S / 2)
    bro.failed()
    assert bro.endpoint == "tcp://10.0.0.1:9998"


def test_looks_again(names: Names, clock: Callable[[float], None]) -> None:
    names("bro", ["10.0.0.1", "10.0.0.2"])
    bro = Place("bro", 9998)
    clock(MOVE_S)
    bro.failed()
    names("bro", ["10.0.0.2", "10.0.0.1", "10.0.0.3"])
    bro.look()
    assert str(bro) == "10.0.0.1, of bro's 3 addresses"
    names("bro", ["10.0.0.3"])
    bro.look()
    assert bro.endpoint == "tcp://bro:9998"


def test_a_name_without_an_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, family: int, *_: int) -> list[Any]:
        if family == socket.AF_INET:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::2", port, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    place = Place("bro", 9998)
    assert (place.endpoint, place.is_ipv6) == ("tcp://bro:9998", True)


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
    place = Place(host, 9998)
    assert (place.endpoint, place.is_ipv6) == ("tcp://[::1]:9998", True)
