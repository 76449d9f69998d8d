"""Answers in parts, between real processes: as they come, no more than there is room for, and closed when nobody wants them."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import islice
from pathlib import Path

import pytest

import cbw

from .conftest import Broker, Connect, Log, Start
from .program import PATIENCE_S, Program, wait_until

STREAMS = """\
import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import cbw

HERE = Path(__file__).parent
plain, loop = cbw.Service("plain"), cbw.Service("loop")


def note(text: str) -> None:
    with (HERE / "log").open("a") as log:
        log.write(f"{text}\\n")


@plain.task(name="count")
def count(to: int, size: int = 0) -> Iterator[str]:
    try:
        for number in range(to):
            note(f"made {number}")
            yield f"{number} {'x' * size}".strip()
    finally:
        note("closed")


@loop.task(name="count")
async def count_async(to: int, size: int = 0) -> AsyncIterator[str]:
    try:
        for number in range(to):
            note(f"made {number}")
            yield f"{number} {'x' * size}".strip()
    finally:
        note("closed")


@plain.task(name="fail")
def fail(after: int) -> Iterator[int]:
    yield from range(after)
    raise ValueError("no more")


@plain.task(name="die")
def die(after: int, attempt: cbw.Context) -> Iterator[int]:
    for number in range(after):
        yield number
    while attempt.attempt == 1 and not (HERE / "die").exists():
        time.sleep(0.01)
    if attempt.attempt == 1:
        os._exit(1)
    yield after


@plain.task(name="work")
def work(steps: int, attempt: cbw.Context) -> str:
    for step in range(steps + 1):
        attempt.progress(step, steps, f"step {step}")
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return "done"


@plain.task(name="once")
def once(body: str) -> str:
    return body.upper()
