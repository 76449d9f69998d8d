"""How often an address may ask for the status pages."""

from __future__ import annotations

import socket

import pytest

from cbw.observe.flood import COUNTED_MAX, REQUESTS_MAX, FloodWatch
from cbw.observe.inquiry import status_of
from cbw.observe.status import HTTP_TIMEOUT_S, StatusServer


def test_an_address_that_asks_too_often_is_refused_until_the_next_second() -> None:
    watch = FloodWatch()
    assert not any(watch.is_flood("10.0.0.1", 7.1) for _ in range(REQUESTS_MAX))
    assert watch.is_flood("10.0.0.1", 7.2) and watch.is_flood("10.0.0.1", 7.9)
    assert not watch.is_flood("10.0.0.2", 7.9), "others are not refused for it"
    assert not watch.is_flood("10.0.0.1", 8.0)


def test_what_is_counted_is_bounded() -> None:
    watch = FloodWatch()
    assert not any(watch.is_flood(f"10.0.{number}", 7.0) for number in range(3 * COUNTED_MAX))
    assert len(watch) <= COUNTED_MAX


@pytest.mark.slow
@pytest.mark.parametrize(("requests_max", "line"), [(1000, "HTTP/1.0 200 OK"), (0, "HTTP/1.0 429 Too Many Requests")])
def test_the_server_answers_or_refuses(monkeypatch: pytest.MonkeyPatch, requests_max: int, line: str) -> None:
    monkeypatch.setattr("cbw.observe.flood.REQUESTS_MAX", requests_max)
    server = StatusServer(lambda: status_of("worker", "W", 0.0, ""), "127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.port), HTTP_TIMEOUT_S) as peer:
            peer.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            assert peer.makefile().readline().strip() == line
    finally:
        server.close()
