"""Who works: registration, what each has in hand, its answers, and what becomes of its hand when it fails."""

from __future__ import annotations

import math
from collections import OrderedDict

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.clients import Clients
from cbw.core.dispatch import Dispatcher
from cbw.core.limits import NAME_CHARS_MAX, Limits, is_name
from cbw.core.messages import Status
from cbw.core.outbox import Outbox
from cbw.core.request import State
from cbw.core.tables import LAB_SERVICE, Entry, Worker, is_anonymous, printable, request_name

RETURN_WINDOW_S = 1.0
"""After a connection, plain workers that were lost are looked for this long (it takes the ROUTER a moment)."""
RETURN_RETRY_S = 0.05
GHOSTS_MAX = 1000
"""Names of lost workers that are remembered, so that the trace can tell whose late answer was fenced off."""

SERVICES_MAX = 1000
"""Services of one worker: each is a queue in the broker, and has to be looked at when the worker is."""

_FROM_WORKER = (Status.OK, Status.FAILED, Status.BAD_REQUEST, Status.EXPIRED, Status.CANCELLED)


class Workers:
    """The table of workers.

    A CBW/1 worker says hello over each connection, and beats. A plain one has neither: it registers once, is known by
    the identity of its connections, returns without a word, and is given a time for each answer.
    """

    def __init__(
        self,
        outbox: Outbox,
        dispatcher: Dispatcher,
        clients: Clients,
        limits: Limits,
        welcome: m.Welcome,
    ) -> None:
        self.by_peer: dict[bytes, Worker] = {}
        self.look_at = math.inf
        self._look_until = 0.0
        self._by_name: dict[str, Worker] = {}
        self._ghosts: dict[bytes, str] = {}  # names of workers that were lost, for what they still say
        self._absent: dict[bytes, Worker] = {}  # plain ones
        self._due: OrderedDict[Worker, float] = OrderedDict()  # one patience for all, so the order is the time
        self._late: dict[Worker, float] = {}
        self._connected_at = -math.inf
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._clients = clients
        self._limits = limits
        self._welcome = welcome

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it."""
        worker = self.by_peer.get(peer)
        return worker.name if worker else printable(peer)

    # --- CBW/1

    def said(self, fact: e.WorkerSaid) -> None:
        """A batch of a CBW/1 worker."""
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
                    self._fence(worker.name, message.id)
                    if worker.suspect is entry:
                        worker.suspect = None
                else:
                    self._answered(worker, entry, message)
            elif type(message) is m.Credit:
                self._credit_changed(worker, max(0, message.tasks))
            elif type(message) is m.Beat:
                self._outbox.tell_worker(fact.peer, m.Beat())
            elif type(message) is m.Returned:
                self._returned(worker, message.tasks)
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
                self._fence(self._ghosts.get(peer) or printable(peer), message.id)
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
        worker = Worker(hello.worker, hello.boot, peer, services, is_plain=False)
        worker.concurrency = hello.concurrency
        worker.credit = max(0, hello.credit)
        self._add(worker)
        outbox.tell_worker(peer, self._welcome)
        return worker

    def _credit_changed(self, worker: Worker, credit: int) -> None:
        outbox = self._outbox
        if outbox.is_tracing and (credit == 0) is not (worker.credit == 0):  # who wants nothing is not free
            outbox.trace("credit_changed", worker=worker.name, text=str(credit))
        worker.credit = credit

    # --- plain

    def plain_registered(self, fact: e.PlainWorkerRegistered) -> None:
        """A plain worker said that it is there."""
        known = self.by_peer.get(fact.peer)
        if known is not None:  # a new program with the same identity
            # If it was only just looked for, what it was given came before it registered, and its REQ socket threw it away.
            is_early = known.is_probed and self._outbox.now - known.heard_at < RETURN_RETRY_S
            self._lose(known, "registered anew", is_blamed=not is_early)
        worker = self._add_plain(fact.peer)
        if known is not None and known.owes_since is not None:
            worker.owes_since = self._outbox.now

    def plain_said(self, fact: e.PlainWorkerSaid) -> None:
        """A plain worker answered, or said again that it is ready."""
        worker = self.by_peer.get(fact.peer)
        if worker is None or not worker.is_plain:  # taken for lost, but it was only slow: its answer is void, it is not
            self.plain_registered(e.PlainWorkerRegistered(fact.peer))
            if fact.client is not None:
                self._fence(printable(fact.peer), 0)
            return
        worker.heard_at = self._outbox.now
        if fact.client is None:
            self._fail_hand(worker, "said that it is ready instead of answering")
        elif not worker.in_hand:
            self._fence(worker.name, 0)
        else:
            task, entry = next(iter(worker.in_hand.items()))
            if fact.client == _client_frame(worker, entry):
                del worker.in_hand[task]
                if entry.state is not State.ENDED:
                    self._answered(worker, entry, m.Answer(task, Status.OK, fact.body))
                else:
                    self._fence(worker.name, task)
                    worker.suspect = None
            elif worker.owes_since is not None:  # what it owed; its REQ socket has thrown away what came meanwhile
                self._fence(worker.name, 0)
                self._fail_hand(worker, "was still at an earlier task", is_blamed=False)
            else:
                self._fence(worker.name, 0)
                self._outbox.count_bad(e.Side.WORKER, worker.name, "answered for another client")
                return
        worker.is_probed = False
        worker.absent_since = None
        worker.owes_since = None
        worker.is_late = False
        self._late.pop(worker, None)
        self._due.pop(worker, None)
        self._dispatcher.place(worker)

    # --- what is in hand

    def hand_out(self) -> None:
        """Give what waits to those that want it."""
        outbox, now, is_tracing = self._outbox, self._outbox.now, self._outbox.is_tracing
        for worker, entries in self._dispatcher.hand_out(now):
            if worker.is_plain:
                (entry,) = entries
                outbox.orders.append(e.SendPlainTask(worker.peer, _client_frame(worker, entry), entry.request.body))
                self._due[worker] = now + self._limits.answer_timeout_s
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

    def _answered(self, worker: Worker, entry: Entry, answer: m.Answer) -> None:
        if worker.suspect is entry:
            worker.suspect = None
        worker.answered += 1
        status = answer.status
        if status is Status.OK:
            self._clients.end(entry, r.ANSWERED, answer, "answered", worker)
        elif status is Status.CRASHED:
            self._fail(entry, worker, m.error_of(answer.body)[1])
        elif status in _FROM_WORKER:
            self._clients.end(entry, r.ANSWERED, answer, "failed", worker, m.error_of(answer.body)[0])
        else:
            self._outbox.count_bad(e.Side.WORKER, worker.name, f"an answer with status {status.name}")
            error = m.error_body("BadAnswer", f"the worker answered with status {status.name}")
            self._clients.end(entry, r.ANSWERED, m.Answer(0, Status.FAILED, error), "failed", worker, "BadAnswer")

    def _fence(self, worker_name: str, task: int) -> None:
        self._outbox.counts["answers_fenced"] += 1
        self._outbox.trace("fenced", worker=worker_name, task=task)

    def _returned(self, worker: Worker, tasks: list[int]) -> None:
        worker.recalled_at = None
        for task in sorted(tasks, reverse=True):  # each goes to the front, so the oldest goes last
            entry = worker.in_hand.pop(task, None)
            if entry is None:
                continue
            if worker.suspect is entry:
                worker.suspect = None
            if entry.state is not State.ENDED:
                self._wait_again(entry, worker, "returned")

    def _wait_again(self, entry: Entry, worker: Worker, why: str) -> None:
        """Its attempt cannot have begun, so it does not count."""
        self._outbox.counts["tasks_returned"] += 1
        if self._outbox.is_tracing:
            self._outbox.trace_entry("returned", entry, worker, why)
        self._put_back(entry, r.RETURNED)

    def _fail(self, entry: Entry, worker: Worker, why: str) -> None:
        """An attempt that may have begun took its worker down, or was left behind by it."""
        worker.failed += 1
        self._outbox.counts["attempts_failed"] += 1
        if self._outbox.wants_failures:
            self._outbox.trace_entry("attempt_failed", entry, worker, why)
        if entry.attempt >= self._limits.attempts_max:
            who = f"{entry.attempt} workers" if entry.attempt > 1 else "1 worker"
            text = f"{who} failed at it; the last was {worker.name}: {why}"
            answer = m.Answer(0, Status.GAVE_UP, m.error_body("gave_up", text))
            self._clients.end(entry, r.GAVE_UP, answer, "gave_up", worker, why)
        else:
            entry.attempt += 1
            self._put_back(entry, r.WORKER_FAILED)

    def _put_back(self, entry: Entry, event: r.Table) -> None:
        self._dispatcher.put_back(entry, event)
        if self._clients.is_stopping:
            self._clients.stop_waiting(entry)

    def _fail_hand(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        """What ``worker`` has in hand will not be answered by it."""
        entries = [entry for entry in worker.in_hand.values() if entry.state is not State.ENDED]
        worker.in_hand.clear()
        worker.suspect = None
        worker.recalled_at = None
        for entry in entries if is_blamed else reversed(entries):
            if is_blamed:
                self._fail(entry, worker, why)
            else:
                self._wait_again(entry, worker, why)

    # --- coming and going

    def lost(self, peer: bytes) -> None:
        """Its connection is gone, and whatever it had in hand may have begun."""
        worker = self.by_peer.get(peer)
        if worker is None:
            return
        now = self._outbox.now
        self._lose(worker, "lost its connection")
        if worker.is_plain and not is_anonymous(peer):
            if not worker.is_probed or now - worker.heard_at >= RETURN_RETRY_S:
                worker.absent_since = now
            self._absent[peer] = worker
            if self._connected_at >= worker.heard_at:
                self._look_soon()  # its next connection may be older than the news that the last is lost

    def undelivered(self, fact: e.Undelivered) -> None:
        """What did not reach it cannot have begun.

        A CBW/1 worker gets no more, but is not lost yet: what it said before its connection went, be it answers or a
        goodbye, has arrived and may not have been read. :meth:`lost` comes after that.
        """
        worker = self.by_peer.get(fact.peer)
        if worker is None:
            return
        if worker.is_plain:  # it may only have been looked for, and nothing tells that one who is not there was lost
            self._returned(worker, list(worker.in_hand))
            self.lost(fact.peer)
        else:
            self._returned(worker, [message.id for message in fact.messages if type(message) is m.Task])
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
                self._returned(worker, unsent)
        self.lost(fact.peer)

    def connected(self) -> None:
        """Somebody has connected, and it may be one of those that were lost."""
        self._connected_at = self._outbox.now
        if self._absent:
            self._look_soon()

    def look(self) -> None:
        """Plain workers come back without a word: try them. Whoever is not there is undelivered, and away again."""
        now = self._outbox.now
        self.look_at = now + RETURN_RETRY_S if now < self._look_until else math.inf
        for worker in list(self._absent.values()):
            if self._free_at(worker) <= now:
                self._look_for(worker)

    def _look_for(self, worker: Worker) -> None:
        back = self._add_plain(worker.peer)
        back.is_probed = True
        back.absent_since = worker.absent_since
        back.owes_since = worker.owes_since

    def _look_soon(self) -> None:
        now = self._outbox.now
        free_at = max(self._free_at(worker) for worker in self._absent.values())
        self._look_until = max(now, free_at) + RETURN_WINDOW_S
        if self.look_at == math.inf:  # not at once: a new program registers first
            self.look_at = now + RETURN_RETRY_S

    def _free_at(self, worker: Worker) -> float:
        """When an absent plain worker that still owes an answer has had its time for it."""
        return 0.0 if worker.owes_since is None else worker.owes_since + self._limits.answer_timeout_s

    def _add_plain(self, peer: bytes) -> Worker:
        worker = Worker(printable(peer), "", peer, [self._dispatcher.service(LAB_SERVICE)], is_plain=True)
        self._add(worker)
        return worker

    def _add(self, worker: Worker) -> None:
        outbox = self._outbox
        worker.heard_at = outbox.now
        self._absent.pop(worker.peer, None)
        self.by_peer[worker.peer] = worker
        if not worker.is_plain:
            self._by_name[worker.name] = worker
        self._dispatcher.add_worker(worker)
        outbox.counts["workers_registered"] += 1
        worker.since = outbox.now
        outbox.trace("worker_ready", worker=worker.name, text=",".join(service.name for service in worker.services))
        if worker.credit == 0 and outbox.is_tracing:
            outbox.trace("credit_changed", worker=worker.name, text="0")

    def _lose(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        if worker.in_hand:
            worker.owes_since = next(iter(worker.in_hand.values())).handed_out_at
        elif worker.is_late:
            worker.owes_since = self._outbox.now - self._limits.answer_timeout_s
        del self.by_peer[worker.peer]
        if self._by_name.get(worker.name) is worker:
            del self._by_name[worker.name]
        self._due.pop(worker, None)
        self._late.pop(worker, None)
        self._dispatcher.remove_worker(worker)
        self._ghosts[worker.peer] = worker.name
        if len(self._ghosts) > GHOSTS_MAX:
            del self._ghosts[next(iter(self._ghosts))]
        self._outbox.counts["workers_lost"] += 1
        self._outbox.trace("worker_lost" if is_blamed else "worker_left", worker=worker.name, text=why)
        self._fail_hand(worker, why, is_blamed=is_blamed)

    def stop(self) -> None:
        """The grace time is over: take back what runs, and say goodbye to all that have a word for it."""
        for worker in list(self.by_peer.values()):
            self._fail_hand(worker, "the broker is stopping", is_blamed=False)
        for worker in self.by_peer.values():
            if not worker.is_plain:
                self._outbox.tell_worker(worker.peer, m.Goodbye())

    # --- time

    @property
    def due_at(self) -> float:
        """When the next plain worker has had its time to answer; infinity if none has anything in hand."""
        return next(iter(self._due.values())) if self._due else math.inf

    def find_late(self) -> None:
        """Plain workers that have not answered in time keep their place, but what they had goes to others."""
        now, limits = self._outbox.now, self._limits
        while self._due:
            worker, due = next(iter(self._due.items()))
            if now < due:
                break
            del self._due[worker]
            worker.is_late = True
            self._outbox.counts["workers_late"] += 1
            self._outbox.trace("worker_late", worker=worker.name)
            if worker.is_probed:  # it may not be there at all: look for it again
                self.lost(worker.peer)
                continue
            self._fail_hand(worker, f"no answer in {limits.answer_timeout_s:g} s")
            self._dispatcher.place(worker)
            self._late[worker] = now

    @property
    def wants_sweep(self) -> bool:
        """Whether anybody has beats to be missed, is away, or is late."""
        return bool(self._by_name or self._absent or self._late)

    def sweep(self) -> None:
        """Look for silence, and for plain workers that have been away, or late, too long."""
        now, limits = self._outbox.now, self._limits
        for worker in [w for w in self._by_name.values() if w.heard_at < now - limits.liveness_s]:
            self._lose(worker, f"silent for {limits.liveness_s:g} s")
        gone_since = now - limits.absence_s
        for worker in [w for w in self._absent.values() if (w.absent_since or 0.0) < gone_since]:
            del self._absent[worker.peer]
        for worker in [w for w, since in self._late.items() if since < gone_since]:
            self._lose(worker, f"late for {limits.absence_s:g} s")
            self._look_for(worker)  # its task or its answer may have been lost, and then it waits for another


def _client_frame(worker: Worker, entry: Entry) -> bytes:
    """How a plain worker sees a client: by its identity or its id.

    A worker sends that frame back with its answer, and nothing else says what it answers. So if the answer to an earlier
    task may still come, the frame is made one that only this task has.
    """
    client = entry.client
    frame = client.peer if client.is_plain else client.name.encode()
    return frame if worker.owes_since is None else b"%b#%d" % (frame, entry.task)
