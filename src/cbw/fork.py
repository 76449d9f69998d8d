"""Tells objects with sockets and threads that their process was forked.

The child has copies of them, but not their threads, and locks that threads held stay taken for ever. So it must not use
what it has inherited: ``multiprocessing`` forks on Linux, and so do servers that load a program before they start its
workers.
"""

from __future__ import annotations

import os
import socket
import stat
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Protocol


class Inheritable(Protocol):
    """Something that a forked process gets a copy of."""

    def inherited(self) -> None:
        """This is the copy. No other thread runs yet."""


_living: weakref.WeakSet[Inheritable] = weakref.WeakSet()


def tell_if_forked(one: Inheritable) -> None:
    """Call ``one.inherited()`` in each process that is forked from this one, as long as ``one`` lives."""
    _living.add(one)


def let_go(peers: Collection[tuple[str, int]]) -> None:
    """Close this process's copies of all connections to ``peers``, each an address and a port.

    As long as one is open the peer does not notice that the parent has died. Of libzmq's sockets nothing else may be touched
    in a child.
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
            pass  # it is closed, or not connected


def _tell() -> None:
    for one in list(_living):
        one.inherited()


os.register_at_fork(after_in_child=_tell)
