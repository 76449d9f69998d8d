"""The pools alone, where a whole worker would make the moment hard to hit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.events import TasksFinished
from cbw.worker.handler import Handler
from cbw.worker.pool import AsyncPool, ThreadPool
from cbw.worker.pools import make_pool

from .owner import Owner


async def double(number: int) -> int:
    return 2 * number


def halve(number: int) -> int:
    return number // 2


def task(number: int) -> messages.Task:
    return messages.Task(number, "", b"%d" % number, None, 1)


def test_a_coroutine_that_is_cancelled_before_its_first_step_leaves_its_slot() -> None:
    owner = Owner()
    pool = AsyncPool({"": Handler("", double)}, 1, owner)
    try:
        pool._loop.call_soon_threadsafe(time.sleep, 0.05)  # so that what follows comes in one turn of the loop
        pool.begin([task(1)])
        pool.cancel(1)
        assert [answer.id for answer in owner.next(TasksFinished).answers] == [1]
        pool.begin([task(2)])
        assert owner.next(TasksFinished).answers == [messages.Answer(2, Status.OK, b"4")]
    finally:
        pool.close()


class WatchError(Exception):
    """Of a trace that breaks."""


def watch_badly(task: messages.Task, answer: messages.Answer | None) -> None:
    raise WatchError


@pytest.mark.parametrize(("kind", "handler"), [(ThreadPool, halve), (AsyncPool, double)])
def test_an_error_in_a_thread_of_a_pool_is_told_its_owner(
    kind: type[ThreadPool] | type[AsyncPool], handler: Callable[..., Any]
) -> None:
    """If it ended the thread in silence, its tasks would wait for ever."""
    owner = Owner()
    pool = kind({"": Handler("", handler)}, 1, owner, watch_badly)
    try:
        pool.begin([task(1)])
        assert isinstance(owner.failure(), WatchError)
    finally:
        pool.close()


# --- how long handlers take

TOOK_S = 0.1


def sleep(number: int) -> int:
    time.sleep(TOOK_S)
    return number


async def sleep_async(number: int) -> int:
    await asyncio.sleep(TOOK_S)
    return number


def sleep_and_fail(number: int) -> int:
    time.sleep(TOOK_S)
    raise ValueError


def sleep_between_parts(number: int) -> Iterator[int]:
    yield number
    time.sleep(TOOK_S)
    yield number


async def sleep_between_parts_async(number: int) -> AsyncIterator[int]:
    yield number
    await asyncio.sleep(TOOK_S)
    yield number


def sleep_for_all(numbers: list[int]) -> list[int]:
    time.sleep(TOOK_S)
    return numbers


async def sleep_for_all_async(numbers: list[int]) -> list[int]:
    return sleep_for_all(numbers)


def took(owner: Owner, calls: int) -> dict[str, list[float]]:
    """What the pool tells of so many calls, by service."""
    found: dict[str, list[float]] = {}
    while sum(map(len, found.values())) < calls:
        for service, seconds in owner.next(TasksFinished).took.items():
            found.setdefault(service, []).extend(seconds)
    return found


@pytest.mark.parametrize(
    "function", [sleep, sleep_async, sleep_and_fail, sleep_between_parts, sleep_between_parts_async]
)
def test_how_long_each_handler_took_is_told_by_service(function: Callable[..., Any]) -> None:
    """How long its task waited for another one does not count: together they have not taken longer than there was time."""
    owner = Owner()
    quick = double if Handler("", function).is_async else halve
    pool = make_pool({"slow": Handler("slow", function), "quick": Handler("quick", quick)}, 1, owner)
    try:
        begun_at = time.monotonic()
        pool.begin(
            [messages.Task(number, name, b"1", None, 1) for number, name in enumerate(("slow", "quick", "slow"))]
        )
        found = took(owner, 3)
        together_s = time.monotonic() - begun_at
        assert {name: len(seconds) for name, seconds in found.items()} == {"slow": 2, "quick": 1}
        assert all(seconds >= TOOK_S for seconds in found["slow"])
        assert sum(found["slow"] + found["quick"]) <= together_s
    finally:
        pool.close()


def test_a_stream_takes_until_its_last_part() -> None:
    owner = Owner()
    pool = make_pool({"s": Handler("s", sleep_between_parts)}, 1, owner)
    try:
        pool.begin([messages.StreamTask(1, "s", b"1", None, 1, parts=8)])
        (seconds,) = took(owner, 1)["s"]
        assert seconds >= TOOK_S
    finally:
        pool.close()


@pytest.mark.parametrize("function", [sleep_for_all, sleep_for_all_async])
def test_of_a_batch_each_call_counts_once(function: Callable[..., Any]) -> None:
    owner = Owner()
    pool = make_pool({"s": Handler("s", function, batch=4)}, 4, owner)
    try:
        pool.begin([messages.Task(number, "s", b"1", None, 1) for number in range(4)])
        finished = owner.next(TasksFinished)
        assert len(finished.answers) == 4
        assert len(finished.took["s"]) == 1 and finished.took["s"][0] >= TOOK_S
    finally:
        pool.close()


def test_what_never_ran_took_no_time() -> None:
    owner, is_over = Owner(), threading.Event()
    pool = ThreadPool({"s": Handler("s", lambda: is_over.wait())}, 1, owner)
    try:
        pool.begin([messages.Task(number, "s", b"", None, 1) for number in (1, 2)])
        pool.cancel(2)
        cancelled = owner.next(TasksFinished)
        assert [answer.id for answer in cancelled.answers] == [2] and cancelled.took == {}
    finally:
        is_over.set()
        pool.close()
