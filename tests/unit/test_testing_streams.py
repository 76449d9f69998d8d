"""Answers in parts in a system in memory: what becomes of them, in order and without a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice

import pytest

import cbw
from cbw.testing import System

closed: list[str] = []


@pytest.fixture(autouse=True)
def nothing_closed() -> None:
    closed.clear()


def numbers(to: int) -> Iterator[int]:
    try:
        yield from range(to)
    finally:
        closed.append("numbers")


async def numbers_async(to: int) -> AsyncIterator[int]:
    try:
        for number in range(to):
            yield number
            await asyncio.sleep(0)
    finally:
        closed.append("numbers")


@pytest.fixture(params=[numbers, numbers_async])
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    with System() as system:
        system.worker(request.param)
        yield system


def test_parts_in_order(system: System) -> None:
    assert list(system.stream(b"1000", returns=int)) == list(range(1000))
    assert closed == ["numbers"]


def test_in_a_running_loop(system: System) -> None:
    async def read() -> list[int]:
        return list(system.stream(b"100", returns=int))

    assert asyncio.run(read()) == list(range(100))


def test_a_call_gets_a_list(system: System) -> None:
    assert system.call(b"3", returns=list[int]) == [0, 1, 2]


def test_to_leave_closes_the_generator(system: System) -> None:
    for part in system.stream(b"1000000000", returns=int):
        if part == 3:
            break
    assert closed == ["numbers"]
    assert system.counts["cancelled"] == 1 and system.call(b"1", returns=list[int]) == [0]


def test_a_worker_is_a_window_ahead(system: System) -> None:
    with system.stream(b"1000000000", returns=int) as stream:
        assert list(islice(stream, 100)) == list(range(100))
        (worker,) = system.broker.workers.by_peer.values()
        (entry,) = worker.in_hand.values()
        assert entry.stream is not None and 100 < entry.stream.sent <= 100 + 64


def test_a_killed_worker_breaks_the_stream() -> None:
    with System() as system:
        first = system.worker(numbers)
        stream = system.stream(b"1000", returns=int)
        assert next(stream) == 0
        first.kill()
        system.worker(numbers)
        with pytest.raises(cbw.StreamBroken, match="parts: lost its connection") as broken:
            list(stream)
        assert broken.value.parts > 0 and system.counts["failed"] == 1


def test_a_stream_may_begin_anew() -> None:
    with System() as system:
        first = system.worker(numbers)
        stream = system.stream(b"1000", returns=int, restart=True)
        assert next(stream) == 0
        first.kill()
        system.worker(numbers)
        parts = list(stream)
        assert parts[-1000:] == list(range(1000)) and stream.attempt == 2 and stream.parts == 1000


def test_what_a_dead_attempt_says_is_fenced() -> None:
    """A worker that was taken for lost goes on, and none of its parts comes to the client."""
    with System() as system:
        first = system.worker(numbers)
        stream = system.stream(b"1000", returns=int, restart=True, timeout=None)
        assert next(stream) == 0
        first.freeze()
        system.worker(numbers)
        system.pass_time(5)
        first.thaw()
        assert list(stream)[-1000:] == list(range(1000)) and stream.attempt == 2


def test_a_lost_connection_of_the_client_loses_no_part_that_had_come() -> None:
    with System() as system:
        system.worker(numbers)
        client = system.client()
        stream = client.stream(b"1000", returns=int)
        assert next(stream) == 0
        client.cut()
        system.pass_time(1)
        client.mend()
        assert list(stream) == list(range(1, 1000)), "nothing was on its way, so it goes on"


def test_the_broker_is_killed(system: System) -> None:
    client = system.client()
    stream = client.stream(b"1000", returns=int)
    assert next(stream) == 0
    system.kill_broker()
    system.start_broker()
    with pytest.raises(cbw.StreamBroken, match="restarted"):
        list(stream)


def test_progress() -> None:
    def work(steps: int, attempt: cbw.Context) -> str:
        for step in range(steps):
            attempt.progress(step + 1, steps)
        return "done"

    told: list[cbw.Progress] = []
    with System() as system:
        system.worker(work)
        assert system.call(b"3", returns=str, on_progress=told.append) == "done"
    assert told == [cbw.Progress(1, 3), cbw.Progress(3, 3)], "the second follows too soon, the last is always told"
