"""The simulated network: TCP connections with ZeroMQ's behaviour at both ends.

Modelled on :mod:`cbw.net` and libzmq. Order is kept within a connection; a connection is lost as a whole, with
everything under way; each end learns of that in its own time; silence of 3 s ends it (ZMTP heartbeats). A ROUTER hands
an identity over to the newest connection that claims it, and tells of a lost peer by its descriptor only.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from cbw.core import messages as m
from cbw.wire import native

from .world import Process, World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .checker import Checker

HEARTBEAT_S = (3.0, 3.9)
"""When silence is noticed by ZMTP heartbeats: sent every second, given up after three."""
RECONNECT_S = (0.05, 1.0)


class Sent(Enum):
    """As in :mod:`cbw.net`."""

    YES = "sent"
    UNREACHABLE = "unreachable"
    FULL = "full"


class Native(NamedTuple):
    """A CBW/1 message: frames, or, to be quicker, a copy of the messages in them."""

    content: Sequence[Any]
    is_encoded: bool


class PlainRequest(NamedTuple):
    """From a lab client. ``token`` and ``number`` are not on the wire: they are for the checker."""

    envelope: tuple[bytes, ...]
    body: bytes
    token: str
    number: int


class PlainReply(NamedTuple):
    """To a lab client. All but envelope and body are for the checker."""

    envelope: tuple[bytes, ...]
    body: bytes
    status: m.Status
    token: str
    sent_at: float


class PlainReady(NamedTuple):
    """A lab worker's registration. ``worker`` is for the checker."""

    worker: str


class PlainTask(NamedTuple):
    """To a lab worker. ``task`` is for the checker."""

    client: bytes
    body: bytes
    task: int


class PlainAnswer(NamedTuple):
    """From a lab worker."""

    client: bytes
    body: bytes


class _End(NamedTuple):
    """The last thing on a connection that is closed in order."""


Parcel = Native | PlainRequest | PlainReply | PlainReady | PlainTask | PlainAnswer | _End


class Network:
    """Delays, and who is to be told of what got lost."""

    def __init__(self, world: World, delay_s: tuple[float, float], *, is_encoding: bool, queue_max: int) -> None:
        self.world = world
        self.delay_min_s, self.delay_max_s = delay_s
        self.is_encoding = is_encoding
        self.queue_max = queue_max
        self.on_lost: Callable[[Parcel, str], None] = lambda parcel, why: None
        self.connections = 0

    def delay_s(self) -> float:
        """How long something is under way; now and then five times as long."""
        world = self.world
        delay = world.between(self.delay_min_s, self.delay_max_s)
        return delay * 5 if world.chance(0.01) else delay

    @property
    def slowest_s(self) -> float:
        """No delay without a fault is longer."""
        return self.delay_max_s * 5

    def pack(self, messages: Sequence[m.Message]) -> Iterator[tuple[Native, int]]:
        """CBW/1 parcels for ``messages``, and how many of them each holds."""
        for frames, count in native.encode(messages):
            if self.is_encoding:
                yield Native([bytes(frame) for frame in frames], True), count
            else:
                yield Native([copy.copy(message) for message in messages[:count]], False), count
                messages = messages[count:]

    def unpack(self, parcel: Native, decode: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        """The messages of a CBW/1 parcel."""
        return decode(parcel.content) if parcel.is_encoded else [*parcel.content]


class Lane:
    """One direction of a connection."""

    def __init__(self, network: Network, deliver: Callable[[Parcel], None]) -> None:
        self.network = network
        self.blocked_until = 0.0
        self._deliver = deliver
        self._queue: deque[tuple[float, Parcel]] = deque()
        self._last_at = 0.0
        self.is_cut = False

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, parcel: Parcel) -> None:
        """Deliver ``parcel`` some time after everything that was sent before."""
        network = self.network
        if self.is_cut:
            network.on_lost(parcel, "sent into a dead connection")
            return
        self._last_at = max(self._last_at, network.world.now + network.delay_s())
        self._queue.append((self._last_at, parcel))
        if len(self._queue) == 1:
            network.world.at(self._last_at, self._arrive)

    def _arrive(self) -> None:
        world = self.network.world
        if self.is_cut or not self._queue:
            return
        if world.now < self.blocked_until:
            world.at(self.blocked_until + world.between(0, 0.2), self._arrive)
            return
        while self._queue and self._queue[0][0] <= world.now:
            self._deliver(self._queue.popleft()[1])
            if self.is_cut:
                return
        if self._queue:
            world.at(self._queue[0][0], self._arrive)

    def cut(self) -> None:
        """Lose everything that is under way."""
        self.is_cut = True
        for _, parcel in self._queue:
            self.network.on_lost(parcel, "lost with its connection")
        self._queue.clear()


