"""Requests that outlive their clients, and with a journal their broker: between processes that start and end."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import cbw
from cbw.core import messages
from cbw.wire import native

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker
from .program import PATIENCE_S, Program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "journal"


def printed(program: Program) -> list[str]:
    """What ``program`` has printed when it has ended well."""
    assert program.exit_code() == 0, program
    return program.lines


def test_started_then_everybody_dies_and_another_process_collects(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, folder: Path, log: Log
) -> None:
    broker = start_broker("--journal", folder)
    at = ("--broker", broker.address)
    call = start("call", *at, "--detach", "--service", "s", stdin=b"2 report")
    assert call.exit_code() == 0 and call.errors == []
    (ticket,) = call.lines
    broker.program.kill()
    second = start_broker("--journal", folder, client_port=broker.client_port, worker_port=broker.worker_port)
    start_worker("W1", "s=echo_slowly", at=second)
    log.wait_for("begun 2 report")
    time.sleep(0.5)  # until that is stored
    second.program.kill()
    third = start_broker("--journal", folder, client_port=broker.client_port, worker_port=broker.worker_port)
    for _ in range(2):
        result = start("result", ticket, *at)
        assert (result.exit_code(), result.lines) == (0, ["2 report"]), result
    third.program.kill()
    start_broker("--journal", folder, client_port=broker.client_port, worker_port=broker.worker_port)
    assert printed(start("result", ticket, *at)) == ["2 report"]
    assert log.count("begun") == 1


def test_the_command_line(start: Start, broker: Broker, start_worker: StartWorker, log: Log) -> None:
    at = ("--broker", broker.address)
    start_worker("W1", "echo_slowly", "fail=fail")
    detached = start("call", *at, "--detach", "--ticket", "mine", stdin=b"0.1 one")
    assert (detached.exit_code(), detached.lines) == (0, ["mine"])
    assert detached.count("this broker has no journal") == 1
    joined = start("call", *at, "--ticket", "mine", stdin=b"0.1 one")
    assert (joined.exit_code(), joined.lines) == (0, ["0.1 one"])
    assert log.count("begun") == 1
    odd = start("call", *at, "--detach", "--ticket", "two\n\tlines", stdin=b"0 odd")
    assert (odd.exit_code(), "\n".join(odd.lines)) == (0, "two\n\tlines"), "what cbw result takes"
    taken = start("call", *at, "--ticket", "mine", stdin=b"0.1 two")
    assert taken.exit_code() == 2 and taken.count("has the ticket 'mine'") == 1
    unknown = start("result", "another", *at)
    assert unknown.exit_code() == 1 and unknown.count("no request with the ticket 'another'") == 1
    start("call", *at, "--detach", "--ticket", "bad", "--service", "fail", stdin=b"raise").exit_code()
    failed = start("result", "bad", *at)
    assert failed.exit_code() == 1 and failed.count("KeyError: 'nothing there'") == 1
    start("call", *at, "--detach", "--ticket", "late", "--deadline", 0.2, "--service", "none").exit_code()
    late = start("result", "late", *at)
    assert late.exit_code() == 1 and late.count("the deadline passed before a worker came that serves 'none'") == 1
    start("call", *at, "--detach", "--ticket", "never", "--service", "none").exit_code()
    never = start("result", "never", *at, "--timeout", 2)
    assert never.exit_code() == 1
    assert never.count("serves 'none'; it goes on") or never.count("the broker does not say where the request is"), (
        never
    )
    assert start("call", *at, "--deadline", 1).exit_code() == 2


def test_the_one_who_waits_is_ended_and_the_request_goes_on(
    start: Start, broker: Broker, start_worker: StartWorker, log: Log
) -> None:
    at = ("--broker", broker.address)
    start_worker("W1", "echo_slowly")
    waiting = start("call", *at, "--ticket", "t", stdin=b"3 one")
    log.wait_for("begun 3 one")
    waiting.signal(signal.SIGINT)
    assert waiting.exit_code() == 130
    assert printed(start("result", "t", *at)) == ["3 one"]
    assert log.count("begun") == 1


def test_the_library(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    with cbw.Client(broker.address) as starter:
        ticket = starter.start({"a": 1})
        assert isinstance(ticket, str) and not ticket.is_durable
        big = starter.start(b"x" * 1_000_000)
    client, other = connect(broker), connect(broker)
    with pytest.raises(cbw.Expired):
        client.result(ticket, timeout=0.2)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(other.result(ticket, returns=dict)))
    thread.start()
    start_worker("W1", "echo")
    thread.join(PATIENCE_S)
    assert answers == [{"a": 1}]
    assert client.result(big, timeout=None) == b"x" * 1_000_000
    assert client.call("beside them") == b"beside them"
    with pytest.raises(cbw.UsageError):
        client.start(ticket="")
    with pytest.raises(cbw.UsageError):
        client.start(deadline_s="soon")  # type: ignore[call-overload]
    with pytest.raises(cbw.UnknownTicket):
        client.result("nobody's")


def test_the_async_library(broker: Broker, start_worker: StartWorker) -> None:
    async def use() -> None:
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as client:
            tickets = await asyncio.gather(*(client.start(f"{number}", ticket=f"t{number}") for number in range(20)))
            assert tickets == [f"t{number}" for number in range(20)]
            waiting = asyncio.create_task(client.result("t0"))
            await asyncio.sleep(0.1)
            waiting.cancel()
            start_worker("W1", "echo")
            answers = await asyncio.gather(*(client.result(ticket, returns=str) for ticket in tickets))
            assert answers == [f"{number}" for number in range(20)]
            with pytest.raises(cbw.TicketTaken):
                await client.start("another", ticket="t0")
            with pytest.raises(cbw.UnknownTicket):
                await client.result("nobody's")

    asyncio.run(use())


def test_many_at_once_through_a_restart(start_broker: StartBroker, start_worker: StartWorker, folder: Path) -> None:
    broker = start_broker("--journal", folder)

    async def begin() -> None:
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as client:
            await asyncio.gather(*(client.start(f"{number}", ticket=f"t{number}") for number in range(5000)))

    asyncio.run(begin())
    broker.program.kill()
    second = start_broker("--journal", folder, client_port=broker.client_port, worker_port=broker.worker_port)
    second.program.wait_for("goes on with its journal: 5000 requests")
    start_worker("W1", "echo", at=second)

    async def fetch() -> list[str]:
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as client:
            return await asyncio.gather(*(client.result(f"t{number}", returns=str) for number in range(5000)))

    assert asyncio.run(fetch()) == [f"{number}" for number in range(5000)]


@pytest.fixture
def earlier_broker() -> Iterator[int]:
    """The port of a broker that knows no tickets."""
    context: zmq.Context[Any] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port(f"tcp://{HOST}")
    is_over = threading.Event()

    def serve() -> None:
        while not is_over.is_set():
            if router.poll(20):
                peer, *frames = router.recv_multipart()
                said = native.from_client(frames)
                assert not any(isinstance(message, messages.Start | messages.Collect) for message in said)
                if isinstance(said[0], messages.ClientHello):
                    (welcome, _), *_ = native.encode([messages.Welcome("OLD", "boot", 3.0, 1 << 20)])
                    router.send_multipart([peer, *welcome])

    thread = threading.Thread(target=serve)
    thread.start()
    yield port
    is_over.set()
    thread.join()
    context.destroy(linger=0)


def test_an_earlier_broker(earlier_broker: int) -> None:
    with cbw.Client(f"{HOST}:{earlier_broker}", timeout=PATIENCE_S) as client:
        for ask in (client.start, lambda: client.result("t")):
            with pytest.raises(cbw.VersionMismatch, match="OLD knows no tickets"):
                ask()
