"""Tells objects with sockets and threads that their process was forked.

The child has copies of them, but not their threads, and locks that threads held stay taken for ever. So it must not use
what it has inherited: ``multiprocessing`` forks on Linux, and so do servers that load a program before they start its
workers.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Inheritable(Protocol):
    """Something that a forked process gets a copy of."""

    def inherited(self) -> None:
        """This is the copy. No other thread runs yet."""


_living: weakref.WeakSet[Inheritable] = weakref.WeakSet()


def tell_if_forked(one: Inheritable) -> None:
    """Call ``one.inherited()`` in each process that is forked from this one, as long as ``one`` lives."""
    _living.add(one)


def _tell() -> None:
    for one in list(_living):
        one.inherited()


os.register_at_fork(after_in_child=_tell)