class Connection:
    """Between a :class:`Link` and a :class:`Router`, whose name for it is ``peer``."""

    def __init__(self, link: Link, router: Router) -> None:
        network = link.network
        network.connections += 1
        self.number = network.connections
        self.socket = link.socket
        self.link = link
        self.router = router
        self.peer = link.identity or b"\0" + self.number.to_bytes(4, "big")
        self.up = Lane(network, self._arrived_at_router)
        self.down = Lane(network, self._arrived_at_link)
        self.is_lost = False
        self.heard_at = network.world.now  # the broker took something from it
        self.has_spoken = False

    def _arrived_at_router(self, parcel: Parcel) -> None:
        if type(parcel) is _End:
            self.lose(0.0, None)
        else:
            self.router.arrived(self, parcel)

    def _arrived_at_link(self, parcel: Parcel) -> None:
        self.link.arrived(self, parcel)

    def lose(self, router_after_s: float, link_after_s: float | None) -> None:
        """It breaks; its ends notice after so long (None: never)."""
        if self.is_lost:
            return
        self.is_lost = True
        self.link.process.disturbed()
        self.up.cut()
        self.down.cut()
        world = self.link.network.world
        world.after(router_after_s, self.router.noticed_loss, self)
        if link_after_s is not None:
            world.after(link_after_s, self.link.noticed_loss, self)

    def close(self) -> None:
        """The link's end goes away in order: what it sent arrives first."""
        self.up.send(_End())
        self.down.cut()

    def block(self, seconds: float, *, is_up: bool, is_down: bool) -> None:
        """Silence for so long; nothing is lost unless it lasts."""
        world = self.link.network.world
        for lane, is_blocked in ((self.up, is_up), (self.down, is_down)):
            if is_blocked:
                lane.blocked_until = max(lane.blocked_until, world.now + seconds)
        if seconds > HEARTBEAT_S[0]:
            world.after(HEARTBEAT_S[0], self._silent_too_long)

    def unblock(self) -> None:
        """Heal."""
        self.up.blocked_until = self.down.blocked_until = 0.0
        self.up._arrive()
        self.down._arrive()

    def _silent_too_long(self) -> None:
        world = self.link.network.world
        if max(self.up.blocked_until, self.down.blocked_until) > world.now:
            longest = HEARTBEAT_S[1] - HEARTBEAT_S[0]
            self.lose(world.between(0, longest), world.between(0, longest))


