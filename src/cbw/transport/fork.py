"""Tells objects that have sockets, threads and locks that they are copies in a forked process.

The child has none of the parent's threads, and a lock that one of these held stays locked for ever. So it must not use what
it has inherited. ``multiprocessing`` forks on Linux, and so do servers that load a program before they start its workers.
"""

from __future__ import annotations

import os
import socket
import stat
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class AfterFork(Protocol):
    """An object that must not be used in a forked process as it is."""

    def after_fork_in_child(self) -> None:
        """Called in the child, on its copy of the object, before anything else runs there."""


_registered: weakref.WeakSet[AfterFork] = weakref.WeakSet()


def call_after_fork(one: AfterFork) -> None:
    """Call ``one.after_fork_in_child()`` in each process that is forked from this one, as long as ``one`` exists."""
    _registered.add(one)


def close_inherited_connections(peers: Collection[tuple[str, int]]) -> None:
    """Close this process's copies of all connections to ``peers``, each an address and a port.

    While such a copy is open, the peer does not notice that the parent has died. Nothing else of libzmq's sockets may be
    touched in a child.
    """
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.fromfd(descriptor, -1, -1) as copy:
                is_peer = copy.getpeername()[:2] in peers
            if is_peer:
                os.close(descriptor)
        except OSError:
            pass  # the descriptor is closed, or its socket not connected


def _tell_registered() -> None:
    for one in list(_registered):
        one.after_fork_in_child()


os.register_at_fork(after_in_child=_tell_registered)
