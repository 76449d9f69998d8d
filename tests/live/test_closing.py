"""A client that is closed while others use it: they get :class:`cbw.Closed`, whatever they were about to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

import cbw

from .conftest import Broker, Connect
from .program import PATIENCE_S

Use = Callable[[cbw.Client], Any]
USES: dict[str, Use] = {
    "call": lambda client: client.call("x", "echo"),
    "submit": lambda client: client.submit("x", "echo").result(PATIENCE_S),
    "map": lambda client: list(client.map(["x"] * 100, "echo", window=10)),
    "cancel": lambda client: client.submit("30 x", "sleep").cancel(),
    "map that is given up": lambda client: next(client.map(["0 x", *["0.1 x"] * 9], "sleep", window=5)),
}


def close_before_sending(client: cbw.Client) -> None:
    """From now on another thread closes ``client`` when one has submitted something and is about to send it."""
    push = client._push

    def close_and_push() -> None:
        closer = threading.Thread(target=client.close)
        closer.start()
        closer.join(PATIENCE_S)
        push()

    client._push = close_and_push  # type: ignore[method-assign]


@pytest.mark.parametrize("name", ["submit", "map"])
def test_another_thread_closes_between_submitting_and_sending(shared: Broker, connect: Connect, name: str) -> None:
    client = connect(shared)
    client.call("connected", "echo")
    close_before_sending(client)
    with pytest.raises(cbw.Closed):
        USES[name](client)


def test_another_thread_closes_between_cancelling_and_sending(shared: Broker, connect: Connect) -> None:
    client = connect(shared)
    future = client.submit("30 x", "sleep")
    client.call("connected", "echo")
    close_before_sending(client)
    assert future.cancel()
    assert future.cancelled()


def test_another_thread_closes_while_a_map_is_given_up(shared: Broker, connect: Connect) -> None:
    client = connect(shared)
    answers = client.map(["0 x", *["30 x"] * 9], "sleep", window=5)
    next(answers)
    close_before_sending(client)
    answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_another_thread_closes_at_any_moment(shared: Broker, connect: Connect, use: Use) -> None:
    def use_until_closed(client: cbw.Client, has_begun: threading.Event) -> None:
        while True:
            try:
                use(client)
            except CancelledError:
                pass
            except cbw.Closed:
                return
            has_begun.set()

    for _ in range(10):
        client = connect(shared)
        begun = [threading.Event() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            users = [pool.submit(use_until_closed, client, has_begun) for has_begun in begun]
            for has_begun in begun:
                assert has_begun.wait(PATIENCE_S)
            client.close()
            for user in users:
                user.result(PATIENCE_S)


def test_a_coroutine_closes_while_others_use_the_client(shared: Broker) -> None:
    async def call(client: cbw.AsyncClient) -> None:
        while True:
            await client.call("x", "echo")

    async def submit(client: cbw.AsyncClient) -> None:
        while True:
            await client.submit("x", "echo")

    async def map_(client: cbw.AsyncClient) -> None:
        while True:
            async for _ in client.map(["x"] * 100, "echo", window=10):
                pass

    async def cancel(client: cbw.AsyncClient) -> None:
        while True:
            future = client.submit("30 x", "sleep")
            await asyncio.sleep(0)
            future.cancel()

    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        for turns in range(20):
            client = cbw.AsyncClient(shared.address, timeout=PATIENCE_S)
            users = [asyncio.create_task(use(client)) for use in (call, submit, map_, cancel)]
            await client.call("x", "echo")
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            for user in users:
                with pytest.raises(cbw.Closed):
                    await asyncio.wait_for(user, PATIENCE_S)
        assert complaints == []

    asyncio.run(main())


LEFT_OPEN = """
import asyncio, gc, sys, cbw

def leave_a_client() -> None:
    cbw.Client(sys.argv[1]).call("x", "echo")

async def leave_an_async_client() -> None:
    await cbw.AsyncClient(sys.argv[1]).call("x", "echo")

leave_a_client()
asyncio.run(leave_an_async_client())
gc.collect()
print("collected")
"""


def test_clients_that_nobody_closes_are_garbage_that_holds_nobody_up(shared: Broker) -> None:
    """For ever: the context waited for its sockets, which were garbage, too, and not closed yet."""
    command = [sys.executable, "-c", LEFT_OPEN, shared.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, "collected\n"), done.stderr
