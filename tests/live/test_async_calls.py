"""Requests and their answers by an asynchronous client, in a system where nothing fails."""

from __future__ import annotations

import asyncio
import time

import pytest

import cbw

from .conftest import Broker, Connect, Log, RunAsync, StartBroker, StartWorker
from .program import PATIENCE_S, SOON_S
from .slow_bodies import SlowBodies


def test_async_call_and_submit(run_async: RunAsync) -> None:
    async def use(client: cbw.AsyncClient) -> None:
        assert await client.call("text", "echo", returns=str) == "text"
        answers = await asyncio.gather(*(client.call(number, "double", returns=int) for number in range(500)))
        assert answers == [2 * number for number in range(500)]
        assert await client.submit(b"x" * 1_000_000, "echo") == b"x" * 1_000_000
        with pytest.raises(cbw.HandlerFailed):
            await client.call("raise", "fail")
        assert client.has_met_broker

    run_async(use)


def test_async_map_of_slow_bodies(run_async: RunAsync) -> None:
    async def main(client: cbw.AsyncClient) -> None:
        bodies = SlowBodies()
        answers = client.map(bodies, "double", returns=int)
        assert await anext(answers) == 2
        bodies.are_enough = True
        assert bodies.taken < SlowBodies.COUNT
        assert len([answer async for answer in answers]) == bodies.taken - 1

    run_async(main)


def test_async_map(run_async: RunAsync) -> None:
    async def use(client: cbw.AsyncClient) -> None:
        told: list[int] = []
        answers = [a async for a in client.map(range(3000), "double", returns=int, on_progress=told.append)]
        assert answers == [2 * number for number in range(3000)]
        assert told[-1] == 3000
        texts = ["0.3 slow", *(f"0 {number}" for number in range(20))]
        pairs = [pair async for pair in client.map(texts, "sleep", returns=str, is_ordered=False)]
        assert sorted(pairs) == sorted(enumerate(texts))
        assert pairs[-1] == (0, "0.3 slow")
        errors = [a async for a in client.map(["fine", "raise"], "fail", returns=str, return_errors=True)]
        assert errors[0] == "fine"
        assert isinstance(errors[1], cbw.HandlerFailed)
        with pytest.raises(cbw.HandlerFailed):
            _ = [a async for a in client.map(["fine", "raise"], "fail")]
        with pytest.raises(cbw.UsageError):
            client.map([], window=0)

    run_async(use)


def test_async_timeouts(run_async: RunAsync) -> None:
    async def use(client: cbw.AsyncClient) -> None:
        began_at = time.monotonic()
        longer = client.submit("x", "nobody serves this", timeout=3)
        with pytest.raises(cbw.Expired):
            await client.call("x", "nobody serves this", timeout=0.1)
        assert not longer.done()
        with pytest.raises(cbw.Expired):
            await longer
        assert 3 <= time.monotonic() - began_at < 3 + SOON_S

    run_async(use)


def test_async_cancelling_the_task_cancels_the_request(run_async: RunAsync, shared_log: Log) -> None:
    async def use(client: cbw.AsyncClient) -> None:
        task = asyncio.create_task(client.call("30 async", "sleep"))
        while not shared_log.count("begun 30 async"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not shared_log.count("cancelled 30 async"):
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.call("30 by timeout", "sleep")
        answers = client.map(["30 map", "0 map"], "sleep", is_ordered=False)
        assert await anext(answers) == (1, b"0 map")
        while not shared_log.count("begun 30 map"):
            await asyncio.sleep(0.01)
        await answers.aclose()
        while not shared_log.count("cancelled 30 map"):
            await asyncio.sleep(0.01)

    run_async(use)


def test_async_close_ends_what_is_in_flight(shared: Broker) -> None:
    async def main() -> None:
        client = cbw.AsyncClient(shared.address)
        task = asyncio.create_task(client.call("x", "nobody serves this"))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(cbw.Closed):
            await task
        with pytest.raises(cbw.Closed):
            await client.call("x", "echo")
        await client.close()

    asyncio.run(main())


def test_async_client_and_a_broker_that_starts_later(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect
) -> None:
    """It is killed and started again, too."""
    first = start_broker()
    first.program.kill()

    async def main() -> None:
        async with cbw.AsyncClient(first.address, timeout=PATIENCE_S) as client:
            early = asyncio.create_task(client.call("early"))
            await asyncio.sleep(0)
            ports = {"client_port": first.client_port, "worker_port": first.worker_port}
            second = await asyncio.to_thread(lambda: start_broker(**ports))
            await asyncio.to_thread(lambda: start_worker("W1", "echo", at=second))
            assert await early == b"early"
            answers = [asyncio.create_task(client.call(f"{number}")) for number in range(2000)]
            await answers[100]
            second.program.kill()
            await asyncio.to_thread(lambda: start_broker(**ports))
            assert await asyncio.gather(*answers) == [b"%d" % number for number in range(2000)]

    asyncio.run(main())
