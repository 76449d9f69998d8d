"""Two free ports in a row, and what is no address."""

from __future__ import annotations

import socket

import pytest

from cbw.transport.free_ports import free_pair


@pytest.mark.parametrize("host", ["127.0.0.1", "*", "::1", "[::1]"])
def test_both_ports_can_be_listened_on(host: str) -> None:
    port = free_pair(host)
    assert port > 0
    for each in (port, port + 1):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind(("" if host == "*" else host.strip("[]"), each))
            listener.listen()


def test_a_port_whose_neighbour_is_taken_is_not_taken() -> None:
    """Of each eight in a row one is used: a quarter of all first choices would be wrong."""
    taken: list[socket.socket] = []
    try:
        for port in range(32_768, 60_999, 8):
            listener = socket.socket()
            taken.append(listener)
            try:
                listener.bind(("127.0.0.77", port))
            except OSError:
                continue
        pairs = [free_pair("127.0.0.77") for _ in range(20)]
    finally:
        for listener in taken:
            listener.close()
    assert all(port > 0 and port % 8 not in (0, 7) for port in pairs)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-interface", "", "a" * 70, "é" * 64])
def test_no_address_of_this_machine_has_none(host: str) -> None:
    assert free_pair(host) == 0
