"""A name that means several brokers, as at ``--scale bro=2``: everybody meets at one of them, and moves to another."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cbw
from tests.ports import free_port

from .conftest import Broker, Start, broker_of
from .program import PATIENCE_S

LOWER, HIGHER = "127.0.0.2", "127.0.0.3"
StartAt = Callable[[str], Broker]


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, ``bro`` means two addresses, as Docker's name server would tell."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any) -> list[Any]:
        if host != "bro":
            return look_up(host, *more)
        return [entry for address in (HIGHER, LOWER) for entry in look_up(address, *more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def start_at(start: Start) -> StartAt:
    """``start_at(LOWER)``: a broker at that address, at the same ports each time."""
    ports = free_port(), free_port()
    return lambda address: broker_of(start("broker", *ports, "--listen", address))


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


def test_all_meet_at_the_lower_one(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    higher, lower = start_at(HIGHER), start_at(LOWER)
    serve(lower)
    for number in range(5):
        with cbw.Client(f"bro:{lower.client_port}", id=f"C{number}", timeout=PATIENCE_S) as client:
            assert client.call(b"x") == b"x"
    lower.program.wait_for("worker ready")
    assert lower.program.count("worker ready") == 1
    assert not higher.program.count("worker ready")


def test_all_meet_at_the_higher_one_if_nobody_is_at_the_lower(
    start_at: StartAt, serve: Callable[[Broker], None]
) -> None:
    higher = start_at(HIGHER)
    serve(higher)
    with cbw.Client(f"bro:{higher.client_port}", timeout=PATIENCE_S) as client:
        assert client.call(b"x") == b"x"


def test_all_move_on_when_it_is_frozen(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    """Its kernel still takes connections, but nobody speaks there."""
    higher, lower = start_at(HIGHER), start_at(LOWER)
    serve(lower)
    with cbw.Client(f"bro:{lower.client_port}", timeout=PATIENCE_S) as client:
        assert client.call(b"x") == b"x"
        lower.program.signal(signal.SIGSTOP)
        assert client.call(b"y") == b"y"
        higher.program.wait_for("worker ready")
        assert higher.program.count("worker ready") == 1


def test_all_move_on_when_it_dies(start_at: StartAt, serve: Callable[[Broker], None]) -> None:
    """With what they had in flight: nothing is lost."""
    higher, lower = start_at(HIGHER), start_at(LOWER)
    serve(lower)
    with cbw.Client(f"bro:{lower.client_port}", timeout=PATIENCE_S) as client:
        answers = client.map((b"%d" % number for number in range(20_000)), window=200)
        got = [next(answers) for _ in range(1000)]
        lower.program.kill()
        got += answers
        assert got == [b"%d" % number for number in range(20_000)]
        higher.program.wait_for("worker ready")
