"""Requests and their answers, by every way of asking, in a system where nothing fails."""

from __future__ import annotations

import asyncio
import enum
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from typing import Any

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, StartBroker, StartWorker
from .program import PATIENCE_S, SOON_S, wait_until

Use = Callable[[cbw.AsyncClient], Awaitable[None]]
RunAsync = Callable[[Use], None]


@pytest.fixture
def run_async(shared: Broker) -> RunAsync:
    """Runs an async function with a client of the shared system, in a loop whose every complaint is a failure."""

    def run(use: Use) -> None:
        complaints: list[object] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with cbw.AsyncClient(shared.address, timeout=PATIENCE_S) as client:
                await use(client)

        asyncio.run(main(), debug=False)
        assert complaints == []

    return run


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


def test_submit_calls_back_though_nobody_waits(client: cbw.Client) -> None:
    called = threading.Event()
    client.submit("x", "echo").add_done_callback(lambda _: called.set())
    assert called.wait(PATIENCE_S)


def test_many_threads_on_one_client(client: cbw.Client) -> None:
    """Whoever waits reads for the others too, and everybody gets the own answers."""

    def ask(thread: int) -> list[bytes]:
        answers = [client.call(f"{thread}-{number}", "echo") for number in range(60)]
        answers += client.map((f"{thread}-{number}" for number in range(60, 300)), "echo")
        return answers

    with ThreadPoolExecutor(12) as pool:
        for thread, answers in enumerate(pool.map(ask, range(12))):
            assert answers == [f"{thread}-{number}".encode() for number in range(300)]


# --- map


def test_map_keeps_the_order(client: cbw.Client) -> None:
    assert list(client.map(range(3000), "double", returns=int)) == [2 * number for number in range(3000)]


def test_map_of_nothing(client: cbw.Client) -> None:
    assert list(client.map([], "echo")) == []


def test_map_as_completed(client: cbw.Client) -> None:
    """The slow ones come last; each says which it is."""
    texts = ["0.3 slow", *(f"0 {number}" for number in range(20))]
    answers = list(client.map(texts, "sleep", returns=str, is_ordered=False))
    assert sorted(answers) == sorted(enumerate(texts))
    assert answers[-1] == (0, "0.3 slow")


def test_map_is_lazy_and_bounded(client: cbw.Client) -> None:
    """No more than a window is taken from the bodies before the first answer is."""
    taken: list[int] = []

    def bodies() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    answers = client.map(bodies(), "double", window=8, returns=int)
    assert taken == []
    assert [next(answers), next(answers)] == [0, 2]
    assert len(taken) <= 16
    answers.close()  # type: ignore[attr-defined]


def test_map_tells_its_progress(client: cbw.Client) -> None:
    told: list[int] = []
    assert len(list(client.map(range(100), "double", window=10, on_progress=told.append))) == 100
    assert told == sorted(told)
    assert told[-1] == 100


@pytest.mark.parametrize("is_ordered", [True, False])
def test_map_with_errors(client: cbw.Client, is_ordered: bool) -> None:
    kinds = ["fine", "raise", "fine", "type"]
    answers = list(client.map(kinds, "fail", returns=str, is_ordered=is_ordered, return_errors=True))
    if not is_ordered:
        answers = [answer for _, answer in sorted(answers, key=lambda pair: int(pair[0]))]
    assert answers[0] == answers[2] == "fine"
    assert [type(answers[1]), type(answers[3])] == [cbw.HandlerFailed] * 2


def test_map_raises_the_first_error_and_cancels_the_rest(client: cbw.Client, shared_log: Log) -> None:
    def count(word: str) -> int:
        return shared_log.count(f"{word} 30 rest")

    def bodies() -> Iterator[str]:
        time.sleep(SLOW_S)  # so that each is sent before the next is asked for
        yield "30 rest"
        wait_until(lambda: count("begun") > before, "it is begun")
        yield from ("x is no number", "30 rest")

    before = count("begun")
    with pytest.raises(cbw.HandlerFailed, match="could not convert"):
        list(client.map(bodies(), "sleep", is_ordered=False))
    wait_until(lambda: before < count("begun") == count("cancelled"), "what has begun is cancelled")


