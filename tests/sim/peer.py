"""The peers of the simulated brokers: processes whose sockets connect, reconnect, and tell of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .network import HEARTBEAT_S, Connection, Network, Router
from .parcels import Parcel
from .way import Way
from .world import Process, World

if TYPE_CHECKING:
    from .checker import Checker

RECONNECT_S = (0.05, 1.0)
MOVES = 0.3
"""How often a client whose connection is lost takes another broker, although the one that it had may be there."""


class Link:
    """A peer's socket: connects, reconnects, and tells of both. ``identity`` None: the ROUTER makes one up."""

    def __init__(self, network: Network, peer: Peer, way: Way) -> None:
        self.network = network
        self.process = peer
        self.identity: bytes | None = None
        self.connection: Connection | None = None
        self.inbox: deque[Parcel] = deque()
        self._events: deque[bool] = deque()
        self.way = way
        self.cut_until = 0.0
        """Its host is cut off from the broker's: no new connection until then."""
        self.socket = 0  # a number: what belongs to an earlier socket is void
        self._attempts = 0

    def open(self, identity: bytes | None = None) -> None:
        """Make a socket and begin to connect."""
        self.identity = identity
        self.socket += 1
        self._attempts = 0
        self.network.world.after(self.network.delay_s(), self._connect, self.socket)

    def close(self, *, is_orderly: bool = True, is_silent: bool = False) -> None:
        """Drop socket and connection."""
        world = self.network.world
        self.socket += 1
        connection, self.connection = self.connection, None
        if connection is not None:
            if is_orderly:
                connection.close()
            else:
                connection.lose(world.between(*HEARTBEAT_S) if is_silent else world.between(0, 0.05), None)
        for parcel in self.inbox:
            self.network.on_lost(parcel, "unread when its socket was closed")
        self.inbox.clear()
        self._events.clear()

    def reopen(self) -> None:
        """Drop the connection, dead or not, and make another."""
        identity = self.identity
        self.close(is_orderly=False)
        self.open(identity)

    def _connect(self, number: int) -> None:
        if number != self.socket:
            return
        world, network = self.network.world, self.network
        router = self.way.router
        if router is None or not router.is_open or world.now < max(self.cut_until, router.process.stopped_until):
            self._attempts += 1
            self.way.use_next()
            wait_s = min(RECONNECT_S[1], RECONNECT_S[0] * 2**self._attempts)
            world.after(world.between(wait_s / 2, wait_s), self._connect, number)
            return
        connection = Connection(self, router)
        accept_s = network.delay_s()
        world.after(accept_s, router.accept, connection)
        world.after(accept_s + network.delay_s(), self._connected, number, connection)

    def _connected(self, number: int, connection: Connection) -> None:
        if number != self.socket:
            connection.lose(0.0, None)
        elif connection.is_lost:
            self.network.world.after(RECONNECT_S[0], self._connect, number)
        else:
            self._attempts = 0
            self.connection = connection
            self._events.append(True)
            self.process.disturbed()
            self.process.wake()

    @property
    def is_connected(self) -> bool:
        """Whether what is sent now would arrive, as far as anybody knows."""
        return self.connection is not None and not self.connection.is_lost

    def noticed_loss(self, connection: Connection) -> None:
        if self.connection is not connection:
            return
        self.connection = None
        self._events.append(False)
        self.process.wake()
        if self.way.has_others and self.network.world.chance(MOVES):
            self.way.use_next()
        self.network.world.after(self.network.world.between(*RECONNECT_S), self._connect, self.socket)

    def arrived(self, connection: Connection, parcel: Parcel) -> None:
        if connection.socket == self.socket:
            self.inbox.append(parcel)
            self.process.wake()
        else:
            self.network.on_lost(parcel, "for an earlier socket")

    # --- the shell's side

    def watch(self) -> Iterator[bool]:
        """True for each connection made, False for each lost, in order."""
        while self._events:
            yield self._events.popleft()

    def receive(self) -> Parcel | None:
        return self.inbox.popleft() if self.inbox else None

    def send(self, parcel: Parcel) -> bool:
        """False if that is not possible now."""
        if self.connection is None:
            return False
        self.connection.up.send(parcel)
        return True


class Peer(Process):
    """A client or a worker: a process with a socket."""

    def __init__(self, world: World, name: str, network: Network, *ways: Way) -> None:
        super().__init__(world, name)
        self.network = network
        self.links = [Link(network, self, way) for way in ways]
        self.link = self.links[0]
        """The only one, unless it is a worker that serves several brokers."""
        self.boot = 0
        self.who = ""
        self.checker: Checker

    def connection_to(self, router: Router) -> Connection | None:
        """That to this port; None: it has none."""
        for link in self.links:
            if link.connection is not None and link.connection.router is router:
                return link.connection
        return None

    def start(self) -> None:
        """It runs, with a new boot, unless it does already."""
        raise NotImplementedError

    def crash(self, *, is_silent: bool = False) -> None:
        """SIGKILL, or the power fails (silent)."""
        raise NotImplementedError
