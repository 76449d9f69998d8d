"""Workers that speak a dialect of the lab: they register once, and afterwards say nothing but their answers.

Such a worker is known by the identity of its connections. It returns without a word, so who was lost is probed with the
next request when somebody connects; and it has no beats, so it is given a time for each answer.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.dispatch import Dispatcher
from cbw.core.hands import Hands
from cbw.core.limits import Limits
from cbw.core.messages import Status
from cbw.core.outbox import Outbox
from cbw.core.request import State
from cbw.core.tables import LAB_SERVICE, Entry, PlainWorker, Presence, is_anonymous

RETURN_WINDOW_S = 1.0
"""After a connection, those that were lost are probed for this long (it takes the ROUTER a moment)."""
RETURN_RETRY_S = 0.05


class PlainWorkers:
    """What is particular about them. Their places and their hands are in ``hands``, beside those of all others."""

    def __init__(self, hands: Hands, outbox: Outbox, dispatcher: Dispatcher, limits: Limits) -> None:
        self.probe_at = math.inf
        self._probe_until = 0.0
        self._absent: dict[bytes, PlainWorker] = {}
        self._due: OrderedDict[PlainWorker, float] = OrderedDict()  # one patience for all, so the order is the time
        self._late: dict[PlainWorker, float] = {}
        self._connected_at = -math.inf
        self._hands = hands
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._limits = limits

    # --- what they say

    def registered(self, fact: e.PlainWorkerRegistered) -> None:
        """It is there; or a new program with the same identity is."""
        known = self._known(fact.peer)
        if known is not None:
            # If it was only just probed, what it was given came before it registered, and its REQ socket threw it away.
            self.lose(known, "registered anew", is_blamed=not self._was_just_probed(known))
        worker = self._add(fact.peer, Presence.HEARD)
        if known is not None and known.owes_since is not None:
            worker.owes_since = self._outbox.now

    def said(self, fact: e.PlainWorkerSaid) -> None:
        """It answered, or said again that it is ready."""
        hands = self._hands
        worker = self._known(fact.peer)
        if worker is None:  # taken for lost, but it was only slow: its answer is void, it is not
            self.registered(e.PlainWorkerRegistered(fact.peer))
            if fact.client is not None:
                hands.fence(fact.peer, 0)
            return
        worker.heard_at = self._outbox.now
        if fact.client is None:
            hands.fail_hand(worker, "said that it is ready instead of answering")
        elif not worker.in_hand:
            hands.fence(fact.peer, 0)
        else:
            task, entry = next(iter(worker.in_hand.items()))
            if fact.client == _client_frame(worker, entry):
                del worker.in_hand[task]
                if entry.state is not State.ENDED:
                    hands.answered(worker, entry, m.Answer(task, Status.OK, fact.body))
                else:
                    hands.fence(fact.peer, task)
                    worker.suspect = None
            elif worker.owes_since is not None:  # what it owed; its REQ socket has thrown away what came meanwhile
                hands.fence(fact.peer, 0)
                hands.fail_hand(worker, "was still at an earlier task", is_blamed=False)
            else:
                hands.fence(fact.peer, 0)
                self._outbox.count_bad(e.Side.WORKER, worker.name, "answered for another client")
                return
        worker.presence = Presence.HEARD
        worker.owes_since = None
        worker.credit = 1
        self._forget_times(worker)
        self._dispatcher.place(worker)

    # --- what they are given

    def give(self, worker: PlainWorker, entry: Entry) -> None:
        """Send it what it has been given, and begin its time."""
        self._outbox.orders.append(e.SendPlainTask(worker.peer, _client_frame(worker, entry), entry.request.body))
        self._due[worker] = self._outbox.now + self._limits.answer_timeout_s

    # --- coming and going

    def lost(self, worker: PlainWorker) -> None:
        """Its connection is gone. It may be back, and is remembered for a while."""
        was_just_probed = self._was_just_probed(worker)
        self.lose(worker, "lost its connection")
        if is_anonymous(worker.peer):
            return
        if not was_just_probed:
            worker.absent_since = self._outbox.now
        self._absent[worker.peer] = worker
        if self._connected_at >= worker.heard_at:
            self._probe_soon()  # its next connection may be older than the news that the last is lost

    def lose(self, worker: PlainWorker, why: str, *, is_blamed: bool = True) -> None:
        """Take its place away."""
        if worker.in_hand:
            worker.owes_since = next(iter(worker.in_hand.values())).handed_out_at
        elif worker.presence is Presence.LATE:
            worker.owes_since = self._outbox.now - self._limits.answer_timeout_s
        worker.presence = Presence.ABSENT
        self._forget_times(worker)
        self._hands.remove(worker, why, is_blamed=is_blamed)

    def forget(self, peer: bytes) -> None:
        """Whoever has that identity now speaks CBW/1."""
        self._absent.pop(peer, None)

    def connected(self) -> None:
        """Somebody has connected, and it may be one of those that were lost."""
        self._connected_at = self._outbox.now
        if self._absent:
            self._probe_soon()

    def probe(self) -> None:
        """Give those that were lost their places back. Whoever is not there is undelivered, and away again."""
        now = self._outbox.now
        self.probe_at = now + RETURN_RETRY_S if now < self._probe_until else math.inf
        for worker in list(self._absent.values()):
            if self._free_at(worker) <= now:
                self._probe(worker)

    # --- time

    @property
    def due_at(self) -> float:
        """When the next of them has had its time to answer; infinity if none has anything in hand."""
        return next(iter(self._due.values())) if self._due else math.inf

    def find_late(self) -> None:
        """Who has not answered in time keeps its place, but what it had goes to others."""
        now, limits = self._outbox.now, self._limits
        while self._due:
            worker, due = next(iter(self._due.items()))
            if now < due:
                break
            del self._due[worker]
            self._outbox.counts["workers_late"] += 1
            self._outbox.trace("worker_late", worker=worker.name)
            if worker.presence is Presence.PROBED:  # it may not be there at all: probe it again
                self.lost(worker)
                continue
            worker.presence = Presence.LATE
            worker.credit = 0
            self._hands.fail_hand(worker, f"no answer in {limits.answer_timeout_s:g} s")
            self._dispatcher.place(worker)
            self._late[worker] = now

    @property
    def wants_sweep(self) -> bool:
        """Whether anybody is away or late."""
        return bool(self._absent or self._late)

    def sweep(self) -> None:
        """Look for those that have been away, or late, too long."""
        limits = self._limits
        gone_since = self._outbox.now - limits.absence_s
        for worker in [worker for worker in self._absent.values() if worker.absent_since < gone_since]:
            del self._absent[worker.peer]
        for worker in [worker for worker, since in self._late.items() if since < gone_since]:
            self.lose(worker, f"late for {limits.absence_s:g} s")
            self._probe(worker)  # its task or its answer may have been lost, and then it waits for another

    # --- inside

    def _known(self, peer: bytes) -> PlainWorker | None:
        worker = self._hands.by_peer.get(peer)
        return worker if isinstance(worker, PlainWorker) else None

    def _was_just_probed(self, worker: PlainWorker) -> bool:
        return worker.presence is Presence.PROBED and self._outbox.now - worker.heard_at < RETURN_RETRY_S

    def _add(self, peer: bytes, presence: Presence) -> PlainWorker:
        worker = PlainWorker(peer, self._dispatcher.service(LAB_SERVICE), presence)
        self._absent.pop(peer, None)
        self._hands.add(worker)
        return worker

    def _probe(self, worker: PlainWorker) -> None:
        back = self._add(worker.peer, Presence.PROBED)
        back.absent_since = worker.absent_since
        back.owes_since = worker.owes_since

    def _probe_soon(self) -> None:
        now = self._outbox.now
        free_at = max(self._free_at(worker) for worker in self._absent.values())
        self._probe_until = max(now, free_at) + RETURN_WINDOW_S
        if self.probe_at == math.inf:  # not at once: a new program registers first
            self.probe_at = now + RETURN_RETRY_S

    def _free_at(self, worker: PlainWorker) -> float:
        """When an absent one that still owes an answer has had its time for it."""
        return 0.0 if worker.owes_since is None else worker.owes_since + self._limits.answer_timeout_s

    def _forget_times(self, worker: PlainWorker) -> None:
        self._due.pop(worker, None)
        self._late.pop(worker, None)


def _client_frame(worker: PlainWorker, entry: Entry) -> bytes:
    """How a plain worker sees a client: by its identity or its id.

    A worker sends that frame back with its answer, and nothing else says what it answers. So if the answer to an earlier
    task may still come, the frame is made one that only this task has.
    """
    client = entry.client
    frame = client.peer if client.is_plain else client.name.encode()
    return frame if worker.owes_since is None else b"%b#%d" % (frame, entry.task)
