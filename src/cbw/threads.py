"""Threads that take no signals.

Python handles signals in its main thread, which may sleep for long; what wakes it is that the signal interrupts its sleep.
But the system may give a signal to any thread that does not block it: one of several that come at once, or even all of
them. Then nobody would handle it until the main thread runs again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def taking_no_signals() -> Iterator[None]:
    """Threads that are started in here take none."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(work: Callable[[], object], name: str) -> threading.Thread:
    """A daemon thread that takes no signals. Not for users' code: programs that it starts would not take them either."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    with taking_no_signals():
        thread.start()
    return thread
