"""The broker's shell, on the simulated network. It does what :mod:`cbw.broker` does, and shows all of it to the checker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cbw.core import events as e
from cbw.core.backlog import Backlog
from cbw.core.broker import BrokerCore, Limits
from cbw.wire import native, plain

from .network import (
    Connection,
    Native,
    Network,
    Parcel,
    PlainAnswer,
    PlainReady,
    PlainReply,
    PlainRequest,
    PlainTask,
    Router,
    Sent,
    summary,
)
from .world import Process, World

if TYPE_CHECKING:
    from .checker import Checker

UNREAD_RETRY_S = 0.05
Order = Any


class SimBroker(Process):
    """One broker process at a time; :meth:`start` makes another after a crash."""

    def __init__(self, world: World, network: Network, limits: Limits, turn_messages: int, grace_s: float) -> None:
        super().__init__(world, "broker")
        self.network = network
        self.limits = limits
        self.turn_messages = turn_messages
        self.grace_s = grace_s
        self.boot = 0
        self.checker: Checker
        self.core: BrokerCore
        self.clients: Router
        self.workers: Router

    def start(self) -> None:
        """A new boot, which remembers nothing."""
        self.boot += 1
        self.core = BrokerCore("BRO", f"bro{self.boot}", self.limits, first_task=self.boot << 32, is_tracing=True)
        self.clients = Router(self.network, self)
        self.workers = Router(self.network, self)
        self.clients.is_open = self.workers.is_open = True
        self._is_reading_clients = True
        self._stop_by: float | None = None
        self._has_registered: dict[bytes, None] = {}  # plain workers whose dialect is known
        self.backlog = Backlog(self.limits.kept_bytes_max)
        self.world.say(self.name, f"boot {self.boot}")
        self.start_turns()

    def crash(self, *, is_silent: bool = False) -> None:
        """SIGKILL, or the power fails (silent)."""
        self.world.say(self.name, "crashed" + " silently" * is_silent)
        self._die(is_silent=is_silent)

    def _start_again(self) -> None:
        if not self.is_alive:
            self.start()

    def stop(self) -> None:
        """SIGTERM."""
        self._stop_by = self.world.now + self.grace_s
        self.disturbed(self.world.now + 1e9)
        self.wake()

    def _die(self, *, is_silent: bool) -> None:
        self.end_turns()
        self.checker.broker_died()
        self.clients.die(is_silent=is_silent)
        self.workers.die(is_silent=is_silent)

    def parked(self) -> list[e.SendPlainReply]:
        """Replies for plain clients that do not read."""
        return [order for order in self.backlog.orders() if isinstance(order, e.SendPlainReply)]

    @property
    def is_disturbed(self) -> bool:
        """Whether it was frozen, or is about to stop."""
        return self.world.now < self.settled_at

    @property
    def wake_at(self) -> float:
        return min(self.core.wake_at, self.world.now + UNREAD_RETRY_S) if self.backlog else self.core.wake_at

    def turn(self) -> None:
        facts: list[e.Event] = []
        if self._stop_by is not None:
            facts.append(e.StopRequested(self._stop_by))
            self._stop_by = None
        for peer, parcel, _, _ in self.workers.receive(self.turn_messages):
            self._from_worker(peer, parcel, facts)
        if self._is_reading_clients:
            for peer, parcel, is_replaced, _ in self.clients.receive(self.turn_messages):
                self._from_client(peer, parcel, is_replaced, facts)
        self._connections(facts)
        if self.backlog:
            self._retry(facts)
        self._step(facts)
        if self.is_alive and (self.workers.has_input or (self._is_reading_clients and self.clients.has_input)):
            self.wake()

    # --- in

    def _from_client(self, peer: bytes, parcel: Parcel, is_replaced: bool, facts: list[e.Event]) -> None:
        if isinstance(parcel, Native):
            facts.append(e.ClientSaid(peer, self.network.unpack(parcel, native.from_client)))
        else:
            assert isinstance(parcel, PlainRequest)
            self.checker.plain_read(parcel)
            facts.append(e.PlainClientSaid(peer, parcel.envelope, parcel.body, is_replaced))

    def _from_worker(self, peer: bytes, parcel: Parcel, facts: list[e.Event]) -> None:
        if isinstance(parcel, Native):
            facts.append(e.WorkerSaid(peer, self.network.unpack(parcel, native.from_worker)))
        elif isinstance(parcel, PlainReady):
            self._has_registered[peer] = None
            facts.append(e.PlainWorkerRegistered(peer))
        elif peer in self._has_registered:
            assert isinstance(parcel, PlainAnswer)
            facts.append(e.PlainWorkerSaid(peer, parcel.client, parcel.body))
        else:
            facts.append(e.BadMessageArrived(e.Side.WORKER, peer, "an answer without a registration"))

    def _connections(self, facts: list[e.Event]) -> None:
        for side, router in ((e.Side.WORKER, self.workers), (e.Side.CLIENT, self.clients)):
            router.watch()
            for peer in router.take_lost():
                facts.append(e.PeerLost(side, peer))
                self._drop(self.backlog.forget(side, peer))
                if peer[:1] == b"\0":
                    self._has_registered.pop(peer, None)
            if router.take_connected():
                facts.append(e.PeersConnected(side))

    def _drop(self, orders: Iterable[Order]) -> None:
        for order in orders:
            if isinstance(order, e.SendPlainReply):
                self.checker.excuse(self.checker.plain_reply(order), "never read")

    # --- decide, out

    def _step(self, facts: list[e.Event]) -> None:
        core, checker = self.core, self.checker
        while True:
            for fact in facts:
                self.world.say("fact", _tell(fact))
                self.world.counts[type(fact).__name__] += 1
            checker.facts(facts)
            orders = core.step(facts, self.world.now)
            checker.step(facts, orders)
            undelivered: list[e.Event] = []
            for order in orders:
                self.world.say("order", _tell(order))
                match order:
                    case e.SendToWorker() | e.SendPlainTask():
                        self._send(e.Side.WORKER, order.peer, order, undelivered)
                    case e.SendToClient() | e.SendPlainReply():
                        self._send(e.Side.CLIENT, order.peer, order, undelivered)
                    case e.PauseClients():
                        self._is_reading_clients = False
                    case e.ResumeClients():
                        self._is_reading_clients = True
                        self.wake()
                    case e.Stop():
                        self.world.say(self.name, "stopped")
                        checker.undelivered(undelivered)
                        self._die(is_silent=False)
                        self.world.after(self.world.between(0.05, 2), self._start_again)
                        return
                    case _:
                        raise TypeError(f"unknown order {order!r}")
            if not undelivered:
                return
            facts = undelivered

    def _send(self, side: e.Side, peer: bytes, order: Order, undelivered: list[e.Event]) -> None:
        rest = order if self.backlog.has(side, peer) else self._try_to_send(side, peer, order, undelivered)
        if rest is not None:
            self.backlog.add(side, rest, self.world.now)

    def _try_to_send(self, side: e.Side, peer: bytes, order: Order, undelivered: list[e.Event]) -> Order:
        """What of ``order`` is still to be sent because the peer does not read, or None."""
        router = self.workers if side is e.Side.WORKER else self.clients
        connection = router.connection_of(peer)
        if isinstance(order, e.SendPlainTask):
            task = self.checker.plain_task(order, connection)
            sent = router.send(peer, PlainTask(order.client, bytes(order.body), task))
            if sent is Sent.UNREACHABLE:
                undelivered.append(e.Undelivered(side, peer, []))
        elif isinstance(order, e.SendPlainReply):
            sent = router.send(peer, self._plain_reply(order))
            if sent is Sent.UNREACHABLE:
                undelivered.append(e.ReplyUndelivered(peer, order.envelope, order.answer))
        else:
            return self._try_to_send_batch(router, connection, side, order, undelivered)
        return order if sent is Sent.FULL else None

    def _try_to_send_batch(
        self, router: Router, connection: Connection | None, side: e.Side, order: Order, undelivered: list[e.Event]
    ) -> Order:
        count = 0
        for parcel, size in self.network.pack(order.messages):
            sent = router.send(order.peer, parcel)
            if sent is Sent.UNREACHABLE:
                undelivered.append(e.Undelivered(side, order.peer, order.messages[count:]))
                return None
            if sent is Sent.FULL and not count:
                return order
            if sent is Sent.FULL:
                return type(order)(order.peer, order.messages[count:])
            if side is e.Side.WORKER and connection is not None:
                self.checker.tasks_sent(order.messages[count : count + size], connection)
            count += size
        return None

    def _plain_reply(self, order: e.SendPlainReply) -> PlainReply:
        token = self.checker.plain_reply(order)
        body = bytes(plain.reply_body(order.answer))
        return PlainReply(order.envelope, body, order.answer.status, token, self.world.now)

    def _retry(self, facts: list[e.Event]) -> None:
        def send(side: e.Side, order: Order) -> Order:
            return self._try_to_send(side, order.peer, order, facts)

        for fact in self.backlog.retry(self.world.now, send):
            assert isinstance(fact, e.PeerUnread)
            self._drop(fact.orders)
            facts.append(fact)


def _tell(event: e.Event) -> str:
    name = type(event).__name__
    peer = getattr(event, "peer", b"")
    who = peer.hex() if peer[:1] == b"\0" else peer.decode()
    if isinstance(event, e.ClientSaid | e.WorkerSaid | e.SendToClient | e.SendToWorker | e.Undelivered):
        return f"{name} {who}: {summary(event.messages)}"
    if isinstance(event, e.PlainClientSaid):
        return f"{name} {who}: {event.body[:40]!r}" + " (replaced)" * event.is_replaced
    if isinstance(event, e.PlainWorkerSaid | e.SendPlainTask):
        return f"{name} {who} for {event.client!r}: {event.body[:40]!r}"
    if isinstance(event, e.SendPlainReply | e.ReplyUndelivered):
        return f"{name} {who}: {event.answer.id} {event.answer.status.name}"
    if isinstance(event, e.PeerLost | e.PeersConnected | e.PeerUnread):
        return f"{name} {event.side.value} {who}"
    return f"{name} {who}"
