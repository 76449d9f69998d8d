"""Where a peer is: a name, its addresses, and which of them to use.

A name with one address is left to libzmq, which resolves it anew at each attempt. One with several, like that of a Compose
service at ``--scale bro=2``, would send everybody to a random one of them, and clients might meet no worker. So all use the
lowest that takes connections, and meet.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from typing import Any

from cbw.errors import CannotResolve

MOVE_S = 0.1
"""No address is given up sooner than this after it was chosen, so that trying all in turn does not keep a core busy."""


class Place:
    """The addresses of ``host``, and the one in use."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._chosen = 0
        self._chosen_at = 0.0
        self.addresses: list[str] = []
        self.look()

    @property
    def is_several(self) -> bool:
        """Whether there is a choice."""
        return len(self.addresses) > 1

    @property
    def endpoint(self) -> str:
        """What to connect to: the address in use, or the name if there is no choice."""
        return endpoint_of(self.addresses[self._chosen] if self.is_several else self._host, self._port)

    @property
    def peers(self) -> set[tuple[str, int]]:
        """Where connections to it may lead: addresses and ports."""
        return {(address, self._port) for address in self.addresses}

    @property
    def is_ipv6(self) -> bool:
        """Whether its addresses are of IPv6."""
        return any(":" in address for address in self.addresses)

    def look(self) -> None:
        """Look the name up anew and choose its lowest address. It may mean nothing yet: then libzmq tries on."""
        self.addresses = []
        with contextlib.suppress(CannotResolve):
            self.addresses = resolve(self._host, self._port)
        self._chosen = 0
        self._chosen_at = time.monotonic()

    def failed(self) -> None:
        """The address in use takes no connection, or nobody there speaks: choose the next."""
        now = time.monotonic()
        if self.is_several and now - self._chosen_at >= MOVE_S:
            self._chosen = (self._chosen + 1) % len(self.addresses)
            self._chosen_at = now

    def __str__(self) -> str:
        """``172.18.0.3, of bro's 2 addresses``; empty if there is no choice."""
        if not self.is_several:
            return ""
        return f"{self.addresses[self._chosen]}, of {self._host}'s {len(self.addresses)} addresses"


def endpoint_of(host: str, port: int) -> str:
    """What libzmq calls it: ``tcp://bro:9998``, ``tcp://[::1]:9998``."""
    host = host.strip("[]")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def resolve(host: str, port: int, role: str = "broker") -> list[str]:
    """The addresses of ``host``, lowest first: of IPv4, or of IPv6 if it has none of these; of what is an address, itself.

    Raises:
        CannotResolve: the name means nothing here, or the name server does not answer.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host.strip("[]")))]
    try:
        found = _look_up(host, port, socket.AF_INET) or _look_up(host, port, socket.AF_UNSPEC)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise CannotResolve(
            f"the {role}'s host {host!r} does not resolve: {reason}",
            advice=f"Check {role.upper()}_HOST, or the host argument.",
        ) from None
    return sorted({str(entry[4][0]) for entry in found}, key=ipaddress.ip_address)


def _look_up(host: str, port: int, family: int) -> list[Any]:
    try:
        return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
    except OSError as error:
        if family == socket.AF_UNSPEC or error.errno == socket.EAI_AGAIN:  # a name server that is silent is asked once
            raise
        return []
