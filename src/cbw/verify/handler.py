"""The handler of the workers that ``cbw verify`` starts: it records which request it begins, and when it has done it.

A worker's own ``--trace`` knows tasks only. What request a task belongs to is in the broker's trace, which need not be here.
"""

from __future__ import annotations

import os
import time
from functools import cache

from cbw.core.events import Record
from cbw.handler import Attempt
from cbw.trace import Trace

WORKER = "CBW_VERIFY_WORKER"
TRACE = "CBW_VERIFY_TRACE"


@cache
def _trace() -> Trace:
    return Trace(os.environ[TRACE], is_printing=False)


def serve(body: bytes, attempt: Attempt) -> bytes:
    """``<request> <seconds>``: work so long, and answer ``<request> <seconds> <worker>``."""
    worker = os.environ[WORKER]
    request, _, seconds = body.decode().partition(" ")

    def note(event: str) -> None:
        record = Record(time.monotonic(), event, "worker", worker, request, "", attempt.service, worker, attempt.task)
        record.attempt = attempt.number
        _trace().write([record])

    note("begun")
    time.sleep(float(seconds))
    note("done")
    return body + b" " + worker.encode()
