"""Requests and their answers by a client that waits, in a system where nothing fails."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, RunAsync, StartWorker
from .program import PATIENCE_S, SOON_S, wait_until

# --- one at a time


def test_call(client: cbw.Client) -> None:
    assert client.call(b"\0\xff", "echo") == b"\0\xff"
    assert client.call("text", "echo", returns=str) == "text"
    assert client.call({"a": [1, None]}, "echo", returns=dict) == {"a": [1, None]}
    assert client.call(service="echo") == b""
    assert client.has_met_broker


@pytest.mark.parametrize("size", [32 * 1024 - 1, 32 * 1024, 1_000_000, 20_000_000])
def test_big_bodies(client: cbw.Client, size: int) -> None:
    """From 32 KiB on a body travels in a frame of its own."""
    body = bytes(range(256)) * (size // 256 + 1)
    assert client.call(body[:size], "echo") == body[:size]


def test_submit(client: cbw.Client) -> None:
    futures = [client.submit(f"{number}", "echo") for number in range(500)]
    assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % number for number in range(500)]


def test_many_threads_on_one_client(client: cbw.Client) -> None:
    """Whoever waits reads for the others too, and everybody gets the own answers."""

    def ask(thread: int) -> list[bytes]:
        answers = [client.call(f"{thread}-{number}", "echo") for number in range(60)]
        answers += client.map((f"{thread}-{number}" for number in range(60, 300)), "echo")
        return answers

    with ThreadPoolExecutor(12) as pool:
        for thread, answers in enumerate(pool.map(ask, range(12))):
            assert answers == [f"{thread}-{number}".encode() for number in range(300)]


# --- time


def test_a_timeout_ends_the_wait(client: cbw.Client) -> None:
    began_at = time.monotonic()
    with pytest.raises(cbw.Expired) as expired:
        client.call("nobody", "there", timeout=0.2)
    assert 0.2 <= time.monotonic() - began_at < SOON_S
    assert isinstance(expired.value, TimeoutError)
    assert expired.value.service == "there"


@pytest.mark.parametrize("timeout", [0, -0.5, -1, float("-inf")])
def test_a_time_that_is_over_already(client: cbw.Client, run_async: RunAsync, timeout: float) -> None:
    """As what is left of a longer one may be; it is not the client's own."""
    began_at = time.monotonic()
    for submit in (client.call, lambda *rest, **options: next(client.map([rest[0]], rest[1], **options))):
        with pytest.raises(cbw.Expired):
            submit("x", "nobody serves this", timeout=timeout)

    async def use(client: cbw.AsyncClient) -> None:
        with pytest.raises(cbw.Expired):
            await client.call("x", "nobody serves this", timeout=timeout)

    run_async(use)
    assert time.monotonic() - began_at < SOON_S


@pytest.mark.parametrize("timeout", ["1", [], float("nan"), 1j])
def test_a_timeout_that_is_none(client: cbw.Client, timeout: Any) -> None:
    for submit in (client.call, client.submit):
        with pytest.raises(cbw.UsageError, match="must be a number of seconds"):
            submit("x", "echo", timeout=timeout)
    for make in (cbw.Client, cbw.AsyncClient):
        with pytest.raises(cbw.UsageError, match="must be a number of seconds"):
            make(timeout=timeout)
    for for_ever in (float("inf"), 10**400):
        assert client.call("x", "echo", timeout=for_ever) == b"x"


@pytest.mark.parametrize("window", ["1", 1.5, 0, -1, None])
def test_a_window_that_is_none(client: cbw.Client, window: Any) -> None:
    with pytest.raises(cbw.UsageError, match="a whole number, at least 1"):
        client.map(["x"], "echo", window=window)


