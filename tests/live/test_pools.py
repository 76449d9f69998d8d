"""The pools alone, where a whole worker would make the moment hard to hit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.events import TasksFinished
from cbw.worker.handler import Handler
from cbw.worker.pool import AsyncPool, ThreadPool

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
    """And does not end that thread in silence, after which its tasks would wait for ever."""
    owner = Owner()
    pool = kind({"": Handler("", handler)}, 1, owner, watch_badly)
    try:
        pool.begin([task(1)])
        assert isinstance(owner.failure(), WatchError)
    finally:
        pool.close()
