"""The handler of ``cbw worker`` without ``--handler``: the worker of the lab."""

from __future__ import annotations

import contextlib
import sys
import time

from cbw.clock import stamp
from cbw.visible import visible


class Demonstration:
    """Takes ``work_time_s`` seconds for a request, prints that it begins, and answers ``<request> <name>``."""

    def __init__(self, name: str, work_time_s: float) -> None:
        self._name = name
        self._work_time_s = work_time_s

    def __call__(self, message: bytes) -> bytes:
        with contextlib.suppress(OSError):  # nobody reads what is printed; the client still gets its answer
            # One write: a line stays whole though other threads print.
            text = visible(message.decode(errors="backslashreplace").rstrip())
            sys.stdout.write(f"{stamp()}{self._name} begins {text}\n")
            sys.stdout.flush()
        if self._work_time_s:
            time.sleep(self._work_time_s)
        return message + b" " + self._name.encode()
