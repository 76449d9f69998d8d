"""A stranger who has read the id and boot of a living client, says its hello, and hopes for its answers."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from cbw.core import messages
from cbw.core.identities import PROOF_BYTES_MIN
from cbw.wire import native

from .network import Network
from .parcels import Native
from .peer import Peer
from .summary import summary
from .world import ViolationError, World

if TYPE_CHECKING:
    from .clients import SimClient
    from .system import SimSystem

NONSENSE = Native([native.MAGIC, b"\xc1"])
"""A batch that nobody can read."""
PATIENCE_S = 1.0
"""Seconds for which a stranger listens before it leaves."""


def proof_of(who: str) -> bytes:
    """The proof of a start of a program: random enough, and the same in each run of a seed."""
    return hashlib.blake2b(who.encode(), digest_size=PROOF_BYTES_MIN).digest()


class Stranger(Peer):
    """Says the hello of ``victim``'s present start with a proof of its own, or without one; each third says nonsense before.
    Whatever answer it gets is somebody else's.
    """

    def __init__(self, world: World, system: SimSystem, victim: SimClient, number: int) -> None:
        network: Network = system.network
        super().__init__(world, f"stranger{number}", network, victim.link.way.copy)
        self._is_mad = number % 3 == 1
        self._hello = messages.ClientHello(victim.name, victim.who, proof_of(self.name) if number % 2 else b"")

    def start(self) -> None:
        self.link.open()
        self.start_turns()
        self.world.after(PATIENCE_S, self.crash)

    def crash(self, *, is_silent: bool = False) -> None:
        if self.is_alive:
            self._say(messages.Goodbye())  # if it was first to say hello to a new broker, the id is free again
            self.link.close()
            self.end_turns()

    @property
    def wake_at(self) -> float:
        return math.inf

    def turn(self) -> None:
        for is_connected in self.link.watch():
            if is_connected:
                self.world.say(self.name, f"says the hello of {self._hello.boot}")
                if self._is_mad:
                    self.link.send(NONSENSE)
                self._say(self._hello)
        while (parcel := self.link.receive()) is not None:
            assert isinstance(parcel, Native)
            heard = self.network.unpack(parcel, native.to_client)
            self.world.say(self.name, f"hears {summary(heard)}")
            if any(isinstance(message, messages.Answer) for message in heard):
                raise ViolationError(f"G1: {self.name} got an answer for {self._hello.boot}: {summary(heard)}")

    def _say(self, message: messages.Message) -> None:
        for parcel, _ in self.network.pack([message]):
            self.link.send(parcel)
