"""What the callbacks of futures may do in the thread that reads the socket, and who reads it next."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import cbw

from .conftest import Broker, Connect, Log
from .program import PATIENCE_S, wait_until


def test_submit_calls_back_though_nobody_waits(client: cbw.Client) -> None:
    called = threading.Event()
    client.submit("x", "echo").add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE_S)


def test_a_futures_callback_may_close_the_client(shared: Broker, connect: Connect) -> None:
    """It runs in the thread that reads the socket, so it cannot wait for that one."""
    client = connect(shared)
    other = client.submit("x", "nobody serves this")
    is_closed = threading.Event()

    def close(_: object) -> None:
        client.close()
        is_closed.set()

    client.submit("x", "echo").add_done_callback(close)
    assert is_closed.wait(PATIENCE_S)
    with pytest.raises(cbw.Closed):
        other.result(PATIENCE_S)
    with pytest.raises(cbw.Closed):
        client.call("x", "echo")
    wait_until(lambda: client._waker._fd == -1, "everything is given back")


def test_a_futures_callback_may_cancel_another(client: cbw.Client, shared_log: Log) -> None:
    """It runs where the socket is read; the cancel leaves without anything else being asked."""
    other = client.submit("30 other", "sleep")
    shared_log.wait_for("begun 30 other")
    client.submit("0.1 first", "sleep").add_done_callback(lambda _: other.cancel())
    shared_log.wait_for("cancelled 30 other")


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_a_futures_callback_raises_is_no_business_of_others(
    client: cbw.Client, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for an answer of its own runs the callbacks of others."""

    def leave(_: object) -> None:
        raise error

    other = client.submit("1 x", "sleep")
    other.add_done_callback(leave)
    assert client.call("1.3 y", "sleep") == b"1.3 y"
    wait_until(other.done, "it is answered")
    assert "exception calling callback" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_futures_callback_that_raises_ends_nothing(client: cbw.Client, error: type[BaseException]) -> None:
    def leave(_: object) -> None:
        raise error

    client.submit("1 x", "sleep").add_done_callback(leave)  # slow: once answered, it would run in this thread
    assert client.submit("1.1 y", "sleep").result(PATIENCE_S) == b"1.1 y"
    assert client.submit("z", "echo").result(PATIENCE_S) == b"z"


def test_a_futures_callback_cannot_wait_for_an_answer(client: cbw.Client) -> None:
    """But it may ask."""
    errors: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def ask(_: object) -> None:
        client.submit("second", "echo").add_done_callback(lambda future: answers.put(future.result()))
        try:
            client.call("third", "echo")
        except cbw.UsageError as error:
            errors.put(error)

    client.submit("1 first", "sleep").add_done_callback(ask)  # slow: once answered, it would ask in this thread
    assert "cannot wait" in str(errors.get(timeout=PATIENCE_S))
    assert answers.get(timeout=PATIENCE_S) == b"second"


def test_who_comes_when_the_background_thread_goes(shared: Broker, connect: Connect) -> None:
    """That thread has decided that nobody needs it, and has not let the socket go: a caller waits for it, in vain."""
    client = connect(shared)
    exchange = client._exchange
    is_leaving, go_on = threading.Event(), threading.Event()

    def exchange_and_stay(is_enough: Callable[[], bool]) -> None:
        exchange(is_enough)
        if threading.current_thread() is client._background:
            is_leaving.set()
            go_on.wait(PATIENCE_S)

    client._exchange = exchange_and_stay  # type: ignore[method-assign]
    client.submit("first", "echo").result(PATIENCE_S)
    assert is_leaving.wait(PATIENCE_S)
    with ThreadPoolExecutor() as caller:
        answer = caller.submit(client.call, "second", "echo")
        wait_until(lambda: client._waiting == 1, "the caller waits")
        go_on.set()
        assert answer.result(PATIENCE_S) == b"second"
