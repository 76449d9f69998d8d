"""The client of every system: it asks all requests, and then collects the answers, until it is told to stop.

It prints ``asked`` when every request was handed over. Every line that it reads on standard input is a command: the only one,
``again``, makes it look once more for the answers that it has, print ``again``, and end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Protocol

from benchmarks.faults.ledger import LEDGER, Ledger

PAUSE_S = 0.02
"""Between two looks for answers: what a poll adds to the seconds that are measured, at most."""
LOOKED_AT = 100
"""Answers that are looked for at a time, those of the oldest requests: looking for all 1,000 would keep a peer's server busy."""


class RequestFailed(Exception):
    """The system has told its client that a request has ended without an answer."""


class Asker(Protocol):
    """A client of some system. Any error but :class:`RequestFailed` means that the system cannot be reached just now."""

    def ask(self, request: str) -> object:
        """Hand a request over, and return what finds its answer. Returns when the system has accepted it."""

    def answer_of(self, handle: object) -> str | None:
        """The answer of a request, or None if there is none yet. It does not wait."""


def run(asker: Asker) -> None:
    """Ask as many requests as the first argument says after ``client``, and collect."""
    ledger = Ledger(os.environ[LEDGER])
    handles: dict[str, object] = {}
    for number in range(int(sys.argv[2])):
        request = str(number)
        handles[request] = asker.ask(request)
        ledger.write("asked", request, "")
    print("asked", flush=True)
    is_over = threading.Event()
    threading.Thread(target=_await_command, args=(is_over,), daemon=True).start()
    answers: dict[str, str] = {}
    pending = dict(handles)
    while not is_over.is_set():
        answers |= _collect(asker, pending, ledger)
        time.sleep(PAUSE_S)
    for request, answer in answers.items():
        if asker.answer_of(handles[request]) not in (answer, None):
            ledger.write("answered", request, "with another answer")
    print("again", flush=True)


def _await_command(is_over: threading.Event) -> None:
    sys.stdin.readline()
    is_over.set()


def _collect(asker: Asker, pending: dict[str, object], ledger: Ledger) -> dict[str, str]:
    """Look once for answers, and take those that are there out of ``pending``."""
    found: dict[str, str] = {}
    for request in list(pending)[:LOOKED_AT]:
        try:
            answer = asker.answer_of(pending[request])
        except RequestFailed as error:
            ledger.write("failed", request, str(error))
            del pending[request]
        except Exception as error:
            print(f"cannot look for answers: {error!r}", file=sys.stderr, flush=True)
            break
        else:
            if answer is not None:
                ledger.write("answered", request, answer)
                found[request] = answer
                del pending[request]
    return found