@pytest.mark.parametrize(
    ("body", "returns", "kind"),
    [
        ("no number", int, "DecodeError"),
        ("[1]", dict[str, int], "ValidationError"),
        (b"\xff", str, "UnicodeDecodeError"),
    ],
)
def test_an_answer_that_is_something_else(
    client: cbw.Client, run_async: RunAsync, body: Any, returns: Any, kind: str
) -> None:
    with pytest.raises(cbw.BadAnswer, match="the answer cannot be read as ") as caught:
        client.call(body, "echo", returns=returns)
    assert (caught.value.kind, caught.value.service) == (kind, "echo")
    assert caught.value.request_id > 0
    (error,) = client.map([body], "echo", returns=returns, return_errors=True)
    assert isinstance(error, cbw.BadAnswer)

    async def use(client: cbw.AsyncClient) -> None:
        with pytest.raises(cbw.BadAnswer):
            await client.call(body, "echo", returns=returns)
        (error,) = [one async for one in client.map([body], "echo", returns=returns, return_errors=True)]
        assert isinstance(error, cbw.BadAnswer)

    run_async(use)


def test_a_handler_sees_the_deadline(client: cbw.Client) -> None:
    seen = client.call("x", "attempt", timeout=7, returns=dict)
    assert 5 < seen.pop("time_left") <= 7
    assert seen == {"body": "x", "number": 1, "service": "attempt"}
    assert client.call("x", "attempt", timeout=None, returns=dict)["time_left"] is None


def test_what_has_expired_is_never_run(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    client = connect(broker)
    start_worker("W1", "echo_slowly")
    first = client.submit("1 first")
    log.wait_for("begun 1 first")
    with pytest.raises(cbw.Expired):
        client.call("0 late", timeout=0.1)
    assert first.result(PATIENCE_S) == b"1 first"
    assert client.call("0 next") == b"0 next"
    assert log.count("begun 0 late") == 0


# --- cancelling


def test_cancel_a_request_that_waits(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    client = connect(broker)
    start_worker("W1", "echo_slowly")
    running, waiting = client.submit("1 first"), client.submit("0 second")
    log.wait_for("begun 1 first")
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result()
    assert running.result(PATIENCE_S) == b"1 first"
    assert client.call("0 third") == b"0 third"
    assert log.count("begun 0 second") == 0


def test_cancel_an_async_handler_that_runs(client: cbw.Client, shared_log: Log) -> None:
    future = client.submit("30 long", "sleep")
    shared_log.wait_for("begun 30 long")
    assert future.cancel()
    shared_log.wait_for("cancelled 30 long")
    assert future.cancel(), "again is fine"


def test_cancel_kills_the_process_that_runs_it(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    client = connect(broker)
    start_worker("W1", "hang", options=["--processes", 1])
    future = client.submit("for ever")
    log.wait_for("begun for ever")
    assert future.cancel()
    assert client.call("quick") == b"quick", "by a new process"


def test_close_ends_what_is_in_flight(shared: Broker, connect: Connect) -> None:
    client = connect(shared)
    future = client.submit("x", "nobody serves this")
    waiting = ThreadPoolExecutor(1).submit(client.call, "x", "nor this")
    wait_until(lambda: client._waiting == 2, "both are in flight")
    client.close()
    with pytest.raises(cbw.Closed):
        future.result(PATIENCE_S)
    with pytest.raises(cbw.Closed):
        waiting.result(PATIENCE_S)
    with pytest.raises(cbw.Closed):
        client.call("x", "echo")
    client.close()


# --- a client of its own id


def test_a_client_comes_again_under_its_id(shared: Broker) -> None:
    """It said goodbye, so its id is free at once, and not when its silence is noticed, each time after 3 s."""
    began_at = time.monotonic()
    for _ in range(4):
        with cbw.Client(f"{HOST}:{shared.client_port}", id="THE-ONE", timeout=PATIENCE_S) as client:
            assert client.call("x", "echo") == b"x"
    assert time.monotonic() - began_at < 9


def test_futures_can_be_waited_for_together(client: cbw.Client) -> None:
    futures = {client.submit(f"{number}", "echo") for number in range(10)}
    done, pending = wait(futures, timeout=PATIENCE_S)
    assert done == futures
    assert not pending