def test_map_of_bodies_that_raise(client: cbw.Client) -> None:
    def bodies() -> Iterator[bytes]:
        yield b"1"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(client.map(bodies(), "echo"))
    with pytest.raises(cbw.UsageError):
        client.map([], window=0)


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


SLOW_S = 0.02
"""Between one body and the next: longer than an answer takes."""


class SlowBodies:
    """Numbers, one after the other and slowly, until they are enough; so many that nobody should wait for the last."""

    COUNT = 500

    def __init__(self) -> None:
        self.taken = 0
        self.are_enough = False

    def __iter__(self) -> Iterator[int]:
        while self.taken < self.COUNT and not self.are_enough:
            time.sleep(SLOW_S)
            self.taken += 1
            yield self.taken


@pytest.mark.parametrize("is_ordered", [True, False])
def test_answers_do_not_wait_for_slow_bodies(client: cbw.Client, is_ordered: bool) -> None:
    bodies = SlowBodies()
    answers = client.map(bodies, "double", returns=int, is_ordered=is_ordered)
    first = next(answers)
    bodies.are_enough = True
    assert first == 2 if is_ordered else first in [(number, 2 * number + 2) for number in range(bodies.taken)]
    assert bodies.taken < SlowBodies.COUNT
    assert len(list(answers)) == bodies.taken - 1
    assert client.call("x", "echo") == b"x"


def test_a_request_of_slow_bodies_is_answered_while_the_next_is_awaited(client: cbw.Client) -> None:
    def bodies() -> Iterator[str]:
        time.sleep(SLOW_S)
        yield "0 first of slow ones"
        wait_until(lambda: client.status()["in_flight"] == 0, "it is answered")
        yield "0 second"

    assert len(list(client.map(bodies(), "sleep"))) == 2


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


# --- asyncio


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


# --- names that are none


@pytest.mark.parametrize(
    "service", ["\udcff", None, 5, b"echo", "x" * 201], ids=["not UTF-8", "None", "5", "bytes", "long"]
)
def test_a_service_that_cannot_be(client: cbw.Client, run_async: RunAsync, service: Any) -> None:
    """It is refused where its caller sees it, and nothing else is touched."""
    before = client.submit("before", "echo")
    for ask in (client.call, client.submit, lambda *request: list(client.map([b"x"], *request[1:]))):
        with pytest.raises(cbw.UsageError, match="cannot be a service"):
            ask(b"x", service)

    async def use(other: cbw.AsyncClient) -> None:
        with pytest.raises(cbw.UsageError, match="cannot be a service"):
            await other.call(b"x", service)
        assert await other.call(b"x", "echo") == b"x"

    run_async(use)
    assert before.result(PATIENCE_S) == b"before"
    assert client.submit("after", "echo").result(PATIENCE_S) == b"after"
    assert client.call("after that", "echo") == b"after that"


def test_ids_and_services_that_cannot_be() -> None:
    for make in (cbw.Client, cbw.AsyncClient, cbw.Worker):
        for name in ("", "\udcff", "x" * 201):
            with pytest.raises(cbw.UsageError, match="cannot be an id"):
                make(f"{HOST}:1", id=name)
    with pytest.raises(cbw.UsageError, match="cannot be a service"):
        cbw.Worker(f"{HOST}:1").add("\udcff", len)
    with pytest.raises(cbw.UsageError, match="is no host"):
        cbw.Client("\udcff:9998")


class Service(enum.StrEnum):
    """A user's list of services."""

    ECHO = "echo"


def test_a_service_of_a_users_list(client: cbw.Client) -> None:
    assert client.call(b"x", Service.ECHO) == b"x"


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
