"""What ends is freed at once: nothing of a request holds itself, so a program that lives for months does not wait for the garbage
collector, and one that has turned it off does not grow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

import cbw

from .conftest import Broker

TIMES = 50
"""How often each way to end is tried: what holds itself shows as so many objects, and what others leave as a few."""

ERRORS = (cbw.RequestError, cbw.Closed, CancelledError, TimeoutError, cbw.UsageError)


@pytest.fixture
def collector() -> Iterator[None]:
    """The garbage collector is off, and has collected before."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def in_circles() -> dict[str, int]:
    """The objects that only the collector would free, by type: those of which there are many."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = Counter(type(one).__name__ for one in gc.garbage)
    gc.set_debug(0)
    gc.garbage.clear()
    return {name: count for name, count in found.items() if count >= TIMES // 2}


def _result(future: Future[bytes], timeout: float | None = None) -> None:
    try:
        future.result(timeout)
    except ERRORS:
        future.cancel()


def _cancel(client: cbw.Client) -> None:
    future = client.submit(b"x", "nobody")
    future.cancel()
    _result(future)


WAYS: dict[str, Callable[[cbw.Client], object]] = {
    "answered": lambda client: client.call(b"x", "echo"),
    "failed": lambda client: client.call(b"raise", "fail"),
    "expired": lambda client: client.call(b"x", "nobody", timeout=0.005),
    "no such answer": lambda client: client.call(b"x", "echo", returns=int),
    "no such service": lambda client: client.call(b"x", "s" * 300),
    "no such ticket": lambda client: client.result("nobody's"),
    "a future that answered": lambda client: _result(client.submit(b"x", "echo")),
    "a future that failed": lambda client: _result(client.submit(b"raise", "fail")),
    "a future not waited for": lambda client: _result(client.submit(b"x", "nobody"), 0.001),
    "a future that was cancelled": _cancel,
    "a map that failed": lambda client: list(client.map([b"raise"], "fail")),
    "a map of errors": lambda client: list(client.map([b"raise"], "fail", return_errors=True)),
    "a map of bad answers": lambda client: list(client.map([b"x"], "echo", returns=int, return_errors=True)),
}

ASYNC_WAYS: dict[str, Callable[[cbw.AsyncClient], Any]] = {
    "answered": lambda client: client.call(b"x", "echo"),
    "failed": lambda client: client.call(b"raise", "fail"),
    "expired": lambda client: client.call(b"x", "nobody", timeout=0.005),
    "no such answer": lambda client: client.call(b"x", "echo", returns=int),
    "no such ticket": lambda client: client.result("nobody's"),
    "cancelled": lambda client: asyncio.wait_for(client.call(b"x", "nobody"), 0.003),
    "a map that failed": lambda client: _all(client.map([b"raise"], "fail")),
    "a map of errors": lambda client: _all(client.map([b"raise"], "fail", return_errors=True)),
}


async def _all(answers: Any) -> None:
    async for _ in answers:
        pass


@pytest.mark.parametrize("way", WAYS)
def test_client(client: cbw.Client, way: str, collector: None) -> None:
    for _ in range(TIMES):
        with contextlib.suppress(*ERRORS):
            WAYS[way](client)
    time.sleep(0.05)  # what was cancelled ends later
    assert not in_circles()


@pytest.mark.parametrize("way", ASYNC_WAYS)
def test_async_client(shared: Broker, way: str, collector: None) -> None:
    async def ask() -> dict[str, int]:
        async with cbw.AsyncClient(shared.address) as client:
            await client.call(b"x", "echo")
            for _ in range(TIMES):
                await _one(ASYNC_WAYS[way](client))
            await asyncio.sleep(0.05)
            return in_circles()

    assert not asyncio.run(ask())


async def _one(asked: Coroutine[Any, Any, object]) -> None:
    with contextlib.suppress(*ERRORS):
        await asked


def test_futures_of_a_closed_client(shared: Broker, collector: None) -> None:
    client = cbw.Client(shared.address)
    client.call(b"x", "echo")
    futures = [client.submit(b"x", "nobody") for _ in range(TIMES)]
    client.close()
    while futures:
        _result(futures.pop())
    assert not in_circles()


def test_a_future_raises_its_exception_as_often_as_it_is_asked(client: cbw.Client) -> None:
    future = client.submit(b"raise", "fail")
    raised = []
    for _ in range(2):
        with pytest.raises(cbw.HandlerFailed) as caught:
            future.result()
        raised.append(caught.value)
    first, second = raised
    assert (first.kind, first.text, first.request_id, first.service) == (
        second.kind, second.text, second.request_id, second.service,
    )  # fmt: skip
    held = future.exception()
    assert held is not None and held.__traceback__ is None and str(held) == str(first)
