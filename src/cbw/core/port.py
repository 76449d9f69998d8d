"""What a driver needs of a port: messages with the connections they came over, and what becomes of those it sends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Protocol

import msgspec

Frames = Sequence[Any]
"""A message on the wire: each frame is ``bytes`` or a read-only ``memoryview``."""


UNSENT_RETRY_S = 0.005
"""Seconds between two tries to send what a connection had no room for: nobody says when there is room again."""


class Arrival(msgspec.Struct, gc=False):
    """A message that arrived at a port.

    ``is_replaced``: ``peer`` spoke before, over another connection. ``fault``: why it cannot be taken. If it is larger than a
    message may be, ``frames`` are its first ones. If nobody is to be heard who calls himself so, there are none, and ``peer`` is
    empty.
    """

    peer: bytes
    frames: list[Any]
    is_replaced: bool = False
    fault: str = ""


class Sent(Enum):
    """What became of a message that was to be sent."""

    YES = "sent"
    UNREACHABLE = "unreachable"  #: there is no such peer
    FULL = "full"  #: the peer does not read; try again later


class Port(Protocol):
    """A ROUTER socket, real or simulated. Its order of calls in a turn is the driver's to decide."""

    port: int
    """Its number."""

    def receive(self, limit: int) -> Iterable[Arrival]:
        """Up to ``limit`` messages that are there, fewer if they are large. Whoever stops earlier leaves the others for later."""

    def take_lost(self, now: float) -> list[bytes]:
        """The peers that were lost since the last call, except those whose last words may still be unread."""

    def take_connected(self) -> bool:
        """Whether anybody has connected since the last call."""

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        """Identities that became uncertain since the last call (True), and those that are certain again (False)."""

    @property
    def is_unsettled(self) -> bool:
        """Whether connections were made or lost since they were last taken, or :attr:`has_disputes`."""

    @property
    def has_lost(self) -> bool:
        """Whether a lost peer waits to be taken."""

    @property
    def has_disputes(self) -> bool:
        """Whether it was or is in doubt who has an identity, so that :meth:`take_uncertain` may have something to tell."""

    @property
    def dispute_ends_at(self) -> float:
        """After which time :meth:`take_uncertain` has something to tell though nothing arrives; infinity: never."""

    def send(self, peer: bytes, frames: Frames) -> Sent:
        """Send one message to ``peer``, or say why not."""

    def tell_displaced(self, peer: bytes, frames: Frames) -> None:
        """Tell ``frames`` to programs that live on and have lost the identity ``peer`` to another one, now and whenever they
        say something.
        """


class JournalPort(Protocol):
    """Where a journal's batches go, in order. What becomes of them is seen later."""

    @property
    def stored(self) -> int:
        """Up to which position batches are stored."""

    @property
    def problem(self) -> str:
        """Why nothing can be stored at the moment; empty: it can."""

    @property
    def filled(self) -> float:
        """How much of the room that the journal may take is taken, from 0 to 1; 0: it has no bound of its own."""

    def put(self, position: int, batch: bytes) -> None:
        """Store ``batch``, behind all earlier ones. Returns at once."""

    def compact(self, before: int) -> None:
        """Drop the batches before this position, once everything that was put so far is stored. Returns at once."""


def is_anonymous(peer: bytes) -> bool:
    """Whether the ROUTER made this routing id up (libzmq: a zero byte and four more); such a peer never returns."""
    return peer[:1] == b"\0"


def printable(peer: bytes) -> str:
    """A routing id as the name of a peer that gave none."""
    try:
        name = peer.decode()
    except UnicodeDecodeError:
        return peer.hex()
    return name if name and name.isprintable() else peer.hex()
