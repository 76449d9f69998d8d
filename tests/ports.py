"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

SERVER_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections (32768 and more), so no client takes one meanwhile."""

_untried = random.sample(SERVER_PORTS, len(SERVER_PORTS))


def free_port() -> int:
    """A port of this machine that was free a moment ago, and that nobody else here was given."""
    while True:
        port = _untried.pop()
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        return port
