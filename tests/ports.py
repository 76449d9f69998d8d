"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

SERVER_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections (32768 and more), so no client takes one meanwhile."""

_untried = random.sample(SERVER_PORTS, len(SERVER_PORTS))
_claims: list[socket.socket] = []


def free_port() -> int:
    """A port of this machine that was free a moment ago, and that no other test is given, in whichever process it runs."""
    while True:
        port = _untried.pop()
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0cbw-test-port-{port}")  # an abstract name, which is free again when this process has ended
            socket.create_server(("", port)).close()
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port
