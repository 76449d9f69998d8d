"""The handler of the workers that ``cbw verify`` starts: it says in a trace what it begins and what it has done."""

from __future__ import annotations

import os
import time

from cbw.core.events import Record
from cbw.trace import Trace

WORKER = "CBW_VERIFY_WORKER"
TRACE = "CBW_VERIFY_TRACE"
_trace: Trace | None = None


def serve(body: bytes) -> bytes:
    """``<request> <seconds>``: work so long, and answer ``<request> <seconds> <worker>``."""
    global _trace
    if _trace is None:
        _trace = Trace(os.environ[TRACE], is_printing=False)
    worker = os.environ[WORKER]
    request, _, seconds = body.decode().partition(" ")
    _trace.write([Record(time.monotonic(), "begun", "worker", worker, request, worker=worker)])
    time.sleep(float(seconds))
    _trace.write([Record(time.monotonic(), "done", "worker", worker, request, worker=worker)])
    return body + b" " + worker.encode()
