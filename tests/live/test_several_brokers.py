"""Several brokers, under one name as at ``--scale bro=2`` or in a list: workers serve all of them, clients move to another."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import cbw
from cbw.transport.resolver import Resolver
from tests.ports import free_port

from .conftest import Broker, Start, broker_of
from .program import PATIENCE_S

PORTS = ("client_port", "worker_port")
LOWER, HIGHER = "127.0.0.2", "127.0.0.3"
StartAt = Callable[[str], "BrokerAt"]


@dataclass
class BrokerAt(Broker):
    """A broker that listens at ``host``."""

    host: str


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In this process, ``bro`` means these addresses, as Docker's name server would tell."""
    look_up = socket.getaddrinfo
    addresses = [HIGHER, LOWER]

    def getaddrinfo(host: str, *more: Any) -> list[Any]:
        if host != "bro":
            return look_up(host, *more)
        return [entry for address in addresses for entry in look_up(address, *more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return addresses


@pytest.fixture
def start_at(start: Start) -> StartAt:
    """``start_at(LOWER)``: a broker at that address, at the same ports each time."""
    ports = free_port(), free_port()

    def start_one(host: str) -> BrokerAt:
        broker = broker_of(start("broker", *ports, "--verbose", "--listen", host))
        return BrokerAt(broker.program, broker.client_port, broker.worker_port, host)

    return start_one


@pytest.fixture
def serve() -> Iterator[Callable[[Broker], None]]:
    """``serve(broker)``: a worker in this process, for whatever broker ``bro`` is at those ports."""
    workers: list[tuple[cbw.Worker, threading.Thread]] = []

    def serve_at(broker: Broker) -> None:
        worker = cbw.Worker(f"bro:{broker.worker_port}", id="W1")
        worker.add("", lambda body: body)
        thread = threading.Thread(target=worker.run)
        thread.start()
        workers.append((worker, thread))

    yield serve_at
    for worker, thread in workers:
        worker.stop()
        thread.join(PATIENCE_S)


def client_of(broker: BrokerAt, name: str) -> str:
    """The id of a client of ``bro`` that prefers this broker."""
    hosts = [(LOWER, broker.client_port), (HIGHER, broker.client_port)]
    return next(
        id
        for id in (f"{name}{number}" for number in range(1000))
        if Resolver(hosts, spread_by=id).endpoint == f"tcp://{broker.host}:{broker.client_port}"
    )


def test_a_worker_serves_all_and_clients_spread(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    brokers = [start_at(HIGHER), start_at(LOWER)]
    serve(brokers[0])
    for broker in brokers:
        with cbw.Client(f"bro:{broker.client_port}", id=client_of(broker, "C"), timeout=PATIENCE_S) as client:
            assert client.call(b"x") == b"x"
    for broker in brokers:
        broker.program.wait_for("worker ready")
        broker.program.wait_for("client hello")
        assert broker.program.count("client hello") == 1


def test_all_use_the_one_that_is_there(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    higher = start_at(HIGHER)
    serve(higher)
    for number in range(4):
        with cbw.Client(f"bro:{higher.client_port}", id=f"C{number}", timeout=PATIENCE_S) as client:
            assert client.call(b"x") == b"x"


def test_a_list_is_as_good_as_a_name(start_at: StartAt, start: Start) -> None:
    brokers = [start_at(HIGHER), start_at(LOWER)]
    places = {what: ",".join(f"{broker.host}:{getattr(broker, what)}" for broker in brokers) for what in PORTS}
    worker = start("worker", "W1", places["worker_port"], "--work-time", "0")
    for broker in brokers:
        broker.program.wait_for("worker ready")
    worker.wait_for("connected", LOWER)
    for broker in brokers:
        name = client_of(broker, "C")
        client = start("client", name, "1", places["client_port"])
        client.wait_for(f"{name}-1 -> ")
        broker.program.wait_for(f"client hello client {name}")
    brokers[0].program.kill()
    name = client_of(brokers[0], "D")
    start("client", name, "1", places["client_port"]).wait_for(f"{name}-1 -> ")


def test_a_broker_that_starts_later_is_served_within_five_seconds(
    start_at: StartAt, serve: Callable[[Broker], None]
) -> None:
    """Two groups that never meet cannot form."""
    lower = start_at(LOWER)
    serve(lower)
    lower.program.wait_for("worker ready")
    higher = start_at(HIGHER)
    higher.program.wait_for("worker ready", within_s=5.0)


def test_a_broker_whose_name_appears_later_is_served_within_five_seconds(
    start_at: StartAt, serve: Callable[[Broker], None], known: list[str]
) -> None:
    known.remove(HIGHER)
    lower, higher = start_at(LOWER), start_at(HIGHER)
    serve(lower)
    lower.program.wait_for("worker ready")
    assert not higher.program.count("worker ready")
    known.append(HIGHER)
    higher.program.wait_for("worker ready", within_s=5.0)


def test_a_broker_with_two_addresses_knows_a_worker_once(start: Start) -> None:
    """Its hello over the second address ends the session over the first, and is not answered by another hello."""
    broker = broker_of(start("broker", 0, 0, "--listen", "0.0.0.0"))
    start("worker", "W1", f"{LOWER},{HIGHER}", broker.worker_port, "--work-time", "0")
    broker.program.wait_for("worker ready")
    for number in range(3):
        with cbw.Client(f"127.0.0.1:{broker.client_port}", id=f"C{number}", timeout=PATIENCE_S) as client:
            assert client.call(b"x") == b"x W1"
    time.sleep(2.5)  # two beats: a worker that is not known would be told to say hello again
    assert broker.program.count("worker ready") <= 2


def test_all_move_on_when_it_is_frozen(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    """Its kernel still takes connections, but nobody speaks there."""
    higher, lower = start_at(HIGHER), start_at(LOWER)
    serve(lower)
    lower.program.wait_for("worker ready")
    with cbw.Client(f"bro:{lower.client_port}", id=client_of(lower, "C"), timeout=PATIENCE_S) as client:
        assert client.call(b"x") == b"x"
        lower.program.signal(signal.SIGSTOP)
        assert client.call(b"y") == b"y"
    higher.program.wait_for("client hello")
    assert higher.program.count("client hello") == 1


def test_all_move_on_when_it_dies(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    """With what they had in flight: nothing is lost."""
    higher, lower = start_at(HIGHER), start_at(LOWER)
    serve(lower)
    with cbw.Client(f"bro:{lower.client_port}", id=client_of(lower, "C"), timeout=PATIENCE_S) as client:
        answers = client.map((b"%d" % number for number in range(20_000)), window=200)
        got = [next(answers) for _ in range(1000)]
        lower.program.kill()
        got += answers
        assert got == [b"%d" % number for number in range(20_000)]
        higher.program.wait_for("client hello")
        assert higher.program.count("client hello") == 1
