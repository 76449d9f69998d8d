"""All of a role's bound sockets and the keys of their peers: one gate, its ports, and what there is to tell of them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from cbw.keys.allowed import Allowed
from cbw.keys.folder import KeyFolder
from cbw.keys.key_file import KeyPair
from cbw.transport.gate import Gate
from cbw.transport.peer_keys import PeerKeys
from cbw.transport.sockets import SocketContext


class Guard:
    """Lets those in whose keys are ``allowed``, to a role whose own keys are ``pair``.

    The owner opens it before it binds its ports, polls :attr:`news`, and calls :meth:`turn` in each turn of its loop.
    """

    def __init__(self, pair: KeyPair, allowed: Allowed) -> None:
        self.allowed = allowed
        self._pair = pair
        self._gate: Gate | None = None
        self._ports: list[PeerKeys] = []
        self._problem = ""

    @staticmethod
    def of(keys: str | Path | None, role: str) -> Guard | None:
        """The guard of ``role`` with the keys in the folder ``keys`` (see :meth:`.KeyFolder.at`); None: there are no keys.

        Raises:
            UsageError: a key is missing, or the file ``allowed`` cannot be read.
        """
        folder = KeyFolder.at(keys)
        return Guard(folder.pair(role), folder.allowed()) if folder is not None else None

    def open(self, context: SocketContext) -> None:
        """Answer from now on who asks to be let in to the sockets of ``context``.

        Raises:
            NotReady: no descriptors are left.
        """
        self._gate = Gate(context, self._pair, self.allowed)

    def port(self, name: str) -> PeerKeys:
        """The keys of the peers of a socket that is to be bound, as the port called so."""
        assert self._gate is not None
        self._ports = [port for port in self._ports if port.port != name]  # one that could not be bound
        self._ports.append(PeerKeys(self._gate, name))
        return self._ports[-1]

    @property
    def news(self) -> int:
        """The descriptor to poll."""
        assert self._gate is not None
        return self._gate.news

    @property
    def refused(self) -> int:
        """How many connections were not let in."""
        return self._gate.refusals.count if self._gate is not None else 0

    def turn(self, ready: Container[Any], now: float) -> Sequence[str]:
        """Let in or refuse who asks, and cut off whose keys were taken back. Returns what is to be told."""
        gate = self._gate
        assert gate is not None
        if now < gate.look_at and gate.news not in ready:
            return ()
        if changed := gate.turn(now):
            for port in self._ports:
                port.cut_off(changed)
        told = [f"not let in: {text}" for text in gate.refusals.take()]
        problem = self.allowed.problem
        if problem != self._problem:
            self._problem = problem
            if problem:
                told.append(f"the keys that were allowed before still are: {problem}")
        return told

    def close(self) -> None:
        """Let nobody in any more."""
        if self._gate is not None:
            self._gate.close()