"""


@pytest.fixture(params=["threads", "processes"])
def worker(request: pytest.FixtureRequest, start: Start, broker: Broker, tmp_path: Path) -> Program:
    (tmp_path / "parts.py").write_text(STREAMS)
    processes = ["--processes", 1] if request.param == "processes" else []
    program = start(
        "worker", "W1", "127.0.0.1", broker.worker_port, "--app", "parts", *processes, PYTHONPATH=str(tmp_path)
    )
    broker.program.wait_for("worker ready", "plain.count")
    broker.program.wait_for("worker ready", "loop.count")
    return program


@pytest.mark.parametrize("service", ["plain.count", "loop.count"])
@pytest.mark.usefixtures("worker")
class TestBothKindsOfHandlers:
    def test_parts_come_in_order(self, broker: Broker, connect: Connect, service: str) -> None:
        stream = connect(broker).stream({"to": 500}, service, returns=str)
        assert list(stream) == [str(number) for number in range(500)]
        assert stream.parts == 500 and stream.attempt == 1

    def test_a_call_gets_a_list(self, broker: Broker, connect: Connect, service: str) -> None:
        assert connect(broker).call({"to": 3}, service, returns=list[str]) == ["0", "1", "2"]

    def test_to_leave_the_loop_closes_the_generator(
        self, broker: Broker, connect: Connect, service: str, tmp_path: Path
    ) -> None:
        client, log = connect(broker), Log(tmp_path / "log")
        for part in client.stream({"to": 10**9}, service, returns=str):
            if part == "5":
                break
        log.wait_for("closed")
        assert client.call({"to": 1}, service, returns=list[str]) == ["0"], "its slot is free"

    def test_a_slow_reader_keeps_the_handler_waiting(
        self, broker: Broker, connect: Connect, service: str, tmp_path: Path
    ) -> None:
        client, log = connect(broker), Log(tmp_path / "log")
        stream = client.stream({"to": 10**9, "size": 1000}, service, returns=str)
        first = [part.split()[0] for part in islice(stream, 10)]
        assert first == [str(number) for number in range(10)]
        log.wait_for("made 40")
        assert client.call({"to": 1}, "plain.count" if service == "loop.count" else "loop.count", returns=list[str])
        assert log.count("made") < 10 + 64 + 5, "it is no more than a window ahead"
        assert [part.split()[0] for part in islice(stream, 200)] == [str(number) for number in range(10, 210)]
        stream.close()
        log.wait_for("closed", 2)

    async def _read(self, broker: Broker, service: str, leave_at: int | None) -> list[str]:
        parts: list[str] = []
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as client:
            async for part in client.stream({"to": 300 if leave_at is None else 10**9}, service, returns=str):
                parts.append(part)
                if len(parts) == leave_at:
                    break
        return parts

    def test_async_for(self, broker: Broker, service: str) -> None:
        assert asyncio.run(self._read(broker, service, None)) == [str(number) for number in range(300)]

    def test_to_leave_async_for_closes_the_generator(self, broker: Broker, service: str, tmp_path: Path) -> None:
        assert len(asyncio.run(self._read(broker, service, 7))) == 7
        Log(tmp_path / "log").wait_for("closed")

    def test_the_end_of_a_client_gives_up_what_was_left_and_waits_for_the_rest(
        self, broker: Broker, service: str, tmp_path: Path
    ) -> None:
        """It waited for both: for ever, as nobody read the stream any more."""
        other = "plain.count" if service == "loop.count" else "loop.count"
        with cbw.Client(broker.address, timeout=None) as client:
            left = client.stream({"to": 10**9}, service, returns=str)
            assert next(left) == "0"
            future = client.submit({"to": 3}, other, returns=list[str])
        assert future.result(0) == ["0", "1", "2"]
        Log(tmp_path / "log").wait_for("closed", 2)
        with pytest.raises(cbw.Closed):
            list(left)

    def test_the_end_of_an_async_client_gives_up_what_was_left(
        self, broker: Broker, service: str, tmp_path: Path
    ) -> None:
        async def leave() -> cbw.AsyncAnswerStream[str]:
            async with cbw.AsyncClient(broker.address, timeout=None) as client:
                left = client.stream({"to": 10**9}, service, returns=str)
                async for part in left:
                    assert part == "0"
                    break
            return left

        asyncio.run(leave())
        Log(tmp_path / "log").wait_for("closed")

    def test_the_end_of_a_client_waits_for_a_stream_that_another_thread_reads(
        self, broker: Broker, service: str
    ) -> None:
        got: list[str] = []

        def read() -> None:
            for part in client.stream({"to": 100}, service, returns=str):
                time.sleep(0.005)
                got.append(part)

        with cbw.Client(broker.address, timeout=PATIENCE_S) as client:
            reader = threading.Thread(target=read)
            reader.start()
            wait_until(lambda: bool(got), "a part is read")
        reader.join(PATIENCE_S)
        assert len(got) == 100


@pytest.mark.usefixtures("worker")
def test_an_error_comes_after_the_parts(broker: Broker, connect: Connect) -> None:
    stream = connect(broker).stream(b"3", "plain.fail", returns=int)
    assert list(islice(stream, 3)) == [0, 1, 2]
    with pytest.raises(cbw.HandlerFailed, match="no more"):
        next(stream)
    assert list(stream) == []


@pytest.mark.usefixtures("worker")
def test_a_handler_that_returns_makes_one_part(broker: Broker, connect: Connect) -> None:
    assert list(connect(broker).stream("tea", "plain.once", returns=str)) == ["TEA"]


@pytest.mark.usefixtures("worker")
def test_a_worker_that_dies_breaks_the_stream(broker: Broker, connect: Connect, tmp_path: Path) -> None:
    stream = connect(broker).stream(b"3", "plain.die", returns=int)
    assert list(islice(stream, 3)) == [0, 1, 2]
    (tmp_path / "die").touch()
    with pytest.raises(cbw.StreamBroken, match="after 3 parts") as broken:
        next(stream)
    assert broken.value.parts == 3


def test_a_stream_may_begin_anew(start: Start, broker: Broker, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(STREAMS)
    start("worker", "W1", "127.0.0.1", broker.worker_port, "--app", "parts", "--processes", 1, PYTHONPATH=str(tmp_path))
    broker.program.wait_for("worker ready", "plain.count")
    stream = connect(broker).stream(b"3", "plain.die", returns=int, restart=True)
    assert list(islice(stream, 3)) == [0, 1, 2]
    (tmp_path / "die").touch()
    assert list(stream) == [0, 1, 2, 3] and stream.attempt == 2


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_on_progress_that_raises_ends_nothing(
    broker: Broker, connect: Connect, tmp_path: Path, error: type[BaseException]
) -> None:
    """It ended the thread that reads the socket, and all that had been submitted waited for ever."""
    (tmp_path / "go").touch()
    client = connect(broker)

    def leave(_: cbw.Progress) -> None:
        raise error

    first = client.submit(b"4", "plain.work", returns=str, on_progress=leave)
    second = client.submit(b"4", "plain.work", returns=str)
    assert (first.result(PATIENCE_S), second.result(PATIENCE_S)) == ("done", "done")


@pytest.mark.usefixtures("worker")
def test_progress_reaches_caller_and_status(broker: Broker, connect: Connect, tmp_path: Path) -> None:
    client, told = connect(broker), list[cbw.Progress]()
    future = client.submit(b"4", "plain.work", returns=str, on_progress=told.append)
    wait_until(lambda: bool(told) and told[-1].done == 4, "the last progress")
    (tmp_path / "go").touch()
    assert future.result() == "done"
    assert told[-1] == cbw.Progress(4, 4, "step 4")
    again = list[cbw.Progress]()
    assert client.call(b"4", "plain.work", returns=str, on_progress=again.append) == "done"
    assert again[-1] == cbw.Progress(4, 4, "step 4")
