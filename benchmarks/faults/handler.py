"""The handler of every system: it writes down that it has begun, works for 10 ms, writes down that it is done, and answers."""

from __future__ import annotations

import functools
import os
import time

from benchmarks.faults.ledger import LEDGER, WORKER, Ledger

WORK_S = 0.01


def handle(request: str) -> str:
    """Answer ``request`` with text that no other run of a handler has, so that two runs can be told apart by their answers."""
    ledger, worker = _ledger(), os.environ[WORKER]
    who = f"{worker} {os.getpid()}"
    ledger.write("begun", request, who)
    time.sleep(WORK_S)
    ledger.write("done", request, who)
    return f"{request} {worker} {time.monotonic_ns()}"


@functools.cache
def _ledger() -> Ledger:
    return Ledger(os.environ[LEDGER])
