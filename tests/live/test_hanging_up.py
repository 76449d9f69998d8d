"""A proxy without a server behind it accepts connections and hangs up: nobody keeps it busy, or fills a log."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

import cbw

from .conftest import HOST, Start
from .program import wait_until

WATCHED_S = 5.0
CONNECTIONS_MAX = 25
"""Connections in that time; twenty a second would be a hundred."""


class HangingUp:
    """Accepts connections and closes them."""

    def __init__(self) -> None:
        self.accepted = 0
        self._server = socket.create_server((HOST, 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.accepted += 1
            connection.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def proxy() -> Iterator[HangingUp]:
    proxy = HangingUp()
    yield proxy
    proxy.close()


def check_pace(proxy: HangingUp) -> None:
    wait_until(lambda: proxy.accepted, "a first connection")
    time.sleep(WATCHED_S)
    assert proxy.accepted <= CONNECTIONS_MAX


def test_a_worker(start: Start, proxy: HangingUp) -> None:
    worker = start("worker", "W1", HOST, proxy.port)
    check_pace(proxy)
    assert not worker.count("disconnected"), worker


def test_a_client(proxy: HangingUp) -> None:
    with cbw.Client(f"{HOST}:{proxy.port}") as client:
        asked = client.submit("x")
        check_pace(proxy)
        asked.cancel()


def test_a_role_that_logs(start: Start, proxy: HangingUp) -> None:
    start("worker", "W1", HOST, 1, "--logger-host", HOST, "--logger-port", proxy.port - 1)
    check_pace(proxy)
