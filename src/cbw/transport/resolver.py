"""Which of several addresses to connect to.

A name with one address is left to libzmq, which looks it up at each attempt to connect. A name with several addresses, like
that of a Compose service at ``--scale bro=3``, is looked up here, as libzmq would take a random one of them. Peers that are to
spread over them have an order of their own each; others use the lowest first. All move on to the next when one refuses
connections or does not answer.

A look-up may take many seconds if the name server does not answer. So each one runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from cbw.addresses import Address
from cbw.errors import CannotResolve, UsageError

MOVE_S = 0.1
"""Shortest time in seconds for which an address is tried, so that trying all of them in turn does not keep a core busy."""
_HOST = re.compile(r"[a-zA-Z0-9:\[][\w.:%\[\]-]*", re.ASCII)
"""The hosts that libzmq accepts (``socket_base_t::connect_internal``). It would refuse others only when told to connect."""


class Resolver:
    """The addresses of ``hosts``, and the one in use.

    A name has no addresses until its first look-up has finished and :meth:`take_answer` was called. ``on_answer`` is called
    in another thread when a look-up has finished. With ``spread_by``, which is different for each peer, the order of the
    addresses is that of a rendezvous hash: it changes little when one comes or goes.

    Raises:
        UsageError: one of ``hosts`` cannot be a host.
    """

    def __init__(
        self, hosts: Sequence[Address], on_answer: Callable[[], None] = lambda: None, *, spread_by: str = ""
    ) -> None:
        self._hosts = [require_host(*host) for host in hosts]
        self._names = [host for host in hosts if not literal(host[0])]
        self._spread_by = spread_by
        self._on_answer = on_answer
        self._chosen = 0
        self._chosen_at = 0.0
        self._found: dict[Address, list[str]] = {}  # of names that have several addresses
        self._answer: dict[Address, list[str]] | None = None
        self._is_asking = False
        self.addresses = self._in_order()
        self.is_known = not self._names
        """Whether :attr:`endpoint` can be used: all ``hosts`` are addresses, or were looked up."""

    @property
    def has_several(self) -> bool:
        """Whether there is more than one address."""
        return len(self.addresses) > 1

    @property
    def endpoint(self) -> str:
        """The address in use, in libzmq's form; the name if it has not several addresses."""
        return endpoint_of(*self.addresses[self._chosen])

    @property
    def peers(self) -> set[Address]:
        """Each address of the hosts that is known, with its port."""
        return {address for address in self.addresses if literal(address[0])}.union(
            (found, port) for (_, port), all_found in self._found.items() for found in all_found
        )

    @property
    def is_ipv6(self) -> bool:
        """Whether the address in use is one of IPv6, or may be."""
        address = self.addresses[self._chosen]
        return any(":" in each for each in (address[0], *self._found.get(address, ())))

    @property
    def has_answer(self) -> bool:
        """Whether a look-up has finished whose answer was not taken yet."""
        return self._answer is not None

    def look_up(self) -> None:
        """Begin to look the names up, unless a look-up is under way or all hosts are addresses."""
        if self._is_asking or not self._names:
            return
        self._is_asking = True
        try:
            threading.Thread(target=self._ask, name=f"look-up of {self._names[0][0]}", daemon=True).start()
        except (
            RuntimeError
        ):  # no thread can be started; then libzmq looks the names up, as if they had one address each
            self._answer = {}
            self._on_answer()

    def take_answer(self, *, is_wanted: bool = True) -> None:
        """Use the first of the addresses that the last look-up has found, or with ``is_wanted=False`` forget its answer.

        Names for which it has found no address are left to libzmq.
        """
        answer, self._answer = self._answer, None
        self._is_asking = False
        if answer is not None and is_wanted:
            self.is_known = True
            self._found = answer
            self.addresses = self._in_order()
            self._chosen = 0
            self._chosen_at = time.monotonic()

    def use_next(self) -> None:
        """Choose the next address: the one in use refuses connections, or its program does not answer."""
        now = time.monotonic()
        if self.has_several and now - self._chosen_at >= MOVE_S:
            self._chosen = (self._chosen + 1) % len(self.addresses)
            self._chosen_at = now

    def _in_order(self) -> list[Address]:
        addresses: dict[Address, None] = {}
        for host, port in self._hosts:
            found = self._found.get((host, port), [])
            addresses.update({(each, port): None for each in (found if len(found) > 1 else [host])})
        return sorted(addresses, key=self._preference) if self._spread_by else list(addresses)

    def _preference(self, address: Address) -> bytes:
        """Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996: each peer ranks all addresses."""
        return hashlib.blake2b(f"{self._spread_by} {endpoint_of(*address)}".encode(), digest_size=8).digest()

    def _ask(self) -> None:
        found: dict[Address, list[str]] = {}
        for host, port in self._names:
            with contextlib.suppress(CannotResolve):
                found[host, port] = resolve(host, port)
        self._answer = found
        self._on_answer()

    def __str__(self) -> str:
        """``172.18.0.3, of bro's 2 addresses``, or ``a:9998, of 2 brokers``; empty if there are not several."""
        if not self.has_several:
            return ""
        host, port = self.addresses[self._chosen]
        if len(self._hosts) == 1:
            return f"{host}, of {self._hosts[0][0]}'s {len(self.addresses)} addresses"
        return f"{place_of(host, port)}, of {len(self.addresses)} brokers"


def require_host(host: str, port: int) -> Address:
    """``(host, port)``, if libzmq can connect to it.

    Raises:
        UsageError: it cannot.
    """
    if not _HOST.fullmatch(host):
        raise UsageError(f"{endpoint_of(host, port)!r} is no address: not a host name")
    return host, port


def place_of(host: str, port: int) -> str:
    """The form in which people write host and port: ``bro:9998``, ``[::1]:9998``."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_of(host: str, port: int) -> str:
    """The form in which libzmq takes host and port: ``tcp://bro:9998``, ``tcp://[::1]:9998``."""
    return f"tcp://{place_of(host, port)}"


def resolve(host: str, port: int, role: str = "broker") -> list[str]:
    """The addresses of ``host``, lowest first: those of IPv4, or those of IPv6 if it has none of IPv4.

    An address is not looked up. A name may take many seconds.

    Raises:
        CannotResolve: the name is not known, or the name server does not answer.
    """
    if found := literal(host):
        return found
    try:
        found = _look_up(host, port, socket.AF_INET) or _look_up(host, port, socket.AF_UNSPEC)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise CannotResolve(
            f"the {role}'s host {host!r} does not resolve: {reason}",
            advice=f"Check {role.upper()}_HOST, or the host argument.",
        ) from None
    return sorted({str(entry[4][0]) for entry in found}, key=ipaddress.ip_address)


def literal(host: str) -> list[str]:
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
