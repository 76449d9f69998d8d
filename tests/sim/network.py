"""The simulated network: TCP connections with ZeroMQ's behaviour at both ends.

Modelled on :mod:`cbw.transport.sockets` and libzmq. Order is kept within a connection; a connection is lost as a whole, with
everything under way; each end learns of that in its own time; silence of 3 s ends it (ZMTP heartbeats). A ROUTER hands
an identity over to the newest connection that claims it, and tells of a lost peer by its descriptor only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cbw.core import messages
from cbw.core.port import Arrival, Frames, Sent
from cbw.transport.connections import Connections
from cbw.wire import native

from .parcels import End, Native, Parcel, PlainReply
from .world import Process, World

if TYPE_CHECKING:
    from .peer import Link

HEARTBEAT_S = (3.0, 3.9)
"""When silence is noticed by ZMTP heartbeats: sent every second, given up after three."""


class Network:
    """Delays, and who is to be told of what got lost."""

    def __init__(
        self, world: World, delay_s: tuple[float, float], *, queue_max: int, monitor_lag_s: float = 0.0
    ) -> None:
        self.world = world
        self.delay_min_s, self.delay_max_s = delay_s
        self.queue_max = queue_max
        self.monitor_lag_s = monitor_lag_s
        self.on_displaced: Callable[[Connection], None] = lambda connection: None
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

    def pack(self, batch: Sequence[messages.Message]) -> Iterator[tuple[Native, int]]:
        """CBW/1 parcels for ``batch``, and how many messages each holds."""
        for frames, count in native.encode(batch):
            yield Native([bytes(frame) for frame in frames]), count

    def unpack(self, parcel: Native, decode: Callable[[Sequence[Any]], list[Any]]) -> list[Any]:
        """The messages of a CBW/1 parcel."""
        return decode(parcel.content)


class Lane:
    """One direction of a connection."""

    def __init__(self, network: Network, deliver: Callable[[Parcel], None]) -> None:
        self.network = network
        self.blocked_until = 0.0
        self._deliver = deliver
        self._queue: deque[tuple[float, Parcel]] = deque()
        self._last_at = 0.0
        self._stuck = 0  # parcels that a dead connection has taken: they fill its queue until its end is noticed
        self.is_cut = False

    def __len__(self) -> int:
        return len(self._queue) + self._stuck

    def send(self, parcel: Parcel) -> None:
        """Deliver ``parcel`` some time after everything that was sent before."""
        network = self.network
        if self.is_cut:
            self._stuck += 1
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
        self._stuck += len(self._queue)
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
        self.fd = -1  # the broker's descriptor, told by its messages even when it has ended and another has the number
        self.is_owed_word = False
        """Whether the broker has heard another program that has its identity."""
        self.is_displaced = False
        """Whether another program's connection has its identity."""
        self.is_held = False
        """Whether its program is told that it has lost its identity."""
        self._told: Frames = ()

    def _arrived_at_router(self, parcel: Parcel) -> None:
        if type(parcel) is End:
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

    def displace(self) -> None:
        """Another connection has its identity: what is sent over it goes nowhere, and neither end notices."""
        self.is_displaced = True
        self.up.cut()
        self.down.cut()

    def hold(self, frames: Frames) -> None:
        """Tell its program ``frames``, now and whenever it says something."""
        network = self.link.network
        lanes = Lane(network, self._said_in_vain), Lane(network, self._arrived_at_link)
        for lane, before in zip(lanes, (self.up, self.down), strict=True):
            lane.blocked_until = before.blocked_until
        self.up, self.down = lanes
        self.is_held, self._told = True, frames
        self._tell()

    def _tell(self) -> None:
        *envelope, body = map(bytes, self._told)
        now = self.link.network.world.now
        self.down.send(PlainReply(tuple(envelope), body, messages.Status.CANCELLED, "", now, displaced=self))

    def _said_in_vain(self, parcel: Parcel) -> None:
        if type(parcel) is End:
            self.lose(0.0, None)
        else:
            self.link.network.on_lost(parcel, "another program has its identity")
            self._tell()

    def close(self) -> None:
        """The link's end goes away in order: what it sent arrives first."""
        if self.up.is_cut:
            self.lose(self.link.network.delay_s(), None)
        else:
            self.up.send(End())
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
    """A bound ROUTER socket: what :class:`cbw.transport.router.Router` is to the broker's driver.

    Which connection a peer speaks over, and who is lost, is told by the real :class:`Connections` from descriptors, which are
    reused at once, and from the news of a monitor.
    """

    def __init__(self, network: Network, process: Process, port: int) -> None:
        self.network = network
        self.process = process
        self.port = port
        self.is_open = False
        self.connections: dict[Connection, None] = {}
        self.on_read: Callable[[Parcel, Connection], None] = lambda parcel, connection: None
        self.wrap: Callable[[Connection, Frames], Parcel] = lambda connection, frames: Native(frames)
        """Makes a parcel of what is sent, with what the checker wants to know of it."""
        self.known = Connections()
        self._pipes: dict[bytes, Connection] = {}
        self._inbox: deque[tuple[Connection, Parcel]] = deque()
        self._monitor: deque[tuple[float, bool, int]] = deque()  # told when; accepted or ended; the descriptor
        self._closing: dict[int, None] = {}  # descriptors of connections whose end is not told yet
        self._fds: dict[Connection, int] = {}
        self._has_connected = False

    # --- the network's side

    def accept(self, connection: Connection) -> None:
        """The handshake is done."""
        if not self.is_open:
            connection.lose(0.0, 0.01)
            return
        before = self._pipes.get(connection.peer)
        if before is not None:
            self._displace(before, connection)
        self._pipes[connection.peer] = connection
        self.connections[connection] = None
        used = {*self._fds.values(), *self._closing}
        fd = connection.fd = self._fds[connection] = next(number for number in range(10, 100_000) if number not in used)
        self._monitor.append((0.0, True, fd))
        self.process.wake()

    def _displace(self, before: Connection, after: Connection) -> None:
        """Another connection has the identity of ``before`` now. If that is another program's, its connection stays open: it
        waits for what will never come. A program that came back had lost it anyway.
        """
        self._forget_unread(before, "handed over")
        if before.link.process is after.link.process:
            before.lose(self.network.world.between(0, 0.002), 0.001)
        else:
            before.displace()
            self.network.on_displaced(before)

    def arrived(self, connection: Connection, parcel: Parcel) -> None:
        self._inbox.append((connection, parcel))
        self.process.wake()

    def noticed_loss(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        if self._pipes.get(connection.peer) is connection:
            del self._pipes[connection.peer]
        if connection.is_held:
            self.known.released(connection.peer, self.network.world.now)
        self._let_go(connection)

    def _let_go(self, connection: Connection) -> None:
        """Its descriptor is closed, which the monitor will tell."""
        fd = self._fds.pop(connection, None)
        if fd is not None:
            at = self.network.world.now + self.network.monitor_lag_s
            self._closing[fd] = None
            self._monitor.append((at, False, fd))
            self.network.world.at(at, self.process.wake)
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

    # --- the driver's side

    def receive(self, limit: int) -> Iterator[Arrival]:
        for _ in range(limit):
            if not self._inbox:
                self.watch()
                self.known.all_is_read()
                return
            connection, parcel = self._inbox.popleft()
            connection.heard_at = self.network.world.now
            connection.has_spoken = True
            self.watch()
            is_replaced = self.known.spoke(connection.peer, connection.fd)
            self.on_read(parcel, connection)
            yield Arrival(connection.peer, list(parcel.frames), is_replaced)

    @property
    def has_input(self) -> bool:
        return bool(self._inbox)

    def watch(self) -> None:
        """Read the monitor."""
        if not self._monitor:
            return
        late: list[tuple[float, bool, int]] = []
        while self._monitor:
            at, is_new, fd = news = self._monitor.popleft()
            if at > self.network.world.now:
                late.append(news)
            elif is_new:
                self._has_connected = True
                self.known.accepted(fd)
            else:
                del self._closing[fd]
                self.known.ended(fd, self.network.world.now)
        self._monitor.extend(late)

    @property
    def is_unsettled(self) -> bool:
        self.watch()
        return self._has_connected or self.known.has_disputes

    @property
    def has_lost(self) -> bool:
        return bool(self.known.lost)

    @property
    def has_disputes(self) -> bool:
        return self.known.has_disputes

    @property
    def dispute_ends_at(self) -> float:
        return self.known.dispute_ends_at

    def take_lost(self, now: float) -> list[bytes]:
        return self.known.take_lost(now)

    def take_connected(self) -> bool:
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        self.watch()
        return self.known.take_uncertain(now)

    def send(self, peer: bytes, frames: Frames) -> Sent:
        connection = self._pipes.get(peer)
        if connection is None:
            return Sent.UNREACHABLE
        if len(connection.down) + len(connection.link.inbox) >= self.network.queue_max:
            return Sent.FULL
        connection.down.send(self.wrap(connection, frames))
        return Sent.YES

    def tell_displaced(self, peer: bytes, frames: Frames) -> None:
        displaced = set(self.known.displaced(peer))
        for connection in [each for each, fd in self._fds.items() if fd in displaced and not each.is_lost]:
            self.known.hold(connection.fd)
            connection.hold(frames)
            self._let_go(connection)

    def connection_of(self, peer: bytes) -> Connection | None:
        """Where a message for ``peer`` would go now."""
        return self._pipes.get(peer)
