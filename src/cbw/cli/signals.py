"""What SIGTERM does to commands that end by themselves."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

import click

from cbw.cli import output
from cbw.language import said
from cbw.signals import end_at_once, handling


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """SIGTERM ends what runs in the context in order, as leaving it does, and the command with exit code 0."""
    try:
        with handling([signal.SIGTERM], _stop, end_at_once):
            yield
    except _StopError:
        output.told(said("stopped"), err=True)
        raise click.exceptions.Exit(0) from None


def ending_on_sigterm() -> contextlib.AbstractContextManager[None]:
    """SIGTERM ends us as Ctrl-C does: by way of everything that is to be stopped."""
    return handling([signal.SIGTERM], _exit, _exit)


class _StopError(BaseException):
    """An exception that nobody between the signal and its context takes for an error."""


def _stop(_number: int) -> None:
    raise _StopError


def _exit(number: int) -> None:
    sys.exit(128 + number)
