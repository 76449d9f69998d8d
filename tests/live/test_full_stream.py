"""A broker whose stream may take little: it refuses new requests before the stream is full, and goes on when there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import nats
import pytest
from nats.js import api

from cbw import Busy
from tests.nats_server import NatsServer

from .conftest import Broker, Connect, Start, StartWorker, broker_of
from .program import PATIENCE_S, wait_until

ROOM_BYTES = 32 << 20
BODY = bytes(100_000)


async def make(server: NatsServer) -> None:
    """The stream as an operator makes it, so that it has a limit."""
    client = await nats.connect(f"nats://{server.address}")
    subjects = [f"cbw.journal.j.{kind}" for kind in ("batches", "owner")]
    config = api.StreamConfig(name="CBW_j", subjects=subjects, discard=api.DiscardPolicy.NEW, max_bytes=ROOM_BYTES)
    await client.jetstream().add_stream(config)
    await client.close()


async def leave(server: NatsServer, room: float) -> None:
    """Change the limit, so that the stream fills that part of it; 0: to none."""
    client = await nats.connect(f"nats://{server.address}")
    stream = client.jetstream()
    info = await stream.stream_info("CBW_j")
    await stream.update_stream(info.config, max_bytes=int(info.state.bytes / room) if room else -1)
    await client.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path) as running:
        yield running


@pytest.fixture
def broker(start: Start, server: NatsServer) -> Broker:
    asyncio.run(make(server))
    return broker_of(start("broker", 0, 0, "--journal", f"nats://{server.address}/j"))


def test_what_has_ended_takes_no_room(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "echo")
    client = connect(broker, timeout=None)
    for _ in range(2 * ROOM_BYTES // len(BODY)):
        assert client.call(BODY) == BODY
    assert not broker.program.count("journal stalled")


def test_what_waits_fills_it_and_goes_on_by_itself(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    client = connect(broker, timeout=None)
    waiting: list[Future[bytes]] = []

    def is_full() -> bool:
        waiting.append(client.submit(BODY))
        time.sleep(0.002)  # so that few are on the way when it is
        return any(broker.program.count("refused", f"{percent}% of its room") for percent in range(75, 100))

    wait_until(is_full, "it is full")
    start_worker("W1", "echo_in_a_moment")
    errors = [error for future in waiting if (error := future.exception(PATIENCE_S)) is not None]
    assert errors
    assert all(isinstance(error, Busy) for error in errors)
    answers = [future.result() for future in waiting if future.exception() is None]
    assert all(answer == BODY for answer in answers)
    assert len(answers) > ROOM_BYTES // len(BODY) // 2
    broker.program.wait_for("it has room again")
    assert connect(broker).call(BODY) == BODY


def test_a_stream_that_is_given_more_room(broker: Broker, server: NatsServer, connect: Connect) -> None:
    connect(broker).submit(BODY)
    broker.program.wait_for("no worker here serves")
    asyncio.run(leave(server, 0.95))
    broker.program.wait_for("journal stalled", "95% of its room")
    asyncio.run(leave(server, 0))
    broker.program.wait_for("it has room again")
