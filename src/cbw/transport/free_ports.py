"""Two free ports in a row, found with plain sockets: those of ZeroMQ keep their descriptors for a while after they are closed."""

from __future__ import annotations

import contextlib
import socket

from cbw.transport.resolver import literal

_TRIES = 100
"""Pairs that are tried: a machine on which none of them is free has no ports left."""
_PORT_MAX = 65_535
"""The largest number of a port."""


def free_pair(host: str) -> int:
    """The first of two ports in a row that nobody uses at ``host``, an address of this machine or ``*`` for all of IPv4.

    0 if there are none, or ``host`` is something else: who binds port 0 then is told what is wrong.
    """
    address = next(iter(literal("0.0.0.0" if host == "*" else host)), None)
    if address is None:
        return 0
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(_TRIES):
        with contextlib.suppress(OSError), socket.socket(family) as first, socket.socket(family) as second:
            first.bind((address, 0))
            port: int = first.getsockname()[1]
            if port < _PORT_MAX:
                second.bind((address, port + 1))
                return port
    return 0
