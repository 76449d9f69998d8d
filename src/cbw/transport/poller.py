"""Waiting until a socket or a descriptor is readable, and ending another thread's wait."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Container
from typing import Any

import zmq

from cbw.errors import MORE_FILES, NotReady

POLL_MAX_S = 0.25
"""Longest wait in seconds. A signal does not end every wait: one that comes just before the system call, or that the system
gives to another thread, is only noted by Python, and handled when the main thread runs again."""
_POLL_MAX_MS = int(POLL_MAX_S * 1000)
_FD_FREE = -1
_MONKEY = "gevent.monkey"
_POLLIN = int(zmq.POLLIN)


class Waker:
    """Ends the wait of the thread that polls it. It is readable from a :meth:`wake` until the next :meth:`clear`.

    Raises:
        NotReady: no descriptors are left.
    """

    def __init__(self) -> None:
        self._fd = _FD_FREE
        try:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as error:
            raise NotReady(f"cannot make a descriptor: {error.strerror}", advice=MORE_FILES) from None

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
        descriptor, self._fd = self._fd, _FD_FREE  # first: a wake must not write to a file that gets the same number
        if descriptor != _FD_FREE:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Poller:
    """Waits until one of its sources is readable: sockets, and the descriptors of wakers and monitors.

    The descriptor of a monitor is readable once for all events that are there, so read a monitor until it is empty.
    """

    def __init__(self, *sources: zmq.Socket[Any] | int) -> None:
        self._items = [(source, _POLLIN) for source in sources]

    def add(self, source: zmq.Socket[Any] | int) -> None:
        """Wait for this source too."""
        self._items.append((source, _POLLIN))

    def remove(self, source: zmq.Socket[Any] | int) -> None:
        """Do not wait for this source any more."""
        self._items.remove((source, _POLLIN))

    def poll(self, timeout_s: float) -> Container[Any]:
        """Wait at most ``timeout_s`` seconds, and at most 0.25 so that signals are handled; returns the ready sources."""
        timeout_ms = _POLL_MAX_MS if timeout_s > POLL_MAX_S else int(timeout_s * 1000) + 1 if timeout_s > 0 else 0
        if _MONKEY in sys.modules and timeout_ms and sys.modules[_MONKEY].is_module_patched("select"):
            return self._poll_with_gevent(timeout_ms)
        return dict(zmq.zmq_poll(self._items, timeout_ms))

    def _poll_with_gevent(self, timeout_ms: int) -> Container[Any]:
        """Wait in a program whose threads are gevent's greenlets: a wait inside of libzmq would stop all of them.

        The descriptor of a socket is readable once for all that has come since libzmq was last asked.
        """
        if ready := zmq.zmq_poll(self._items, 0):
            return dict(ready)
        waiting = select.poll()  # gevent's
        for source, _ in self._items:
            waiting.register(source if isinstance(source, int) else source.FD, select.POLLIN)
        waiting.poll(timeout_ms)
        return dict(zmq.zmq_poll(self._items, 0))


def has_input(socket: zmq.Socket[Any]) -> bool:
    """Whether a message is there. (To read the option ``EVENTS`` takes longer, as pyzmq looks up its type first.)"""
    return bool(zmq.zmq_poll([(socket, _POLLIN)], 0))
