"""The broker's decisions, put together: facts in, orders out.

Two rules hold in the broker's core:

1. :meth:`BrokerCore.step` is the only way in. It takes everything that has happened since the last call as a list of
   facts, decides once, and returns everything that is to be done as a list of orders, one batch a peer.
2. A request ends in exactly one place, :meth:`cbw.core.clients.Clients.end`.

Who asks, and what is accepted, is decided in :mod:`cbw.core.clients`; who works in :mod:`cbw.core.workers`, whose answer
counts in :mod:`cbw.core.hands`; which request goes to which worker in :mod:`cbw.core.dispatch`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.latency import Latencies
from cbw.core.limits import Limits
from cbw.core.outbox import Outbox
from cbw.core.request import State
from cbw.core.tables import Client, Service, Worker
from cbw.core.workers import Workers

__all__ = ["BrokerCore", "Limits"]

SWEEP_S = 0.25
"""How often silence and absence are looked for."""
LATENCIES_MAX = 256
"""They are counted so many at a time: a batch of them costs little more than one."""
STALL_S = 1.0
"""A broker that was not asked for so long though it wanted to be has stood still itself, so nobody's silence counts."""


class BrokerCore:
    """Facts in, orders out; see the rules at the head of the file.

    ``name`` and ``boot`` are what it calls itself to its peers. ``first_task`` should be different at every start, so
    that an answer for an earlier broker's task cannot be taken for one of ours. Without ``is_tracing`` only what is out
    of the ordinary is recorded.
    """

    def __init__(
        self,
        name: str = "BRO",
        boot: str = "0",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        first_task: int = 1,
        is_tracing: bool = False,
    ) -> None:
        self.name = name
        self.boot = boot
        self.limits = limits
        self.is_stopping = False
        welcome = m.Welcome(name, boot, limits.liveness_s, limits.body_bytes_max)
        self._outbox = Outbox(name, is_tracing=is_tracing)
        self._latencies = Latencies()
        self._dispatcher = Dispatcher(first_task)
        self._clients = Clients(self._outbox, self._dispatcher, limits, welcome)
        self._workers = Workers(self._outbox, self._dispatcher, self._clients, limits, welcome)
        self._sweep_at = math.inf
        self._kept_at = 0.0
        self._stop_by = math.inf
        self._is_stopped = False
        self._on: dict[type, Callable[[Any], None]] = {
            e.ClientSaid: self._clients.said,
            e.WorkerSaid: self._workers.said,
            e.PlainClientSaid: self._clients.plain_said,
            e.PlainWorkerRegistered: self._workers.plain_registered,
            e.PlainWorkerSaid: self._workers.plain_said,
            e.PeerLost: self._peer_lost,
            e.PeersConnected: self._peers_connected,
            e.PeerDoubted: self._clients.doubted,
            e.Undelivered: self._undelivered,
            e.ReplyUndelivered: self._clients.reply_undelivered,
            e.PeerUnread: self._peer_unread,
            e.BadMessageArrived: self._bad_message_arrived,
            e.StopRequested: self._stop_requested,
        }

    # --- the way in

    def step(self, facts: Iterable[e.Event], now: float) -> list[e.Event]:
        """Take in ``facts``, decide at time ``now`` (monotonic seconds, never going back), and say what to do.

        The caller owes: every order carried out in this order, an ``Undelivered`` fact for each that could not be, the
        records in ``records`` taken away, and another call by :attr:`wake_at` even without facts.
        """
        self._outbox.now = now
        for fact in facts:
            self._on[type(fact)](fact)
        self._keep_time(now)
        if self.is_stopping:
            self._finish_stopping(now)
        else:
            self._workers.hand_out()
        self._expire(now)
        if self._sweep_at == math.inf and (
            self._workers.wants_sweep or self._clients.wants_sweep or self._dispatcher.has_unserved
        ):
            self._sweep_at = now + SWEEP_S
        if len(self._outbox.latencies_s) >= LATENCIES_MAX:
            self._count_latencies()
        orders = self._outbox.take_orders()
        if self._is_stopped:
            orders.append(e.Stop())
        return orders

    @property
    def wake_at(self) -> float:
        """When :meth:`step` wants to be called even if nothing happens; infinity: only for a fact."""
        plain, clients, dispatcher = self._workers.plain, self._clients, self._dispatcher
        return min(
            self._sweep_at,
            self._stop_by,
            plain.probe_at,
            plain.due_at,
            clients.look_at,
            dispatcher.recall_at,
            dispatcher.deadline_at,
        )

    def _keep_time(self, now: float) -> None:
        workers, clients = self._workers, self._clients
        if now >= self._sweep_at:
            if now - self._kept_at > STALL_S:
                self._sweep_at = now + SWEEP_S  # it was we who stood still: hear the others first
            else:
                self._sweep()
        self._kept_at = now
        if now >= workers.plain.due_at:
            workers.plain.find_late()
        if now >= self._dispatcher.recall_at:
            workers.recall()
        if now >= workers.plain.probe_at:
            workers.plain.probe()
        if now >= clients.look_at:
            clients.look()

    def _sweep(self) -> None:
        self._sweep_at = math.inf
        self._workers.sweep()
        self._clients.sweep()
        for service in self._dispatcher.take_unserved(self._outbox.now):
            text = "requests wait, and no worker here serves them"
            self._outbox.trace("unserved", service=service.name, count=service.waiting_count, text=text)

    def _expire(self, now: float) -> None:
        if now >= self._dispatcher.deadline_at:
            for entry in self._dispatcher.take_expired(now):
                self._clients.expire(entry)

    # --- connections

    def _peer_lost(self, fact: e.PeerLost) -> None:
        self._side(fact.side).lost(fact.peer)

    def _peers_connected(self, fact: e.PeersConnected) -> None:
        self._side(fact.side).connected()

    def _undelivered(self, fact: e.Undelivered) -> None:
        self.counts["messages_undelivered"] += 1
        self._side(fact.side).undelivered(fact)

    def _peer_unread(self, fact: e.PeerUnread) -> None:
        side = self._side(fact.side)
        dropped = sum(len(getattr(order, "messages", (order,))) for order in fact.orders)
        self.counts["messages_dropped"] += dropped
        self._outbox.trace("unread", **{fact.side.value: side.name_of(fact.peer)}, text=f"{dropped} messages dropped")
        side.unread(fact)

    def _bad_message_arrived(self, fact: e.BadMessageArrived) -> None:
        self._outbox.count_bad(fact.side, self._side(fact.side).name_of(fact.peer), fact.why)

    def _side(self, side: e.Side) -> Clients | Workers:
        return self._clients if side is e.Side.CLIENT else self._workers

    # --- stopping

    def _stop_requested(self, fact: e.StopRequested) -> None:
        if self.is_stopping:
            self._stop_by = min(self._stop_by, fact.by)
            return
        self.is_stopping = True
        self._stop_by = fact.by
        self._outbox.trace("stopping")
        self._clients.stop()

    def _finish_stopping(self, now: float) -> None:
        """Once nothing runs any more, or the grace is over: a clear end for what is left, and goodbye to all."""
        if self._is_stopped or (self.requests and now < self._stop_by):
            return
        self._workers.stop()
        self._clients.say_goodbye()
        self._outbox.trace("stopped_serving")
        self._is_stopped = True
        self._stop_by = math.inf

    # --- for shells, tests and status pages; to be looked at only

    @property
    def clients(self) -> dict[bytes, Client]:
        """The clients that are connected, and plain ones that are away, by the routing ids of their connections."""
        return self._clients.by_peer

    @property
    def workers(self) -> dict[bytes, Worker]:
        """The workers by the routing ids of their connections."""
        return self._workers.by_peer

    @property
    def services(self) -> dict[str, Service]:
        """The queues and their workers, by name."""
        return self._dispatcher.services

    @property
    def requests(self) -> int:
        """Requests that are accepted and have not ended."""
        return self._clients.requests

    @property
    def requests_bytes(self) -> int:
        """The bytes of their bodies."""
        return self._clients.requests_bytes

    @property
    def kept_bytes(self) -> int:
        """What the answers that are kept for clients that are away take."""
        return self._clients.kept.bytes

    @property
    def latencies(self) -> Latencies:
        """How long requests took until they were answered."""
        self._count_latencies()
        return self._latencies

    @property
    def is_paused(self) -> bool:
        """Whether the client port is not read, because there is too much."""
        return self._clients.is_paused

    @property
    def counts(self) -> Counter[str]:
        """How often what has happened since the start."""
        return self._outbox.counts

    @property
    def records(self) -> list[e.Record]:
        """The trace since the shell last took it away."""
        return self._outbox.records

    @records.setter
    def records(self, records: list[e.Record]) -> None:
        self._outbox.records = records

    def _count_latencies(self) -> None:
        latencies_s, self._outbox.latencies_s = self._outbox.latencies_s, []
        if latencies_s:
            self._latencies.add(latencies_s)

    def check(self) -> None:
        """Assert that the whole state makes sense. For tests: it looks at everything."""
        clients = {*self.clients.values(), *self._clients.absent}
        alive = [entry for client in clients for entry in client.entries.values()]
        assert len(alive) == self.requests, (len(alive), self.requests)
        assert sum(len(entry.request.body) for entry in alive) == self.requests_bytes
        assert self._clients.kept.bytes <= self.limits.kept_bytes_max
        assert self._clients.kept.count == sum(len(client.kept) for client in clients)
        services = self._dispatcher.services.values()
        queued = [entry for service in services for entry in (*service.waiting, *service.suspects)]
        held = [entry for worker in self.workers.values() for entry in worker.in_hand.values()]
        assert sum(entry.state is State.ENDED for entry in queued) == sum(service.dead for service in services)
        places = Counter(id(entry) for entry in (*queued, *held) if entry.state is not State.ENDED)
        assert set(places.values()) <= {1}, "a request in two places"
        assert places.keys() == {id(entry) for entry in alive}, "a request in no place"
        assert all(entry.worker is None for entry in queued)
        for worker in self.workers.values():
            suspects = [entry for entry in worker.in_hand.values() if entry.state is State.ALONE]
            assert suspects in ([], [worker.suspect]), "suspects travel alone"
            assert worker.suspect is None or worker.suspect in worker.in_hand.values(), "a suspect that is not there"
            assert all(entry.worker is worker and entry.task == task for task, entry in worker.in_hand.items())
        for service in services:
            assert not (set(service.free) & set(service.ahead))
            assert service.surplus == sum(worker.is_surplus for worker in service.workers.values())
            for worker in service.free:
                assert len(worker.in_hand) < min(worker.concurrency, worker.credit)
            if not self.is_stopping:  # G2
                fresh = any(entry.state is State.WAITING for entry in service.waiting)
                has_room = service.free or (service.ahead and not service.suspects)
                assert not (fresh and has_room), "room for work while work waits"
                idle = any(not worker.in_hand for worker in service.free)
                assert not (idle and service.waiting_count), "a worker is idle while work waits"
