"""What SIGTERM and Ctrl-C do to a role: the first asks it to stop, a second wish ends its process. And what has ended one."""

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
"""A signal that comes sooner after the first is no second wish: `timeout`, shells and service managers tell a process, and
tell it once more with its group."""
_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)


class Stoppable(Protocol):
    """A role that can be asked to end."""

    def stop(self) -> None:
        """Finish what runs and end."""


@contextlib.contextmanager
def handling(
    numbers: Sequence[signal.Signals], first: Callable[[int], None], again: Callable[[int], None]
) -> Iterator[None]:
    """``first`` is called with the first of these signals that comes, ``again`` with each later wish.

    Our images start every role with SIGTERM blocked. The first process of a container would ignore one that came before its
    handler was there, and docker stop would wait for nothing; a blocked one waits, and is taken here.
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


def stopping(role: Stoppable) -> contextlib.AbstractContextManager[None]:
    """SIGTERM and Ctrl-C ask ``role`` to stop; a second wish ends the process at once."""
    return handling(STOP_SIGNALS, lambda _number: role.stop(), end_at_once)


def stopping_unless_handled(role: Stoppable) -> contextlib.AbstractContextManager[None]:
    """The same, unless the program has handlers of its own, or this is not its main thread, where there can be none."""
    if threading.current_thread() is not threading.main_thread():
        return contextlib.nullcontext()
    if any(signal.getsignal(number) not in _UNHANDLED for number in STOP_SIGNALS):
        return contextlib.nullcontext()
    return stopping(role)


def end_at_once(number: int) -> None:
    """End this process as the signal would if nobody handled it."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # the first process of a container outlives its signals


def end_of(code: int | None) -> str:
    """How a process ended, by its exit code: negative, if a signal has ended it."""
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with {code}"
