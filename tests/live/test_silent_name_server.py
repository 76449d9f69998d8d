"""A name server that does not answer for many seconds: nobody who uses a client, a worker or a log handler waits for it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import cbw
from tests.ports import free_port

from .conftest import Broker, Start, broker_of
from .program import PATIENCE_S, SOON_S, wait_until

StartHere = Callable[[], Broker]


@dataclass
class Serving:
    """A worker of this process, and the thread in which it runs."""

    worker: cbw.Worker
    thread: threading.Thread

    @property
    def is_ready(self) -> bool:
        """Whether a broker knows it."""
        status = self.worker.status()
        return status is not None and bool(status["brokers"])

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join(SOON_S)
        assert not self.thread.is_alive(), "it stops"


Serve = Callable[[Broker], Serving]
ADDRESSES = "127.0.0.2", "127.0.0.3"


class NameServer:
    """In this process, ``bro`` means two addresses; but while the name server is silent, nobody learns that."""

    def __init__(self) -> None:
        self.asked = 0
        self._look_up = socket.getaddrinfo
        self._speaks = threading.Event()
        self._speaks.set()

    def getaddrinfo(self, host: str, *more: Any) -> list[Any]:
        if host != "bro":
            return self._look_up(host, *more)
        self.asked += 1
        assert self._speaks.wait(3 * PATIENCE_S), "the test does not end the silence"
        return [entry for address in ADDRESSES for entry in self._look_up(address, *more)]

    def be_silent(self) -> None:
        self.asked = 0
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    one = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", one.getaddrinfo)
    yield one
    one.speak()


@pytest.fixture
def start_here(start: Start) -> StartHere:
    """A broker at the lower address of ``bro``, at the same ports each time."""
    ports = free_port(), free_port()
    return lambda: broker_of(start("broker", *ports, "--listen", ADDRESSES[0]))


@pytest.fixture
def worker() -> Iterator[Serve]:
    """``worker(broker)``: one in this process, which says what it got, until its ``stop()``."""
    all_serving: list[Serving] = []

    def serve(broker: Broker) -> Serving:
        worker = cbw.Worker(f"bro:{broker.worker_port}", id="W1")
        worker.add("", lambda body: body)
        serving = Serving(worker, threading.Thread(target=worker.run))
        serving.thread.start()
        all_serving.append(serving)
        return serving

    yield serve
    for serving in all_serving:
        serving.stop()


def lose(broker: Broker, name_server: NameServer) -> None:
    """End the broker while its name server is silent, and wait until somebody has asked that."""
    name_server.be_silent()
    broker.program.kill()
    wait_until(lambda: name_server.asked > 0, "somebody looks the name up")


def took_s(do: Callable[[], object]) -> float:
    began_at = time.monotonic()
    do()
    return time.monotonic() - began_at


def test_a_client_that_has_lost_its_broker_is_usable(
    name_server: NameServer, start_here: StartHere, worker: Serve
) -> None:
    broker = start_here()
    worker(broker)
    client = cbw.Client(f"bro:{broker.client_port}", timeout=PATIENCE_S)
    try:
        assert client.call("x") == b"x"
        waiting = client.submit("nobody serves this", "there")
        lose(broker, name_server)
        time.sleep(0.1)
        given_up = client.submit("y")
        later = client.submit("z")
        assert took_s(lambda: client.submit("w")) < SOON_S
        assert took_s(client.status) < SOON_S
        assert took_s(given_up.cancel) < SOON_S
        with pytest.raises(cbw.Expired):
            client.call("x", timeout=0.2)
        start_here()
        assert later.result(PATIENCE_S) == b"z", "it is at the address that it had"
        assert not waiting.done()
    finally:
        assert took_s(client.close) < 2 * SOON_S


def test_an_event_loop_goes_on(name_server: NameServer, start_here: StartHere, worker: Serve) -> None:
    broker = start_here()
    worker(broker)

    async def main() -> None:
        async with cbw.AsyncClient(f"bro:{broker.client_port}", timeout=PATIENCE_S) as client:
            assert await client.call("x") == b"x"
            await asyncio.to_thread(lose, broker, name_server)
            longest_s = 0.0
            for _ in range(30):
                began_at = time.monotonic()
                await asyncio.sleep(0.01)
                longest_s = max(longest_s, time.monotonic() - began_at)
            assert longest_s < SOON_S
            with pytest.raises(cbw.Expired):
                await client.call("x", timeout=0.2)
            await asyncio.to_thread(start_here)
            assert await client.call("y") == b"y"

    asyncio.run(main())


def test_clients_are_made_and_closed_while_the_name_is_looked_up(
    name_server: NameServer, start_here: StartHere, worker: Serve
) -> None:
    broker = start_here()
    worker(broker)
    address = f"bro:{broker.client_port}"
    name_server.be_silent()
    assert took_s(cbw.Client(address).close) < SOON_S
    with cbw.Client(address, timeout=PATIENCE_S) as client:
        early = client.submit("early")
        with pytest.raises(cbw.Expired):
            client.call("x", timeout=0.2)
        name_server.speak()
        assert early.result(PATIENCE_S) == b"early"

    async def main() -> None:
        name_server.be_silent()
        began_at = time.monotonic()
        async with cbw.AsyncClient(address, timeout=PATIENCE_S) as client:
            early = asyncio.create_task(client.call("early"))
            await asyncio.sleep(0.05)
            assert time.monotonic() - began_at < SOON_S
            name_server.speak()
            assert await early == b"early"

    asyncio.run(main())


def test_a_worker_that_has_lost_its_broker_stops(name_server: NameServer, start_here: StartHere, worker: Serve) -> None:
    broker = start_here()
    serving = worker(broker)
    broker.program.wait_for("worker ready")
    lose(broker, name_server)
    time.sleep(0.1)
    serving.stop()


def test_a_worker_whose_broker_is_silent_moves_on_all_the_same(
    name_server: NameServer, start_here: StartHere, worker: Serve
) -> None:
    """It makes a new connection without waiting for the name, which it knows already."""
    broker = start_here()
    serving = worker(broker)
    broker.program.wait_for("worker ready")
    name_server.be_silent()
    broker.program.signal(signal.SIGSTOP)
    wait_until(lambda: not serving.is_ready, "it gives the connection up", within_s=PATIENCE_S)
    broker.program.signal(signal.SIGCONT)
    wait_until(lambda: serving.is_ready, "it is back", within_s=PATIENCE_S)


def test_logging_does_not_wait(name_server: NameServer, start: Start, tmp_path: Any) -> None:
    name_server.be_silent()
    handler = cbw.LogHandler("bro", free_port(), name="SHOP")
    shop = logging.getLogger("shop without a name server")
    shop.propagate = False
    shop.addHandler(handler)
    try:
        assert took_s(lambda: shop.error("one")) < SOON_S
        assert took_s(lambda: shop.error("two")) < SOON_S
        assert took_s(handler._sender.status) < SOON_S
    finally:
        shop.removeHandler(handler)
        handler.close()
