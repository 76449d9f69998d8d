"""What SIGTERM and Ctrl-C do to a command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import click

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_WISH_S = 0.5
"""A signal that comes sooner after the first is no second wish: `timeout`, shells and service managers tell a process, and
tell it once more with its group."""


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
    return handling(STOP_SIGNALS, lambda _number: role.stop(), _end_at_once)


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """SIGTERM ends what runs in the context in order, as leaving it does, and the command with exit code 0."""
    try:
        with handling([signal.SIGTERM], _stop, _end_at_once):
            yield
    except _StopError:
        click.echo("stopped", err=True)
        raise click.exceptions.Exit(0) from None


def ending_on_sigterm() -> contextlib.AbstractContextManager[None]:
    """SIGTERM ends us as Ctrl-C does: by way of everything that is to be stopped."""
    return handling([signal.SIGTERM], _exit, _exit)


class _StopError(BaseException):
    """So that nobody between the signal and its context takes it for an error."""


def _stop(_number: int) -> None:
    raise _StopError


def _exit(number: int) -> None:
    sys.exit(128 + number)


def _end_at_once(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(128 + number)  # the first process of a container outlives its signals
