"""What SIGTERM and Ctrl-C do to a role: the first one asks it to stop, a second one ends its process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_WISH_S = 0.5
"""Signals within this many seconds after the first count as one with it: `timeout`, shells and service managers signal a
process, and then once more together with its process group."""
_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


class Stoppable(Protocol):
    """A role that can be asked to end."""

    def stop(self) -> None:
        """Finish what runs, then end. Called by signal handlers."""


@contextlib.contextmanager
def handling(
    numbers: Sequence[signal.Signals], first: Callable[[int], None], again: Callable[[int], None]
) -> Iterator[None]:
    """Call ``first`` with the first of these signals, and ``again`` with each that comes later than :data:`SAME_WISH_S`.

    Our images start every command with SIGTERM blocked, and it is unblocked here. The first process of a container ignores a
    signal for which it has no handler yet, and ``docker stop`` would wait in vain; a signal that is blocked waits instead.
    """
    asked_at: float | None = None

    def handle(number: int, _frame: object) -> None:
        nonlocal asked_at
        if asked_at is None:
            asked_at = time.monotonic()
            first(number)
        elif time.monotonic() - asked_at >= SAME_WISH_S:
            again(number)

    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def reopening(reopen: Callable[[], None]) -> Iterator[None]:
    """In this context SIGHUP calls ``reopen``, as logrotate wants after it has moved files, and does not end the process."""
    previous = signal.signal(signal.SIGHUP, lambda _number, _frame: reopen())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, previous)


def stopping(role: Stoppable) -> contextlib.AbstractContextManager[None]:
    """In this context SIGTERM and Ctrl-C ask ``role`` to stop; a second one ends the process at once."""
    return handling(STOP_SIGNALS, lambda _number: role.stop(), end_at_once)


def stopping_unless_handled(role: Stoppable) -> contextlib.AbstractContextManager[None]:
    """Have the stop signals stop ``role``, as long as the context lasts, unless the program has handlers of its own for them.

    Outside of the main thread, the only one that can set handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        return contextlib.nullcontext()
    if any(signal.getsignal(number) not in _UNHANDLED for number in STOP_SIGNALS):
        return contextlib.nullcontext()
    return stopping(role)


def end_at_once(number: int) -> None:
    """End this process as the signal does if no handler is set."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # the first process of a container is not ended by signals


def end_of(code: int | None) -> str:
    """How a process ended, in words. ``code`` is its exit code, or the negative number of the signal that ended it."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with {code}"
