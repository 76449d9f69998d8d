"""How a role waits for news of its sockets, and how others end its wait."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from typing import Any

import zmq

from cbw.errors import MORE_FILES, NotReady

SLEEP_MAX_S = 0.25
"""Nobody sleeps longer at once, as not every signal ends a sleep: Python only notes one that comes just before the system call,
or that the system gives to another thread, and handles it when the main thread runs again."""
_SLEEP_MAX_MS = int(SLEEP_MAX_S * 1000)
_FD_FREE = -1
_POLLIN = int(zmq.POLLIN)


class Waker:
    """Ends another thread's wait, or one's own from a signal handler. Readable while somebody has called :meth:`wake`.

    Raises:
        NotReady: no descriptors are left.
    """

    def __init__(self) -> None:
        self._fd = _FD_FREE
        try:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as error:
            raise NotReady(f"no descriptor is to be had: {error.strerror}", advice=MORE_FILES) from None

    def fileno(self) -> int:
        return self._fd

    def wake(self) -> None:
        """End the wait; safe from any thread and from signal handlers."""
        descriptor = self._fd
        if descriptor != _FD_FREE:
            with contextlib.suppress(OSError):  # it is being closed
                os.eventfd_write(descriptor, 1)

    def clear(self) -> None:
        """Forget all calls of :meth:`wake` until now."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        descriptor, self._fd = self._fd, _FD_FREE  # first: whoever wakes us now must not write to the next that has it
        if descriptor != _FD_FREE:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Sleeper:
    """Waits for sockets and for file descriptors: those of wakers and of monitors.

    A monitor's descriptor says once that there is news, so read a monitor to its end.
    """

    def __init__(self, *sources: zmq.Socket[Any] | int) -> None:
        self._items = [(source, _POLLIN) for source in sources]

    def add(self, source: zmq.Socket[Any] | int) -> None:
        """Wake for this one too."""
        self._items.append((source, _POLLIN))

    def remove(self, source: zmq.Socket[Any] | int) -> None:
        """Do not wake for this one any more."""
        self._items.remove((source, _POLLIN))

    def sleep(self, timeout_s: float) -> Container[Any]:
        """Sleep until there is news, at most ``timeout_s`` seconds, and not longer than a signal may wait; from which sources."""
        timeout_ms = _SLEEP_MAX_MS if timeout_s > SLEEP_MAX_S else int(timeout_s * 1000) + 1 if timeout_s > 0 else 0
        return dict(zmq.zmq_poll(self._items, timeout_ms))


def has_input(socket: zmq.Socket[Any]) -> bool:
    """Whether a message is there. (A question for ``EVENTS`` costs Python more, as pyzmq looks its type up first.)"""
    return bool(zmq.zmq_poll([(socket, _POLLIN)], 0))
