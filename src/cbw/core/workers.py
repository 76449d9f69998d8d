"""Who works: the hellos of CBW/1 workers, what they say, and what each worker is given.

A CBW/1 worker says hello over each connection, and beats. What is different with those of the lab is decided in
:mod:`cbw.core.plain_workers`; what becomes of the tasks in a worker's hand, in :mod:`cbw.core.hands`.
"""

from __future__ import annotations

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.hands import Hands
from cbw.core.limits import NAME_CHARS_MAX, Limits, is_name
from cbw.core.outbox import Outbox
from cbw.core.plain_workers import PlainWorkers
from cbw.core.request import State
from cbw.core.tables import PlainWorker, Worker, request_name

SERVICES_MAX = 1000
"""Services of one worker: each is a queue in the broker, and has to be looked at when the worker is."""


class Workers:
    """All workers, as the broker's core sees them."""

    def __init__(
        self,
        outbox: Outbox,
        dispatcher: Dispatcher,
        clients: Clients,
        limits: Limits,
        welcome: m.Welcome,
    ) -> None:
        self._hands = Hands(outbox, dispatcher, clients, limits)
        self.plain = PlainWorkers(self._hands, outbox, dispatcher, limits)
        self.by_peer = self._hands.by_peer
        self.name_of = self._hands.name_of
        self._by_name: dict[str, Worker] = {}  # those of CBW/1
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._limits = limits
        self._welcome = welcome

    # --- what they say

    def said(self, fact: e.WorkerSaid) -> None:
        """A batch of a CBW/1 worker."""
        hands = self._hands
        worker = self.by_peer.get(fact.peer)
        messages = iter(fact.messages)
        if worker is None or worker.is_plain or (fact.messages and type(fact.messages[0]) is m.WorkerHello):
            worker = self._stranger_said(fact.peer, fact.messages)
            if worker is None:
                return
            next(messages)
        worker.heard_at = self._outbox.now
        for message in messages:
            if type(message) is m.Answer:
                entry = worker.in_hand.pop(message.id, None)
                if entry is None or entry.state is State.ENDED:
                    hands.fence(fact.peer, message.id)
                    if worker.suspect is entry:
                        worker.suspect = None
                else:
                    hands.answered(worker, entry, message)
            elif type(message) is m.Credit:
                self._credit_changed(worker, max(0, message.tasks))
            elif type(message) is m.Beat:
                self._outbox.tell_worker(fact.peer, m.Beat())
            elif type(message) is m.Returned:
                hands.give_back(worker, message.tasks)
            elif type(message) is m.Goodbye:
                self._lose(worker, "said goodbye", is_blamed=False)
                return
            else:
                self._outbox.count_bad(e.Side.WORKER, worker.name, f"unexpected {type(message).__name__}")
        self._dispatcher.place(worker)

    def _stranger_said(self, peer: bytes, messages: list[m.Message]) -> Worker | None:
        """Words of a peer that is not registered: a hello, or what a worker says that was taken for lost."""
        if messages and type(messages[0]) is m.WorkerHello:
            return self._hello(peer, messages[0])
        for message in messages:
            if type(message) is m.Answer:
                self._hands.fence(peer, message.id)
            elif type(message) is m.Goodbye:
                return None
        self._outbox.tell_worker(peer, m.HelloAgain())
        return None

    def _hello(self, peer: bytes, hello: m.WorkerHello) -> Worker | None:
        outbox = self._outbox
        names = list(dict.fromkeys(hello.services))
        if not (
            is_name(hello.worker)
            and is_name(hello.boot)
            and 0 < len(names) <= SERVICES_MAX
            and all(len(name) <= NAME_CHARS_MAX for name in names)
            and hello.concurrency >= 1
        ):
            text = (
                f"an id and a boot have 1 to {NAME_CHARS_MAX} characters, a service has at most as many; "
                f"a worker has 1 to {SERVICES_MAX} services and at least one slot"
            )
            outbox.tell_worker(peer, m.Refused(m.Refusal.BAD_HELLO, text))
            outbox.count_bad(e.Side.WORKER, hello.worker[:NAME_CHARS_MAX], "a bad hello")
            return None
        known = self._by_name.get(hello.worker)
        if known is not None:
            if known.boot != hello.boot:
                text = f"a worker called {hello.worker!r} lives"
                outbox.tell_worker(peer, m.Refused(m.Refusal.DUPLICATE_ID, text, self._limits.liveness_s))
                outbox.trace("refused", worker=hello.worker, text="duplicate id")
                outbox.counts["hellos_refused"] += 1
                return None
            # Over the same connection it lives, and takes nothing down: it only did not hear our welcome in time.
            self._lose(known, "said hello again", is_blamed=known.peer != peer)
        if peer in self.by_peer:
            self._lose(self.by_peer[peer], "changed its id")
        services = [self._dispatcher.service(name) for name in names]
        worker = Worker(hello.worker, hello.boot, peer, services)
        worker.concurrency = hello.concurrency
        worker.credit = max(0, hello.credit)
        self._by_name[worker.name] = worker
        self.plain.forget(peer)
        self._hands.add(worker)
        outbox.tell_worker(peer, self._welcome)
        return worker

    def _credit_changed(self, worker: Worker, credit: int) -> None:
        outbox = self._outbox
        if outbox.is_tracing and (credit == 0) is not (worker.credit == 0):  # who wants nothing is not free
            outbox.trace("credit_changed", worker=worker.name, text=str(credit))
        worker.credit = credit

    def plain_registered(self, fact: e.PlainWorkerRegistered) -> None:
        """A plain worker said that it is there."""
        self._make_way(fact.peer)
        self.plain.registered(fact)

    def plain_said(self, fact: e.PlainWorkerSaid) -> None:
        """A plain worker answered, or said again that it is ready."""
        self._make_way(fact.peer)
        self.plain.said(fact)

    def _make_way(self, peer: bytes) -> None:
        known = self.by_peer.get(peer)
        if known is not None and not known.is_plain:  # it spoke CBW/1 before
            self._lose(known, "registered anew")

    # --- what they are given

    def hand_out(self) -> None:
        """Give what waits to those that want it."""
        outbox, now, is_tracing = self._outbox, self._outbox.now, self._outbox.is_tracing
        for worker, entries in self._dispatcher.hand_out(now):
            if isinstance(worker, PlainWorker):
                (entry,) = entries
                self.plain.give(worker, entry)
            else:
                out = outbox.to_worker.setdefault(worker.peer, [])
                for entry in entries:
                    request, deadline_at = entry.request, entry.deadline_at
                    ttl = None if deadline_at is None else deadline_at - now
                    name = request_name(entry) if is_tracing else ""
                    out.append(m.Task(entry.task, request.service, request.body, ttl, entry.attempt, name))
            if is_tracing:
                for entry in entries:
                    outbox.trace_entry("handed_out", entry, worker)

    def recall(self) -> None:
        """Ask those that have too much in hand for what they have not begun."""
        outbox = self._outbox
        for worker, tasks in self._dispatcher.recall(outbox.now):
            outbox.tell_worker(worker.peer, m.Recall(tasks))
            outbox.counts["tasks_recalled"] += len(tasks)
            outbox.trace("recalled", worker=worker.name, text=f"{len(tasks)} tasks")

    # --- coming and going

    def connected(self) -> None:
        """Somebody has connected."""
        self.plain.connected()

    def lost(self, peer: bytes) -> None:
        """Its connection is gone, and whatever it had in hand may have begun."""
        worker = self.by_peer.get(peer)
        if isinstance(worker, PlainWorker):
            self.plain.lost(worker)
        elif worker is not None:
            self._lose(worker, "lost its connection")

    def undelivered(self, fact: e.Undelivered) -> None:
        """What did not reach it cannot have begun.

        A CBW/1 worker gets no more, but is not lost yet: what it said before its connection went, be it answers or a
        goodbye, has arrived and may not have been read. :meth:`lost` comes after that.
        """
        worker = self.by_peer.get(fact.peer)
        if isinstance(worker, PlainWorker):
            # It may only have been probed, and nothing tells that who is not there was lost.
            self._hands.give_back(worker, list(worker.in_hand))
            self.plain.lost(worker)
        elif worker is not None:
            self._hands.give_back(worker, [message.id for message in fact.messages if type(message) is m.Task])
            self._credit_changed(worker, 0)
            self._dispatcher.place(worker)

    def unread(self, fact: e.PeerUnread) -> None:
        """It has not read for long. When it reads on it speaks first, and is told then that it was taken for lost.

        Tasks that were not sent at all cannot have begun.
        """
        worker = self.by_peer.get(fact.peer)
        if worker is not None:
            for order in fact.orders:
                unsent = [*worker.in_hand] if worker.is_plain else [x.id for x in order.messages if type(x) is m.Task]
                self._hands.give_back(worker, unsent)
        self.lost(fact.peer)

    def stop(self) -> None:
        """The grace time is over: take back what runs, and say goodbye to all that have a word for it."""
        for worker in list(self.by_peer.values()):
            self._hands.fail_hand(worker, "the broker is stopping", is_blamed=False)
        for worker in self.by_peer.values():
            if not worker.is_plain:
                self._outbox.tell_worker(worker.peer, m.Goodbye())

    def _lose(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        if isinstance(worker, PlainWorker):
            self.plain.lose(worker, why, is_blamed=is_blamed)
        else:
            del self._by_name[worker.name]
            self._hands.remove(worker, why, is_blamed=is_blamed)

    # --- time

    @property
    def wants_sweep(self) -> bool:
        """Whether anybody has beats to be missed, is away, or is late."""
        return bool(self._by_name) or self.plain.wants_sweep

    def sweep(self) -> None:
        """Look for those that are silent, or have been away for too long."""
        limits = self._limits
        silent_since = self._outbox.now - limits.liveness_s
        for worker in [worker for worker in self._by_name.values() if worker.heard_at < silent_since]:
            self._lose(worker, f"silent for {limits.liveness_s:g} s")
        self.plain.sweep()
