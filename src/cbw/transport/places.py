"""Where all brokers are: the addresses of all hosts that a worker was given, looked up again and again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from cbw.addresses import Address
from cbw.errors import CannotResolve
from cbw.transport.resolver import literal, place_of, require_host, resolve


class Places:
    """The brokers at ``hosts``. A look-up runs in a thread of its own, which calls ``on_found`` when it has ended.

    A name that cannot be looked up keeps the addresses that were found last.

    Raises:
        UsageError: one of ``hosts`` cannot be a host.
    """

    def __init__(self, hosts: Sequence[Address], on_found: Callable[[], None]) -> None:
        self._hosts = [require_host(*host) for host in hosts]
        self._found: dict[Address, list[str]] = {host: literal(host[0]) for host in self._hosts}
        self._on_found = on_found
        self._is_asking = False
        self._has_answer = False

    @property
    def known(self) -> list[str]:
        """All places of which the addresses are known: ``172.18.0.3:9999``, ``[::1]:9999``."""
        places = (place_of(each, port) for (_, port), found in self._found.items() for each in found)
        return list(dict.fromkeys(places))

    @property
    def are_several(self) -> bool:
        """Whether more than one host was given."""
        return len(self._hosts) > 1

    @property
    def names(self) -> list[Address]:
        """The hosts that have to be looked up."""
        return [host for host in self._hosts if not literal(host[0])]

    def look_up(self) -> None:
        """Begin to look the names up, unless that is under way."""
        if self._is_asking or not self.names:
            return
        self._is_asking = True
        # Out of threads: the next look-up may find one.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=self._ask, name=f"look-up of {self.names[0][0]}", daemon=True).start()
            return
        self._is_asking = False

    def take_found(self) -> list[str] | None:
        """What is :attr:`known` since the last look-up has ended; None: none has ended since the last call."""
        if not self._has_answer:
            return None
        self._has_answer = self._is_asking = False
        return self.known

    def _ask(self) -> None:
        found = dict(self._found)
        for host, port in self.names:
            with contextlib.suppress(CannotResolve):
                found[host, port] = resolve(host, port)
        self._found = found
        self._has_answer = True
        self._on_found()
