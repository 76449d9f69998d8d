"""The handler of the workers that ``cbw verify`` starts: it records which request it begins, and when it has done it.

A worker's own ``--trace`` knows task numbers only. Which request a task belongs to is in the broker's trace, which may be
out of reach.
"""

from __future__ import annotations

import os
import time
from functools import cache

from cbw.contract.context import Context
from cbw.core import catalogue
from cbw.core.record import Record
from cbw.observe.trace import Trace

WORKER_VARIABLE = "CBW_VERIFY_WORKER"
"""Environment variable with the worker's id."""
TRACE_VARIABLE = "CBW_VERIFY_TRACE"
"""Environment variable with the file to record in."""


@cache
def _trace() -> Trace:
    return Trace(os.environ[TRACE_VARIABLE], is_printing=False)


def serve(body: bytes, context: Context) -> bytes:
    """Serve a request ``<request> <seconds>``: take that long, then answer ``<request> <seconds> <worker>``."""
    worker = os.environ[WORKER_VARIABLE]
    request, _, seconds = body.decode().partition(" ")

    def note(event: catalogue.EventName) -> None:
        record = Record(
            time.monotonic(),
            event,
            role="worker",
            sender=worker,
            request=request,
            service=context.service,
            worker=worker,
            task=context.task,
            attempt=context.attempt,
        )
        _trace().write([record])

    note(catalogue.BEGUN)
    time.sleep(float(seconds))
    note(catalogue.DONE)
    return body + b" " + worker.encode()
