"""The pools alone, where a whole worker would make the moment hard to hit."""

from __future__ import annotations

import queue
import time

from cbw.core import messages as m
from cbw.core.messages import Status
from cbw.handler import Handler
from cbw.pool import AsyncPool, Done

from .program import PATIENCE_S


async def double(number: int) -> int:
    return 2 * number


def task(number: int) -> m.Task:
    return m.Task(number, "", b"%d" % number, None, 1)


def test_a_coroutine_that_is_cancelled_before_its_first_step_leaves_its_slot() -> None:
    done: Done = queue.SimpleQueue()
    pool = AsyncPool({"": Handler("", double)}, 1, done, lambda: None)
    try:
        pool._loop.call_soon_threadsafe(time.sleep, 0.05)  # so that what follows comes in one turn of the loop
        pool.begin([task(1)])
        pool.cancel(1)
        assert [answer.id for answer in done.get(timeout=PATIENCE_S).answers] == [1]
        pool.begin([task(2)])
        assert done.get(timeout=PATIENCE_S).answers == [m.Answer(2, Status.OK, b"4")]
    finally:
        pool.close()
