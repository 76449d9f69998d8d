"""Programs whose identity another one has taken: what the broker can know of them, and what they must be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .world import ViolationError

if TYPE_CHECKING:
    from .clients import PlainClient
    from .network import Connection
    from .world import World


class Namesakes:
    """The connections to a broker that live on without the identity that they had."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._displaced: dict[bytes, list[Connection]] = {}  # of programs that had spoken
        self._known: dict[bytes, None] = {}  # identities over which the broker has heard two living programs

    def displaced(self, connection: Connection) -> None:
        """Another connection has its identity now."""
        if connection.has_spoken:
            self._displaced.setdefault(connection.peer, []).append(connection)

    def heard(self, connection: Connection) -> None:
        """The broker reads what it says."""
        for displaced in self._displaced.get(connection.peer, ()):
            if not displaced.is_lost and displaced is not connection:
                self._known[connection.peer] = None
                # One whose connection has ended may have had its identity before the other.
                displaced.is_owed_word |= not connection.is_lost

    def are_known(self, identity: bytes) -> bool:
        """Whether the broker has heard two living programs of this identity."""
        return identity in self._known

    def told(self, client: PlainClient, connection: Connection) -> None:
        """``client`` is told over ``connection`` that another program has its identity. It may read that over the next one.

        Raises:
            ViolationError: that is not so.
        """
        self._world.counts["plain told displaced"] += 1
        if not connection.is_displaced:
            raise ViolationError(f"{client.who} has its identity, and is told that it has not")

    def broker_died(self) -> None:
        self._displaced.clear()
        self._known.clear()


def is_not_in_silence(client: PlainClient) -> None:
    """
    Raises:
        ViolationError: it waits in vain, and nobody tells it that another program has its identity.
    """
    connection = client.link.connection
    if connection is not None and connection.is_owed_word and not (connection.is_held or connection.is_lost):
        raise ViolationError(f"{client.who} waits in silence: another program has its identity")
