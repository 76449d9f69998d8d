"""More than the workers can do at once: clients take turns, and come back by themselves to a broker that was full."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start, StartBroker, StartWorker
from .program import PATIENCE_S, wait_until

FLOOD = 600
WORK_S = 0.01
FEW = 200
"""Requests of another that may be answered while one call is: what the worker has in hand, and two seconds on a busy machine."""
ROOM = 5


@pytest.fixture
def small(start_broker: StartBroker) -> Broker:
    """A broker that is soon full."""
    return start_broker("--requests-max", ROOM)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def test_a_flood_does_not_delay_another_clients_call(
    broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W1", "compute")
    flood, other = connect(broker, timeout=None), connect(broker)
    futures = [flood.submit(WORK_S) for _ in range(FLOOD)]
    wait_until(lambda: futures[0].done(), "the flood has arrived")
    before = sum(future.done() for future in futures)
    assert other.call(WORK_S, returns=int) > 0
    after = sum(future.done() for future in futures)
    assert after - before < FEW, f"{after - before} requests of the flood went before one call"


@pytest.mark.parametrize("mebibytes", [256, 450])
def test_a_broker_that_may_map_little_refuses_and_serves(mebibytes: int, tmp_path: Path) -> None:
    """It has far less memory (``ulimit -v``) than it is sent: it says so, goes on, and ends in order."""
    said, ports = tmp_path / "said", (free_port(), free_port())
    words = f"ulimit -c 0; ulimit -v {mebibytes << 10}; exec {sys.executable} -m cbw broker {ports[0]} {ports[1]} --listen {HOST}"
    with said.open("w") as out, subprocess.Popen(["sh", "-c", words], stdout=out, stderr=out) as broker:
        try:
            address = f"{HOST}:{ports[0]}"
            with cbw.Client(address, timeout=PATIENCE_S) as flood, cbw.Client(address) as other:
                futures = [flood.submit(bytes(1_000_000), "nobody", timeout=8) for _ in range(600)]
                wait_until(lambda: "refused" in said.read_text(), "it has refused some")
                assert other.call(service="cbw.services", timeout=PATIENCE_S)
                errors = [future.exception() for future in futures]
            assert {type(error) for error in errors} <= {cbw.Busy, cbw.Expired}
            busy = [str(error) for error in errors if isinstance(error, cbw.Busy)]
            assert len(busy) > 300 and all("--requests-bytes-max" in text for text in busy)
            assert broker.poll() is None
            broker.terminate()
            assert broker.wait(PATIENCE_S) == 0
        finally:
            broker.kill()


@pytest.mark.parametrize(
    "role", ["broker 0 0", "logger 0 {}/log", "worker W1 127.0.0.1 1", "call --broker 127.0.0.1:1"]
)
def test_a_role_that_may_map_too_little_ends_at_once(role: str, tmp_path: Path) -> None:
    """libzmq would end it some other time: when it cannot start a thread."""
    words = f"ulimit -c 0; ulimit -v {200 << 10}; exec {sys.executable} -m cbw {role.format(tmp_path)}"
    ended = subprocess.run(["sh", "-c", words], input="", capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 3 and "may map 200 MiB" in ended.stderr and "ulimit -v" in ended.stderr, ended


def test_a_client_can_put_its_own_calls_before_its_flood(
    broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W1", "compute")
    client = connect(broker)
    futures = [client.submit(WORK_S, priority=0) for _ in range(FLOOD)]
    wait_until(lambda: futures[0].done(), "the flood has arrived")
    before = sum(future.done() for future in futures)
    assert client.call(WORK_S, priority=9, returns=int) > 0
    after = sum(future.done() for future in futures)
    assert after - before < FEW, f"{after - before} less important requests went first"


def test_a_call_waits_for_room_by_itself(
    small: Broker, start_worker: StartWorker, connect: Connect, threads: ThreadPoolExecutor
) -> None:
    first, second = connect(small), connect(small)
    futures = [first.submit("first") for _ in range(ROOM)]
    wait_until(lambda: first.status()["counts"]["requests_sent"] == ROOM and first.has_met_broker, "they are sent")
    call = threads.submit(second.call, "second")
    wait_until(lambda: second.status()["counts"]["requests_retried"] > 0, "it was refused, and sent again")
    start_worker("W1", "echo", at=small)
    assert call.result(PATIENCE_S) == b"second"
    assert [future.result(PATIENCE_S) for future in futures] == [b"first"] * ROOM


def test_so_does_an_async_call(small: Broker, start_worker: StartWorker, connect: Connect) -> None:
    first = connect(small)
    futures = [first.submit("first") for _ in range(ROOM)]
    wait_until(lambda: first.has_met_broker, "they are sent")

    async def main() -> bytes:
        async with cbw.AsyncClient(small.address, timeout=PATIENCE_S) as second:
            future = second.submit("second")
            await asyncio.to_thread(small.program.wait_for, "refused")
            await asyncio.to_thread(start_worker, "W1", "echo", at=small)
            return await future

    assert asyncio.run(main()) == b"second"
    assert [future.result(PATIENCE_S) for future in futures] == [b"first"] * ROOM


def test_when_there_is_no_time_for_another_try_the_caller_learns_when_to_come_back(
    small: Broker, connect: Connect
) -> None:
    client = connect(small)
    for _ in range(ROOM):
        client.submit("first")
    with pytest.raises(cbw.Busy, match="try again in") as caught:
        client.call("late", timeout=1)
    assert caught.value.retry_after_s is not None and caught.value.retry_after_s >= 0.05


def test_without_a_deadline_a_call_fails_at_once(small: Broker, connect: Connect) -> None:
    client = connect(small, timeout=None)
    for _ in range(ROOM):
        client.submit("first")
    with pytest.raises(cbw.Busy):
        client.call("one too many")
    assert client.status()["counts"]["requests_retried"] == 0


def test_so_does_a_map_whose_bodies_are_too_many(small: Broker, connect: Connect) -> None:
    client = connect(small)
    with pytest.raises(cbw.Busy):
        list(client.map(["x"] * 2 * ROOM, is_ordered=False))
    assert client.status()["counts"]["requests_retried"] == 0


@pytest.mark.parametrize("priority", [-1, 10, 5.0, "5", True, None])
def test_what_is_no_priority_is_refused_at_once(client: cbw.Client, priority: object) -> None:
    with pytest.raises(cbw.UsageError, match="whole number from 0 to 9"):
        client.call("x", "echo", priority=priority)  # type: ignore[call-overload]


def test_every_way_of_asking_takes_a_priority(shared: Broker, client: cbw.Client) -> None:
    assert client.call("x", "echo", priority=0) == b"x"
    assert client.submit("x", "echo", priority=9).result(PATIENCE_S) == b"x"
    assert list(client.map(["x", "y"], "echo", priority=1)) == [b"x", b"y"]

    async def main() -> None:
        async with cbw.AsyncClient(shared.address, timeout=PATIENCE_S) as other:
            assert await other.call("x", "echo", priority=0) == b"x"
            assert await other.submit("x", "echo", priority=9) == b"x"
            assert [answer async for answer in other.map(["x", "y"], "echo", priority=1)] == [b"x", b"y"]
            with pytest.raises(cbw.UsageError, match="whole number from 0 to 9"):
                await other.call("x", "echo", priority=10)

    asyncio.run(main())


def test_a_worker_with_more_services_than_the_broker_takes_is_told_so(start: Start, start_broker: StartBroker) -> None:
    broker = start_broker("--services-max", 2)
    handlers = [f"--handler=s{number}=handlers:echo" for number in range(3)]
    worker = start("worker", "W1", HOST, broker.worker_port, *handlers)
    assert worker.exit_code() == 2
    assert worker.count("this one would add 3 (--services-max)")
    start("worker", "W2", HOST, broker.worker_port, *handlers[:2])
    broker.program.wait_for("worker ready", "W2")
