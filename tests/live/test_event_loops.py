"""The event loops of an AsyncClient: it belongs to the first, and is closed with any."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

import cbw

from .conftest import Broker
from .program import PATIENCE_S


def test_async_client_whose_loop_runs_in_another_thread_refuses_a_second_loop(shared: Broker) -> None:
    """It looks at the thread before it asks for the loop: a loop of another thread, and one after that, are told apart."""
    client = cbw.AsyncClient(shared.address, timeout=PATIENCE_S)
    loop = asyncio.new_event_loop()

    async def ask() -> bytes:
        return await client.call("x", "echo")

    async def elsewhere() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="another event loop"):
                client.submit("x", "echo")

    async def from_threads() -> None:
        await asyncio.to_thread(asyncio.run, elsewhere())
        assert await ask() == b"x"

    assert loop.run_until_complete(ask()) == b"x"
    loop.run_until_complete(from_threads())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(loop.run_until_complete, ask()).result() == b"x"
        asyncio.run(elsewhere())
        pool.submit(loop.run_until_complete, client.close()).result()
    loop.close()


def test_async_client_made_outside_of_a_loop_belongs_to_the_first(shared: Broker) -> None:
    client = cbw.AsyncClient(shared.address, timeout=PATIENCE_S)

    async def ask() -> bytes:
        return await client.call("x", "echo")

    async def close() -> None:
        with pytest.raises(RuntimeError, match="another event loop"):
            await ask()
        await client.close()

    assert asyncio.run(ask()) == b"x"
    asyncio.run(close())


def test_async_client_whose_loop_is_closed_is_closed_all_the_same(shared: Broker) -> None:
    client = cbw.AsyncClient(shared.address, timeout=PATIENCE_S)

    async def ask() -> asyncio.Future[bytes]:
        future = client.submit("30", "sleep")
        future.add_done_callback(lambda _: None)
        mapping = client.map(["30"], "sleep")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.ensure_future(anext(mapping)), 0.2)
        return future

    future = asyncio.run(ask())
    assert not future.done()
    asyncio.run(client.close())
    assert client._connection.link.socket.closed
