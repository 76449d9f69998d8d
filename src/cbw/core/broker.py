"""The broker's decisions: who is known, what is accepted, what becomes of it.

Two rules hold in this file:

1. :meth:`BrokerCore.step` is the only way in. It takes everything that has happened since the last call as a list of
   facts, decides once, and returns everything that is to be done as a list of orders, one batch a peer.
2. A request ends in exactly one place, :meth:`BrokerCore._end`, and only :mod:`cbw.core.request` says when it may.

Which request goes to which worker is decided in :mod:`cbw.core.dispatch`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.dispatch import Dispatcher
from cbw.core.messages import Status
from cbw.core.request import State
from cbw.core.tables import Client, Entry, Worker

LAB_SERVICE = ""
"""The service of plain peers, whose dialects have no word for one. It is also the default of ours."""
NAME_CHARS_MAX = 200
"""Longest id or service name. Names stand in every trace line and metric."""
RETURN_WINDOW_S = 1.0
"""After a connection on a port, plain peers that were lost are looked for this long (it takes the ROUTER a moment)."""
RETURN_RETRY_S = 0.05
RETURN_GRACE_S = 0.25
"""A client that was started anew asks at once, one that has come back says nothing: so long it is heard first."""
SWEEP_S = 0.25
GHOSTS_MAX = 1000
"""Names of lost workers that are remembered, so that the trace can tell whose late answer was fenced off."""
RECORDS_MAX = 100
"""Without tracing, no more records than this are made in a step: a flood of garbage must not become one of lines."""
"""How often silence and absence are looked for."""

_FROM_WORKER = (Status.OK, Status.FAILED, Status.BAD_REQUEST, Status.EXPIRED, Status.CANCELLED)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker allows. The settings of the same names in :mod:`cbw.settings` say why each has its default."""

    requests_max: int = 1_000_000
    requests_bytes_max: int = 1 << 30
    body_bytes_max: int = 64 << 20
    attempts_max: int = 3
    liveness_s: float = 3.0
    answer_timeout_s: float = 2.0
    absence_s: float = 60.0
    plain_ttl_s: float | None = None


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
        self.is_tracing = is_tracing
        self.records: list[e.Record] = []
        self.counts: Counter[str] = Counter()
        self.now = 0.0
        self.clients: dict[bytes, Client] = {}
        self.workers: dict[bytes, Worker] = {}
        self.requests = 0  # accepted and not ended
        self.requests_bytes = 0
        self.is_paused = False
        self.is_stopping = False
        self._is_stopped = False
        self._stop_by = 0.0
        self._next_task = first_task
        self._next_plain_id = 1
        self._dispatcher = Dispatcher()
        self._clients_by_name: dict[str, Client] = {}
        self._workers_by_name: dict[str, Worker] = {}
        self._ghosts: dict[bytes, str] = {}  # names of workers that were lost, for what they still say
        self._absent_clients: dict[Client, None] = {}
        self._returned_clients: dict[Client, float] = {}  # they fetch what was kept for them, or do not want it
        self._absent_plain_workers: dict[bytes, Worker] = {}
        self._plain_due: OrderedDict[Worker, float] = OrderedDict()  # one patience for all, so the order is the time
        self._to_client: dict[bytes, list[m.Message]] = {}
        self._to_worker: dict[bytes, list[m.Message]] = {}
        self._orders: list[e.Event] = []
        self._late_workers: dict[Worker, float] = {}
        self._sweep_at: float | None = None
        self._return_at: float | None = None
        self._return_until = 0.0
        self._clients_connected_at = float("-inf")
        self._look_for_clients_at: float | None = None
        self._workers_connected_at = float("-inf")
        self._on: dict[type, Callable[[Any], None]] = {
            e.ClientSaid: self._client_said,
            e.WorkerSaid: self._worker_said,
            e.PlainClientSaid: self._plain_client_said,
            e.PlainWorkerRegistered: self._plain_worker_registered,
            e.PlainWorkerSaid: self._plain_worker_said,
            e.PeerLost: self._peer_lost,
            e.PeersConnected: self._peers_connected,
            e.Undelivered: self._undelivered,
            e.ReplyUndelivered: self._reply_undelivered,
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
        self.now = now
        for fact in facts:
            self._on[type(fact)](fact)
        self._keep_time()
        if self.is_stopping:
            self._finish_stopping()
        else:
            self._hand_out()
        return self._take_orders()

    @property
    def wake_at(self) -> float | None:
        """When :meth:`step` wants to be called even if nothing happens; None: only for a fact."""
        times = [
            time
            for time in (
                self._sweep_at,
                self._return_at,
                self._look_for_clients_at,
                self._dispatcher.recall_at,
                self._dispatcher.deadline_at,
            )
            if time is not None
        ]
        if self._plain_due:
            times.append(next(iter(self._plain_due.values())))
        if self.is_stopping and not self._is_stopped:
            times.append(self._stop_by)
        return min(times, default=None)

    def _take_orders(self) -> list[e.Event]:
        orders, self._orders = self._orders, []
        if self._to_worker:
            orders.extend(e.SendToWorker(peer, messages) for peer, messages in self._to_worker.items())
            self._to_worker = {}
        if self._to_client:
            orders.extend(e.SendToClient(peer, messages) for peer, messages in self._to_client.items())
            self._to_client = {}
        if self._is_stopped:
            orders.append(e.Stop())
        return orders

    def _tell_client(self, peer: bytes, message: m.Message) -> None:
        self._to_client.setdefault(peer, []).append(message)

    def _tell_worker(self, peer: bytes, message: m.Message) -> None:
        self._to_worker.setdefault(peer, []).append(message)

    # --- clients

    def _client_said(self, fact: e.ClientSaid) -> None:
        client = self.clients.get(fact.peer)
        if client is not None and client.is_plain:  # it has not said hello
            client = None
        requests: list[m.Request] = []
        for message in fact.messages:
            if type(message) is m.Request:
                requests.append(message)
            elif type(message) is m.ClientHello:
                client = self._client_hello(fact.peer, message)
                if client is None:
                    return
            elif type(message) is m.Beat:
                self._tell_client(fact.peer, m.Beat())
            elif type(message) is m.Cancel and client is not None:
                self._accept(client, requests)
                requests = []
                self._cancel(client, message.id)
            elif type(message) is m.Goodbye:
                if client is not None:
                    self._forget_client(client, "said goodbye")
                return
        if client is None and fact.messages:
            self._tell_client(fact.peer, m.HelloAgain())
        elif client is not None:
            self._accept(client, requests)

    def _client_hello(self, peer: bytes, hello: m.ClientHello) -> Client | None:
        if not (_is_name(hello.client) and _is_name(hello.boot)):
            self._tell_client(peer, m.Refused(m.Refusal.BAD_HELLO, f"an id has 1 to {NAME_CHARS_MAX} characters"))
            self._count_bad(e.Side.CLIENT, hello.client[:NAME_CHARS_MAX], "a bad id")
            return None
        known = self._clients_by_name.get(hello.client)
        if known is not None and known.boot != hello.boot:
            if known.absent_since is None and known.peer != peer:
                self._tell_client(peer, m.Refused(m.Refusal.DUPLICATE_ID, f"a client called {hello.client!r} lives"))
                self._trace("refused", client=hello.client, text="duplicate id")
                self.counts["hellos_refused"] += 1
                return None
            self._forget_client(known, "another one took its id")
            known = None
        before = self.clients.get(peer)
        if before is not None and before is not known:
            self._forget_client(before, "changed its id")
        if known is None:
            known = self._clients_by_name[hello.client] = Client(hello.client, hello.boot, peer, is_plain=False)
            self._trace("client_hello", client=known.name)
        else:
            if self.clients.get(known.peer) is known:
                del self.clients[known.peer]
            known.peer = peer
            self._client_back(known)
        self.clients[peer] = known
        self._tell_client(peer, self._welcome())
        return known

    def _client_back(self, client: Client) -> None:
        if client.absent_since is not None:
            client.absent_since = None
            del self._absent_clients[client]
            if client.kept:
                self._returned_clients[client] = self.now
                self._sweep_by(self.now + SWEEP_S)
        self._trace("client_back", client=client.name)

    def _welcome(self) -> m.Welcome:
        return m.Welcome(self.name, self.boot, self.limits.liveness_s, self.limits.body_bytes_max)

    def _accept(self, client: Client, requests: list[m.Request]) -> None:
        """The way in of CBW/1 requests: an entry in the client's table and a place in a queue for each."""
        entries, kept = client.entries, client.kept
        add, now = self._dispatcher.add, self.now
        for request in requests:
            key = request.id
            if key in entries:  # sent again after a lost connection: it joins the running one
                self.counts["requests_joined"] += 1
            elif kept and key in kept:
                self._tell_client(client.peer, kept.pop(key)[1])
            elif (refusal := self._refusal(request.service, len(request.body))) is not None:
                self._refuse(client, request, *refusal)
            elif (ttl := request.ttl) is not None and not ttl > 0:  # and no NaN
                self._refuse(client, request, Status.EXPIRED, "the deadline had passed when it arrived")
            else:
                entry = Entry(request, client, r.ACCEPTED, now, None if ttl is None else now + ttl)
                entries[key] = entry
                self.requests += 1
                self.requests_bytes += len(request.body)
                add(entry, self._dispatcher.service(request.service))
                if self.is_tracing:
                    self._trace_entry("accepted", entry)
        self.counts["requests_arrived"] += len(requests)

    def _refusal(self, service: str, size: int) -> tuple[Status, str] | None:
        limits = self.limits
        if self.is_stopping:
            return Status.STOPPING, "the broker is stopping"
        if size > limits.body_bytes_max:
            return Status.TOO_BIG, f"{size} bytes; the broker allows {limits.body_bytes_max} (--body-bytes-max)"
        if len(service) > NAME_CHARS_MAX:
            return Status.BAD_REQUEST, f"a service has at most {NAME_CHARS_MAX} characters"
        if self.requests >= limits.requests_max:
            return Status.BUSY, f"{self.requests} requests are here already (--requests-max)"
        if self.requests_bytes + size > limits.requests_bytes_max:
            return Status.BUSY, f"{self.requests_bytes} bytes of requests are here already (--requests-bytes-max)"
        return None

    def _refuse(self, client: Client, request: m.Request, status: Status, text: str) -> None:
        self.counts["requests_refused"] += 1
        self._trace("refused", request=f"{client.name}/{request.id}", client=client.name, text=text)
        self._tell_client(client.peer, m.Answer(request.id, status, m.error_body(status.name.lower(), text)))

    def _plain_client_said(self, fact: e.PlainClientSaid) -> None:
        client = self.clients.get(fact.peer)
        if client is not None and not client.is_plain:
            self._forget_client(client, "speaks another dialect")
            client = None
        if client is None:
            client = self.clients[fact.peer] = Client(_printable(fact.peer), "", fact.peer, is_plain=True)
        elif fact.is_replaced or client.absent_since is not None:
            self._plain_client_back(client, fact.envelope)
        client.heard_at = self.now
        limits = self.limits
        request = m.Request(self._next_plain_id, LAB_SERVICE, fact.body, limits.plain_ttl_s)
        self._next_plain_id += 1
        self.counts["requests_arrived"] += 1
        deadline_at = None if request.ttl is None else self.now + request.ttl
        entry = Entry(request, client, r.ACCEPTED, self.now, deadline_at, fact.envelope)
        refusal = self._refusal(LAB_SERVICE, len(fact.body))
        if refusal is not None and refusal[0] is not Status.BUSY:  # its dialect has no word for busy: see _pause
            self.counts["requests_refused"] += 1
            self._reply(entry, m.Answer(0, refusal[0], m.error_body(refusal[0].name.lower(), refusal[1])))
            return
        client.entries[request.id] = entry
        self.requests += 1
        self.requests_bytes += len(fact.body)
        self._dispatcher.add(entry, self._dispatcher.service(LAB_SERVICE))
        if self.is_tracing:
            self._trace_entry("accepted", entry)
        self._pause_if_high()

    def _plain_client_back(self, client: Client, envelope: tuple[bytes, ...]) -> None:
        """It speaks over a new connection. Answers are told apart by their envelopes alone, so what it asked before with
        this envelope is void: a REQ socket asks anew only if it gave up the old request, or is another program's (G1).
        """
        if client.absent_since is not None:
            self._client_back(client)
        for key, entry in list(client.entries.items()):
            if entry.envelope == envelope:
                self._cancel(client, key, "asked anew from another connection", is_told=False)
        kept, client.kept = client.kept, {}
        self._orders.extend(e.SendPlainReply(client.peer, *reply) for reply in kept.values() if reply[0] != envelope)

    def _pause_if_high(self) -> None:
        """Back-pressure for plain clients: at twice the limit the port is read no more, and TCP makes them wait."""
        limits = self.limits
        is_high = self.requests >= 2 * limits.requests_max or self.requests_bytes >= 2 * limits.requests_bytes_max
        if is_high and not self.is_paused:
            self.is_paused = True
            self._orders.append(e.PauseClients())
            self._trace("paused", text=f"{self.requests} requests")

    def _resume_if_low(self) -> None:
        limits = self.limits
        if self.requests < limits.requests_max and self.requests_bytes < limits.requests_bytes_max:
            self.is_paused = False
            self._orders.append(e.ResumeClients())
            self._trace("resumed")

    def _cancel(self, client: Client, key: int, why: str = "cancelled by the client", *, is_told: bool = True) -> None:
        entry = client.entries.get(key)
        if entry is None:
            return
        self.counts["requests_cancelled"] += 1
        if entry.worker is not None and not entry.worker.is_plain:
            # The slot stays taken until the worker says what became of it: it may not be able to stop.
            self._tell_worker(entry.worker.peer, m.CancelTask(entry.task))
        answer = m.Answer(key, Status.CANCELLED, m.error_body("cancelled", why)) if is_told else None
        self._end(entry, r.CANCELLED, answer, "cancelled", entry.worker, why)

    def _client_away(self, client: Client) -> None:
        """Its connection is gone; it may come back, unless the ROUTER made its identity up."""
        if client.absent_since is not None:
            return
        if client.is_plain and _is_anonymous(client.peer):
            self._forget_client(client, "lost its connection")
            return
        client.absent_since = self.now
        self._absent_clients[client] = None
        if not client.is_plain:
            del self.clients[client.peer]
        self._sweep_by(self.now + SWEEP_S)
        self._trace("client_away", client=client.name)

    def _forget_client(self, client: Client, why: str) -> None:
        for key in list(client.entries):
            self._cancel(client, key, why, is_told=False)
        client.kept.clear()
        self._absent_clients.pop(client, None)
        self._returned_clients.pop(client, None)
        if self.clients.get(client.peer) is client:
            del self.clients[client.peer]
        if self._clients_by_name.get(client.name) is client:
            del self._clients_by_name[client.name]
        self._trace("client_gone", client=client.name, text=why)

    # --- workers

    def _worker_said(self, fact: e.WorkerSaid) -> None:
        worker = self.workers.get(fact.peer)
        messages = iter(fact.messages)
        if worker is None or worker.is_plain or (fact.messages and type(fact.messages[0]) is m.WorkerHello):
            worker = self._stranger_said(fact.peer, fact.messages)
            if worker is None:
                return
            next(messages)
        worker.heard_at = self.now
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
                self._tell_worker(fact.peer, m.Beat())
            elif type(message) is m.Returned:
                self._returned(worker, message.tasks)
            elif type(message) is m.Goodbye:
                self._lose_worker(worker, "said goodbye", is_blamed=False)
                return
            else:
                self._count_bad(e.Side.WORKER, worker.name, f"unexpected {type(message).__name__}")
        self._dispatcher.place(worker)

    def _stranger_said(self, peer: bytes, messages: list[m.Message]) -> Worker | None:
        """Words of a peer that is not registered: a hello, or what a worker says that was taken for lost."""
        if messages and type(messages[0]) is m.WorkerHello:
            return self._worker_hello(peer, messages[0])
        for message in messages:
            if type(message) is m.Answer:
                self._fence(self._ghosts.get(peer) or _printable(peer), message.id)
            elif type(message) is m.Goodbye:
                return None
        self._tell_worker(peer, m.HelloAgain())
        return None

    def _worker_hello(self, peer: bytes, hello: m.WorkerHello) -> Worker | None:
        names = list(dict.fromkeys(hello.services))
        if not (
            _is_name(hello.worker)
            and names
            and all(len(name) <= NAME_CHARS_MAX for name in names)
            and hello.concurrency >= 1
        ):
            text = f"an id has 1 to {NAME_CHARS_MAX} characters, a worker at least one service and one slot"
            self._tell_worker(peer, m.Refused(m.Refusal.BAD_HELLO, text))
            self._count_bad(e.Side.WORKER, hello.worker[:NAME_CHARS_MAX], "a bad hello")
            return None
        known = self._workers_by_name.get(hello.worker)
        if known is not None:
            if known.boot != hello.boot:
                self._tell_worker(peer, m.Refused(m.Refusal.DUPLICATE_ID, f"a worker called {hello.worker!r} lives"))
                self._trace("refused", worker=hello.worker, text="duplicate id")
                self.counts["hellos_refused"] += 1
                return None
            # Over the same connection it lives, and takes nothing down: it only did not hear our welcome in time.
            self._lose_worker(known, "said hello again", is_blamed=known.peer != peer)
        if peer in self.workers:
            self._lose_worker(self.workers[peer], "changed its id")
        services = [self._dispatcher.service(name) for name in names]
        worker = Worker(hello.worker, hello.boot, peer, services, is_plain=False)
        worker.concurrency = hello.concurrency
        worker.credit = max(0, hello.credit)
        self._add_worker(worker)
        self._tell_worker(peer, self._welcome())
        return worker

    def _plain_worker_registered(self, fact: e.PlainWorkerRegistered) -> None:
        known = self.workers.get(fact.peer)
        if known is not None:  # a new program with the same identity
            # If it was only just looked for, what it was given came before it registered, and its REQ socket threw it away.
            is_early = known.is_probed and self.now - known.heard_at < RETURN_RETRY_S
            self._lose_worker(known, "registered anew", is_blamed=not is_early)
        worker = self._add_plain_worker(fact.peer)
        if known is not None and known.owes_since is not None:
            worker.owes_since = self.now

    def _add_plain_worker(self, peer: bytes) -> Worker:
        worker = Worker(_printable(peer), "", peer, [self._dispatcher.service(LAB_SERVICE)], is_plain=True)
        self._add_worker(worker)
        return worker

    def _add_worker(self, worker: Worker) -> None:
        worker.heard_at = self.now
        self._absent_plain_workers.pop(worker.peer, None)
        self.workers[worker.peer] = worker
        if not worker.is_plain:
            self._workers_by_name[worker.name] = worker
            self._sweep_by(self.now + SWEEP_S)
        self._dispatcher.add_worker(worker)
        self.counts["workers_registered"] += 1
        self._trace("worker_ready", worker=worker.name, text=",".join(service.name for service in worker.services))
        if worker.credit == 0 and self.is_tracing:
            self._trace("credit_changed", worker=worker.name, text="0")

    def _credit_changed(self, worker: Worker, credit: int) -> None:
        if self.is_tracing and (credit == 0) is not (worker.credit == 0):  # who wants nothing is not free
            self._trace("credit_changed", worker=worker.name, text=str(credit))
        worker.credit = credit

    def _plain_worker_said(self, fact: e.PlainWorkerSaid) -> None:
        worker = self.workers.get(fact.peer)
        if worker is None or not worker.is_plain:  # taken for lost, but it was only slow: its answer is void, it is not
            self._plain_worker_registered(e.PlainWorkerRegistered(fact.peer))
            if fact.client is not None:
                self._fence(_printable(fact.peer), 0)
            return
        worker.heard_at = self.now
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
                self._count_bad(e.Side.WORKER, worker.name, "answered for another client")
                return
        worker.is_probed = False
        worker.owes_since = None
        worker.is_late = False
        self._late_workers.pop(worker, None)
        self._plain_due.pop(worker, None)
        self._dispatcher.place(worker)

    def _answered(self, worker: Worker, entry: Entry, answer: m.Answer) -> None:
        if worker.suspect is entry:
            worker.suspect = None
        status = answer.status
        if status is Status.OK:
            self._end(entry, r.ANSWERED, answer, "answered", worker)
        elif status is Status.CRASHED:
            self._fail(entry, worker, m.error_of(answer.body)[1])
        elif status in _FROM_WORKER:
            self._end(entry, r.ANSWERED, answer, "failed", worker, m.error_of(answer.body)[0])
        else:
            self._count_bad(e.Side.WORKER, worker.name, f"an answer with status {status.name}")
            error = m.error_body("BadAnswer", f"the worker answered with status {status.name}")
            self._end(entry, r.ANSWERED, m.Answer(0, Status.FAILED, error), "failed", worker, "BadAnswer")

    def _fence(self, worker_name: str, task: int) -> None:
        self.counts["answers_fenced"] += 1
        self._trace("fenced", worker=worker_name, task=task)

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
        self.counts["tasks_returned"] += 1
        if self.is_tracing:
            self._trace_entry("returned", entry, worker, why)
        self._dispatcher.put_back(entry, r.RETURNED)
        if self.is_stopping:
            self._stop_waiting(entry)

    def _fail(self, entry: Entry, worker: Worker, why: str) -> None:
        """An attempt that may have begun took its worker down, or was left behind by it."""
        entry.attempts_failed += 1
        self.counts["attempts_failed"] += 1
        if self.is_tracing:
            self._trace_entry("attempt_failed", entry, worker, why)
        if entry.attempts_failed >= self.limits.attempts_max:
            text = f"{entry.attempts_failed} workers failed at it; the last was {worker.name}: {why}"
            answer = m.Answer(0, Status.GAVE_UP, m.error_body("gave_up", text))
            self._end(entry, r.GAVE_UP, answer, "gave_up", worker, why)
            self.counts["requests_given_up"] += 1
            return
        self._dispatcher.put_back(entry, r.WORKER_FAILED)
        if self.is_stopping:
            self._stop_waiting(entry)

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

    def _lose_worker(self, worker: Worker, why: str, *, is_blamed: bool = True) -> None:
        if worker.in_hand:
            worker.owes_since = next(iter(worker.in_hand.values())).handed_out_at
        elif worker.is_late:
            worker.owes_since = self.now - self.limits.answer_timeout_s
        del self.workers[worker.peer]
        if self._workers_by_name.get(worker.name) is worker:
            del self._workers_by_name[worker.name]
        self._plain_due.pop(worker, None)
        self._late_workers.pop(worker, None)
        self._dispatcher.remove_worker(worker)
        self._ghosts[worker.peer] = worker.name
        if len(self._ghosts) > GHOSTS_MAX:
            del self._ghosts[next(iter(self._ghosts))]
        self.counts["workers_lost"] += 1
        self._trace("worker_lost" if is_blamed else "worker_left", worker=worker.name, text=why)
        self._fail_hand(worker, why, is_blamed=is_blamed)

    # --- connections

    def _peer_lost(self, fact: e.PeerLost) -> None:
        if fact.side is e.Side.CLIENT:
            if fact.peer in self.clients:
                self._client_away(self.clients[fact.peer])
            return
        worker = self.workers.get(fact.peer)
        if worker is None:
            return
        self._lose_worker(worker, "lost its connection")
        if worker.is_plain and not _is_anonymous(fact.peer):
            if not worker.is_probed or self.now - worker.heard_at >= RETURN_RETRY_S:
                worker.absent_since = self.now
            self._absent_plain_workers[fact.peer] = worker
            self._sweep_by(self.now + SWEEP_S)
            if self._workers_connected_at >= worker.heard_at:
                self._await_plain_workers()  # its next connection may be older than the news that the last is lost

    def _peers_connected(self, fact: e.PeersConnected) -> None:
        if fact.side is e.Side.CLIENT:
            self._clients_connected_at = self.now
            if any(client.is_plain and client.kept for client in self._absent_clients):
                self._look_for_clients_soon()
        else:
            self._workers_connected_at = self.now
            if self._absent_plain_workers:
                self._await_plain_workers()

    def _await_plain_workers(self) -> None:
        free_at = max(self._free_at(worker) for worker in self._absent_plain_workers.values())
        self._return_until = max(self.now, free_at) + RETURN_WINDOW_S
        if self._return_at is None:  # not at once: a new program registers first
            self._return_at = self.now + RETURN_RETRY_S

    def _free_at(self, worker: Worker) -> float:
        """When an absent plain worker that still owes an answer has had its time for it."""
        return 0.0 if worker.owes_since is None else worker.owes_since + self.limits.answer_timeout_s

    def _look_for_workers(self) -> None:
        """Plain peers come back without a word: try them. Whoever is not there is undelivered, and away again."""
        self._return_at = self.now + RETURN_RETRY_S if self.now < self._return_until else None
        for worker in list(self._absent_plain_workers.values()):
            if self._free_at(worker) <= self.now:
                self._look_for_worker(worker)

    def _look_for_worker(self, worker: Worker) -> None:
        back = self._add_plain_worker(worker.peer)
        back.is_probed = True
        back.absent_since = worker.absent_since
        back.owes_since = worker.owes_since

    def _look_for_clients_soon(self) -> None:
        if self._look_for_clients_at is None:
            self._look_for_clients_at = max(self.now, self._clients_connected_at + RETURN_GRACE_S)

    def _look_for_clients(self) -> None:
        """The same for clients, once, when those that were started anew have had the time to ask."""
        self._look_for_clients_at = None
        for client in [client for client in self._absent_clients if client.is_plain and client.kept]:
            self._client_back(client)
            kept, client.kept = client.kept, {}
            self._orders.extend(e.SendPlainReply(client.peer, *reply) for reply in kept.values())

    def _undelivered(self, fact: e.Undelivered) -> None:
        self.counts["messages_undelivered"] += 1
        if fact.side is e.Side.CLIENT:
            client = self.clients.get(fact.peer)
            if client is not None:
                self._client_away(client)
                client.kept.update((x.id, ((), x)) for x in fact.messages if type(x) is m.Answer)
            return
        worker = self.workers.get(fact.peer)
        if worker is not None:
            # What did not reach it cannot have begun; what it had before may have.
            sent = [message.id for message in fact.messages if type(message) is m.Task]
            self._returned(worker, list(worker.in_hand) if worker.is_plain else sent)
            self._peer_lost(e.PeerLost(e.Side.WORKER, fact.peer))

    def _reply_undelivered(self, fact: e.ReplyUndelivered) -> None:
        self.counts["messages_undelivered"] += 1
        client = self.clients.get(fact.peer)
        if client is not None:
            self._client_away(client)
            if client.absent_since is not None:
                client.kept[fact.answer.id] = (fact.envelope, fact.answer)

    def _peer_unread(self, fact: e.PeerUnread) -> None:
        self.counts["messages_dropped"] += fact.dropped
        who = (self.clients if fact.side is e.Side.CLIENT else self.workers).get(fact.peer)
        name = who.name if who else _printable(fact.peer)
        self._trace("unread", **{fact.side.value: name}, text=f"{fact.dropped} messages dropped")
        self._peer_lost(e.PeerLost(fact.side, fact.peer))
        if fact.side is e.Side.CLIENT and not (who is not None and who.is_plain):
            # When it reads on, it has to learn that answers are missing, or it would wait for them for ever. A worker
            # speaks first, and is told then.
            self._tell_client(fact.peer, m.HelloAgain())

    def _bad_message_arrived(self, fact: e.BadMessageArrived) -> None:
        known = (self.clients if fact.side is e.Side.CLIENT else self.workers).get(fact.peer)
        self._count_bad(fact.side, known.name if known else _printable(fact.peer), fact.why)

    def _count_bad(self, side: e.Side, who: str, why: str) -> None:
        self.counts["messages_bad"] += 1
        self._trace("bad_message", **{side.value: who}, text=why)

    # --- the end of a request

    def _end(
        self,
        entry: Entry,
        event: r.Table,
        answer: m.Answer | None,
        name: str,
        worker: Worker | None = None,
        text: str = "",
    ) -> None:
        """End ``entry``. In a queue or a hand it stays as a dead entry, to be passed over there."""
        if self.is_tracing:
            self._trace_entry(name, entry, worker, text)
        request, client = entry.request, entry.client
        if entry.worker is None:
            self._dispatcher.bury(entry)
        entry.state = event[entry.state]
        self.requests -= 1
        self.requests_bytes -= len(request.body)
        del client.entries[request.id]
        self.counts[name] += 1
        if answer is not None:
            self._reply(entry, answer)
        if self.is_paused:
            self._resume_if_low()

    def _reply(self, entry: Entry, answer: m.Answer) -> None:
        client = entry.client
        answer.id = entry.request.id
        if client.absent_since is not None:
            client.kept[answer.id] = (entry.envelope, answer)
            if client.is_plain and self._clients_connected_at >= client.heard_at:
                self._look_for_clients_soon()  # it may be back, without a word, even since before its loss was noticed
        elif client.is_plain:
            self._orders.append(e.SendPlainReply(client.peer, entry.envelope, answer))
        else:
            out = self._to_client.get(client.peer)
            if out is None:
                self._to_client[client.peer] = [answer]
            else:
                out.append(answer)

    # --- handing out

    def _hand_out(self) -> None:
        for worker, entries in self._dispatcher.hand_out(self.now, self._next_task):
            self._next_task += len(entries)
            if worker.is_plain:
                (entry,) = entries
                self._orders.append(e.SendPlainTask(worker.peer, _client_frame(worker, entry), entry.request.body))
                self._plain_due[worker] = self.now + self.limits.answer_timeout_s
            else:
                now = self.now
                self._to_worker.setdefault(worker.peer, []).extend(
                    m.Task(
                        entry.task,
                        entry.request.service,
                        entry.request.body,
                        None if entry.deadline_at is None else entry.deadline_at - now,
                        entry.attempts_failed + 1,
                    )
                    for entry in entries
                )
            if self.is_tracing:
                for entry in entries:
                    self._trace_entry("handed_out", entry, worker)
        for entry in self._dispatcher.take_expired(self.now):
            self._expire(entry)

    def _expire(self, entry: Entry) -> None:
        if entry.state is State.ENDED:  # found twice: when its turn came, or by the timers of two times in the queue
            return
        answer = m.Answer(0, Status.EXPIRED, m.error_body("expired", "the deadline passed before a worker was free"))
        self._end(entry, r.EXPIRED, answer, "expired")

    # --- time

    def _keep_time(self) -> None:
        now = self.now
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep()
        while self._plain_due:
            worker, due = next(iter(self._plain_due.items()))
            if now < due:
                break
            del self._plain_due[worker]
            worker.is_late = True
            self.counts["workers_late"] += 1
            self._trace("worker_late", worker=worker.name)
            if worker.is_probed:  # it may not be there at all: look for it again
                self._peer_lost(e.PeerLost(e.Side.WORKER, worker.peer))
                continue
            self._fail_hand(worker, f"no answer in {self.limits.answer_timeout_s:g} s")
            self._dispatcher.place(worker)
            self._late_workers[worker] = now
            self._sweep_by(now + SWEEP_S)
        for entry in self._dispatcher.take_expired(now):
            self._expire(entry)
        if self._dispatcher.recall_at is not None and now >= self._dispatcher.recall_at:
            for worker, tasks in self._dispatcher.recall(now):
                self._tell_worker(worker.peer, m.Recall(tasks))
                self.counts["tasks_recalled"] += len(tasks)
                self._trace("recalled", worker=worker.name, text=f"{len(tasks)} tasks")
        if self._return_at is not None and now >= self._return_at:
            self._look_for_workers()
        if self._look_for_clients_at is not None and now >= self._look_for_clients_at:
            self._look_for_clients()

    def _sweep_by(self, at: float) -> None:
        if self._sweep_at is None:
            self._sweep_at = at

    def _sweep(self) -> None:
        """Look for silent workers and for peers that have been away too long."""
        now, limits = self.now, self.limits
        silent_since = now - limits.liveness_s
        for worker in [w for w in self._workers_by_name.values() if w.heard_at < silent_since]:
            self._lose_worker(worker, f"silent for {limits.liveness_s:g} s")
        gone_since = now - limits.absence_s
        for client in [c for c in self._absent_clients if c.absent_since is not None and c.absent_since < gone_since]:
            if not (client.is_plain and client.entries):  # it may be back, without a word, and wait
                self._forget_client(client, f"away for {limits.absence_s:g} s")
        for client in [c for c, since in self._returned_clients.items() if since < silent_since]:
            del self._returned_clients[client]
            if client.absent_since is None:
                client.kept.clear()
        for worker in [w for w in self._absent_plain_workers.values() if (w.absent_since or 0.0) < gone_since]:
            del self._absent_plain_workers[worker.peer]
        for worker in [w for w, since in self._late_workers.items() if since < gone_since]:
            self._lose_worker(worker, f"late for {limits.absence_s:g} s")
            self._look_for_worker(worker)  # its task or its answer may have been lost, and then it waits for another
        has_reason = (
            self._workers_by_name
            or self._absent_clients
            or self._returned_clients
            or self._absent_plain_workers
            or self._late_workers
        )
        self._sweep_at = now + SWEEP_S if has_reason else None

    # --- stopping

    def _stop_requested(self, fact: e.StopRequested) -> None:
        if self.is_stopping:
            self._stop_by = min(self._stop_by, fact.by)
            return
        self.is_stopping = True
        self._stop_by = fact.by
        self._trace("stopping")
        for client in dict.fromkeys([*self.clients.values(), *self._absent_clients]):
            for entry in list(client.entries.values()):
                if entry.worker is None:
                    self._stop_waiting(entry)

    def _stop_waiting(self, entry: Entry) -> None:
        answer = m.Answer(0, Status.STOPPING, m.error_body("stopping", "the broker is stopping"))
        self._end(entry, r.STOPPED, answer, "stopped")

    def _finish_stopping(self) -> None:
        """Once nothing runs any more, or the grace is over: a clear end for what is left, and goodbye to all."""
        if self._is_stopped or (self.requests and self.now < self._stop_by):
            return
        for worker in list(self.workers.values()):
            self._fail_hand(worker, "the broker is stopping", is_blamed=False)
        for client in self.clients.values():
            if not client.is_plain:
                self._tell_client(client.peer, m.Goodbye())
        for worker in self.workers.values():
            if not worker.is_plain:
                self._tell_worker(worker.peer, m.Goodbye())
        self._trace("stopped_serving")
        self._is_stopped = True

    # --- the trace

    def _trace(self, event: str, **fields: Any) -> None:
        """Record something that does not happen to every request: made even if tracing is off."""
        if self.is_tracing or len(self.records) < RECORDS_MAX:
            self.records.append(e.Record(self.now, event, "broker", self.name, **fields))

    def _trace_entry(self, event: str, entry: Entry, worker: Worker | None = None, text: str = "") -> None:
        client, request = entry.client.name, entry.request
        self.records.append(
            e.Record(
                self.now,
                event,
                "broker",
                self.name,
                f"{client}/{request.id}",
                client,
                request.service,
                worker.name if worker else "",
                entry.task,
                entry.attempts_failed + 1,
                text,
            )
        )

    # --- for tests and status pages

    def check(self) -> None:
        """Assert that the whole state makes sense. For tests: it looks at everything."""
        clients = {*self.clients.values(), *self._absent_clients}
        alive = [entry for client in clients for entry in client.entries.values()]
        assert len(alive) == self.requests, (len(alive), self.requests)
        assert sum(len(entry.request.body) for entry in alive) == self.requests_bytes
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
                assert not worker.is_late and len(worker.in_hand) < min(worker.concurrency, worker.credit)
            if not self.is_stopping:  # G2
                fresh = any(entry.state is State.WAITING for entry in service.waiting)
                assert not (fresh and (service.free or service.ahead)), "room for work while work waits"
                idle = any(not worker.in_hand for worker in service.free)
                assert not (idle and service.waiting_count), "a worker is idle while work waits"


def _client_frame(worker: Worker, entry: Entry) -> bytes:
    """How a plain worker sees a client: by its identity or its id.

    A worker sends that frame back with its answer, and nothing else says what it answers. So if the answer to an earlier
    task may still come, the frame is made one that only this task has.
    """
    client = entry.client
    frame = client.peer if client.is_plain else client.name.encode()
    return frame if worker.owes_since is None else b"%b#%d" % (frame, entry.task)


def _is_anonymous(peer: bytes) -> bool:
    """Whether the ROUTER made this routing id up (libzmq: a zero byte and four more); such a peer never returns."""
    return peer[:1] == b"\0"


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_CHARS_MAX


def _printable(peer: bytes) -> str:
    try:
        name = peer.decode()
    except UnicodeDecodeError:
        return peer.hex()
    return name if name and name.isprintable() else peer.hex()
