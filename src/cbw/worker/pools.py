"""Which pool runs which handlers."""

from __future__ import annotations

from collections.abc import Mapping

from cbw.worker.batch_pool import BatchPool
from cbw.worker.event_loop import LoopThread
from cbw.worker.handler import Handler
from cbw.worker.pool import AsyncPool, Owner, ThreadPool, Watch


def make_pool(
    handlers: Mapping[str, Handler],
    concurrency: int,
    owner: Owner,
    watch: Watch | None = None,
    on_failed: Watch | None = None,
    loop_thread: LoopThread | None = None,
) -> ThreadPool | AsyncPool | BatchPool:
    """The pool for ``handlers``, which runs ``concurrency`` requests at once: an event loop if they are async, that of
    ``loop_thread`` if there is one; threads if not. One that takes batches is alone. ``on_failed`` is told of failures only.
    """
    first = next(iter(handlers.values()))
    if first.batch is not None:
        return BatchPool(first, concurrency // first.batch, owner, watch, on_failed, loop_thread)
    if all(handler.is_async for handler in handlers.values()):
        return AsyncPool(handlers, concurrency, owner, watch, on_failed, loop_thread)
    return ThreadPool(handlers, concurrency, owner, watch, on_failed)