class Router:
    """A bound ROUTER socket, and what :class:`cbw.net.Router` knows about its peers."""

    def __init__(self, network: Network, process: Process) -> None:
        self.network = network
        self.process = process
        self.is_open = False
        self.connections: dict[Connection, None] = {}
        self._pipes: dict[bytes, Connection] = {}
        self._inbox: deque[tuple[Connection, Parcel]] = deque()
        self._monitor: deque[tuple[bool, Connection]] = deque()
        self._connection_of: dict[bytes, Connection] = {}
        self._peer_of: dict[Connection, bytes] = {}
        self._lost: list[bytes] = []
        self._has_connected = False

    # --- the network's side

    def accept(self, connection: Connection) -> None:
        """The handshake is done."""
        if not self.is_open:
            connection.lose(0.0, 0.01)
            return
        before = self._pipes.get(connection.peer)
        if before is not None:
            before.lose(self.network.world.between(0, 0.002), 0.001)
            self._forget_unread(before, "handed over")
        self._pipes[connection.peer] = connection
        self.connections[connection] = None
        self._monitor.append((True, connection))
        self.process.wake()

    def arrived(self, connection: Connection, parcel: Parcel) -> None:
        self._inbox.append((connection, parcel))
        self.process.wake()

    def noticed_loss(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        if self._pipes.get(connection.peer) is connection:
            del self._pipes[connection.peer]
        self._monitor.append((False, connection))
        self.process.wake()

    def _forget_unread(self, connection: Connection, why: str) -> None:
        kept: deque[tuple[Connection, Parcel]] = deque()
        for item in self._inbox:
            if item[0] is connection:
                self.network.on_lost(item[1], why)
            else:
                kept.append(item)
        self._inbox = kept

    def die(self, *, is_silent: bool) -> None:
        """The broker's process is gone: its ends of all connections too."""
        world = self.network.world
        self.is_open = False
        for connection in list(self.connections):
            connection.lose(0.0, world.between(*HEARTBEAT_S) if is_silent else world.between(0, 0.02))
            self._forget_unread(connection, "unread when the broker died")
        for _, parcel in self._inbox:
            self.network.on_lost(parcel, "unread when the broker died")

    # --- the shell's side

    def receive(self, limit: int) -> Iterator[tuple[bytes, Parcel, bool, Connection]]:
        """Up to ``limit`` messages: from whom, what, whether they come over a replaced connection."""
        for _ in range(limit):
            if not self._inbox:
                return
            connection, parcel = self._inbox.popleft()
            connection.heard_at = self.network.world.now
            connection.has_spoken = True
            yield connection.peer, parcel, self._bind(connection), connection

    @property
    def has_input(self) -> bool:
        return bool(self._inbox)

    def _bind(self, connection: Connection) -> bool:
        peer = connection.peer
        was_known = peer in self._connection_of or peer in self._lost
        self.watch()
        before = self._connection_of.get(peer)
        if before is connection:
            return False
        if before is not None:
            self._peer_of.pop(before, None)
        self._connection_of[peer] = connection
        self._peer_of[connection] = peer
        return was_known

    def watch(self) -> None:
        """Read the monitor."""
        while self._monitor:
            is_new, connection = self._monitor.popleft()
            if is_new:
                self._has_connected = True
                continue
            peer = self._peer_of.pop(connection, None)
            if peer is not None:
                del self._connection_of[peer]
                self._lost.append(peer)

    def take_lost(self) -> list[bytes]:
        lost, self._lost = self._lost, []
        return [peer for peer in lost if peer not in self._connection_of]

    def take_connected(self) -> bool:
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def send(self, peer: bytes, parcel: Parcel) -> Sent:
        connection = self._pipes.get(peer)
        if connection is None:
            return Sent.UNREACHABLE
        if len(connection.down) + len(connection.link.inbox) >= self.network.queue_max:
            return Sent.FULL
        connection.down.send(parcel)
        return Sent.YES

    def connection_of(self, peer: bytes) -> Connection | None:
        """Where a message for ``peer`` would go now."""
        return self._pipes.get(peer)


class Link:
    """A peer's socket: connects, reconnects, and tells of both. ``identity`` None: the ROUTER makes one up."""

    def __init__(self, network: Network, peer: Peer, find: Callable[[], Router | None]) -> None:
        self.network = network
        self.process = peer
        self.identity: bytes | None = None
        self.connection: Connection | None = None
        self.inbox: deque[Parcel] = deque()
        self._events: deque[bool] = deque()
        self._find = find
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
        router = self._find()
        if (
            router is None
            or not router.is_open
            or world.now < max(self.process.cut_until, router.process.stopped_until)
        ):
            self._attempts += 1
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

    def __init__(self, world: World, name: str, network: Network, find: Callable[[], Router | None]) -> None:
        super().__init__(world, name)
        self.network = network
        self.link = Link(network, self, find)
        self.cut_until = 0.0
        """Its host is cut off from the broker's: no new connection until then."""
        self.boot = 0
        self.who = ""
        self.checker: Checker

    def start(self) -> None:
        """It runs, with a new boot, unless it does already."""
        raise NotImplementedError

    def crash(self, *, is_silent: bool = False) -> None:
        """SIGKILL, or the power fails (silent)."""
        raise NotImplementedError


def summary(messages: Iterable[m.Message]) -> str:
    """``messages`` in a few words for the story."""
    words = []
    for message in messages:
        name = type(message).__name__
        if isinstance(message, m.Request | m.Task | m.Cancel | m.CancelTask):
            name += f" {message.id}"
        elif isinstance(message, m.Answer):
            name += f" {message.id} {message.status.name}"
        elif isinstance(message, m.Returned | m.Recall | m.Credit):
            name += f" {message.tasks}"
        words.append(name)
    return ", ".join(words)
