"""Which address of a host to connect to.

A name with one address is left to libzmq, which looks it up at each attempt to connect. A name with several addresses, like
that of a Compose service at ``--scale bro=2``, would lead each peer to a random one of them, and clients might find a broker
that has no workers. So all peers use the lowest address that accepts connections.

A look-up may take many seconds if the name server does not answer. So each one runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from cbw.errors import CannotResolve

MOVE_S = 0.1
"""Shortest time in seconds for which an address is tried, so that trying all of them in turn does not keep a core busy."""


class Resolver:
    """The addresses of ``host``, and the one in use.

    A name has no addresses until its first look-up has finished and :meth:`take_answer` was called. ``on_answer`` is called
    in another thread when a look-up has finished.
    """

    def __init__(self, host: str, port: int, on_answer: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._port = port
        self._on_answer = on_answer
        self._chosen = 0
        self._chosen_at = 0.0
        self._answer: list[str] | None = None
        self._is_asking = False
        self.addresses = _literal(host)
        self.is_known = bool(self.addresses)
        """Whether :attr:`endpoint` can be used: ``host`` is an address, or was looked up."""

    @property
    def has_several(self) -> bool:
        """Whether there is more than one address."""
        return len(self.addresses) > 1

    @property
    def endpoint(self) -> str:
        """The address in use, in libzmq's form; the name if it has not several addresses."""
        return endpoint_of(self.addresses[self._chosen] if self.has_several else self._host, self._port)

    @property
    def peers(self) -> set[tuple[str, int]]:
        """Each address of the host, with the port."""
        return {(address, self._port) for address in self.addresses}

    @property
    def is_ipv6(self) -> bool:
        """Whether the addresses are those of IPv6."""
        return any(":" in address for address in self.addresses)

    @property
    def has_answer(self) -> bool:
        """Whether a look-up has finished whose answer was not taken yet."""
        return self._answer is not None

    def look_up(self) -> None:
        """Begin to look the name up, unless a look-up is under way or the host is an address."""
        if self._is_asking or _literal(self._host):
            return
        self._is_asking = True
        try:
            threading.Thread(target=self._ask, name=f"look-up of {self._host}", daemon=True).start()
        except RuntimeError:  # no thread can be started; then libzmq looks the name up, as if it had one address
            self._answer = []
            self._on_answer()

    def take_answer(self, *, is_wanted: bool = True) -> None:
        """Use the lowest address that the last look-up has found, or with ``is_wanted=False`` forget its answer.

        If it has found no address, libzmq goes on looking the name up.
        """
        answer, self._answer = self._answer, None
        self._is_asking = False
        if answer is not None and is_wanted:
            self.is_known = True
            self.addresses = answer
            self._chosen = 0
            self._chosen_at = time.monotonic()

    def use_next(self) -> None:
        """Choose the next address: the one in use refuses connections, or its program does not answer."""
        now = time.monotonic()
        if self.has_several and now - self._chosen_at >= MOVE_S:
            self._chosen = (self._chosen + 1) % len(self.addresses)
            self._chosen_at = now

    def _ask(self) -> None:
        addresses: list[str] = []
        with contextlib.suppress(CannotResolve):
            addresses = resolve(self._host, self._port)
        self._answer = addresses
        self._on_answer()

    def __str__(self) -> str:
        """``172.18.0.3, of bro's 2 addresses``; empty if there are not several."""
        if not self.has_several:
            return ""
        return f"{self.addresses[self._chosen]}, of {self._host}'s {len(self.addresses)} addresses"


def endpoint_of(host: str, port: int) -> str:
    """The form in which libzmq takes host and port: ``tcp://bro:9998``, ``tcp://[::1]:9998``."""
    host = host.strip("[]")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def resolve(host: str, port: int, role: str = "broker") -> list[str]:
    """The addresses of ``host``, lowest first: those of IPv4, or those of IPv6 if it has none of IPv4.

    An address is not looked up. A name may take many seconds.

    Raises:
        CannotResolve: the name is not known, or the name server does not answer.
    """
    if literal := _literal(host):
        return literal
    try:
        found = _look_up(host, port, socket.AF_INET) or _look_up(host, port, socket.AF_UNSPEC)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise CannotResolve(
            f"the {role}'s host {host!r} does not resolve: {reason}",
            advice=f"Check {role.upper()}_HOST, or the host argument.",
        ) from None
    return sorted({str(entry[4][0]) for entry in found}, key=ipaddress.ip_address)


def _literal(host: str) -> list[str]:
    """``host`` itself, if it is an address."""
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        return []


def _look_up(host: str, port: int, family: int) -> list[Any]:
    try:
        return list(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
    except OSError as error:
        if family == socket.AF_UNSPEC or error.errno == socket.EAI_AGAIN:  # do not wait for a silent name server twice
            raise
        return []
