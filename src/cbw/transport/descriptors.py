"""Whether a process that serves connections has file descriptors for new ones, and what becomes of those for which it has none.

Without one, libzmq tries to accept a connection again and again, in silence: whoever connects waits, nobody knows why, and it
takes 0.6 of a processor. (To close the ports meanwhile would be worse: libzmq ends the connections of a port with it.) So a role
keeps some descriptors free, and hangs up on a new connection that has got one of these.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import resource
import socket
from collections.abc import Callable, Iterable

from cbw.errors import MORE_FILES

LOOK_S = 1.0
"""Time in seconds between two looks, so the longest for which descriptors may be out unnoticed. A look takes some 10 µs."""
SPARE_DESCRIPTORS = 8
"""Descriptors that no peer gets: a role opens a few files itself, such as those of its journal or its log."""
TOLD_AGAIN_S = 60.0
"""Shortest time in seconds after which it is told again that descriptors are out: somebody may connect again and again."""


class DescriptorWatch:
    """Calls ``tell`` with a text when no descriptor is left for peers, and when there are some again.

    Call :meth:`look` when ``look_at`` has come.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.look_at = 0.0
        self._tell = tell
        self._is_out = False  # as was told last
        self._quiet_until = 0.0

    def look(self, now: float) -> None:
        """See whether files can be opened."""
        self.look_at = now + LOOK_S
        if self._is_out:
            if has_free(2 * SPARE_DESCRIPTORS):
                self._is_out = False
                self._tell("file descriptors are free: new connections are taken again")
        elif now >= self._quiet_until and not has_free(SPARE_DESCRIPTORS + 1):
            self._is_out = True
            self._quiet_until = now + TOLD_AGAIN_S
            self._tell(f"no file descriptors are left: no new connection is taken. {MORE_FILES}")


def is_spare(descriptor: int) -> bool:
    """Whether a descriptor that was just given is one of the last: the kernel gives the lowest number that is free."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and descriptor >= limit - SPARE_DESCRIPTORS


def comes_from_here(descriptor: int) -> bool:
    """Whether both ends of a connection are on one machine, or in one container: they have one address, or a loopback one."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            address = str(copy.getpeername()[0]).removeprefix("::ffff:")
            return ipaddress.ip_address(address).is_loopback or address == str(copy.getsockname()[0]).removeprefix(
                "::ffff:"
            )
    except (OSError, ValueError, IndexError):
        return False


def cut_off(descriptors: Iterable[int]) -> None:
    """End these connections, which libzmq notices at once. It may have closed one meanwhile: then nothing happens, or another
    connection of this process has the number now, and its peer connects again. Needs no other descriptor.
    """
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            connection = socket.socket(fileno=descriptor)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()


def has_free(count: int) -> bool:
    """Whether this process could open ``count`` files now."""
    found: list[int] = []
    try:
        while len(found) < count:
            found.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in found:
            os.close(descriptor)
    return True
