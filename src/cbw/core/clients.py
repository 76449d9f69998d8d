"""Who asks, what is accepted, and what becomes of it.

The requests that are in the broker stand with their clients (``Client.entries``). Each is accepted here, and each ends in
exactly one place, :meth:`Clients.end`; only :mod:`cbw.core.request` says when it may.
"""

from __future__ import annotations

import math

from cbw.core import events as e
from cbw.core import messages as m
from cbw.core import request as r
from cbw.core.dispatch import Dispatcher
from cbw.core.kept import Kept
from cbw.core.limits import NAME_CHARS_MAX, Limits, is_name
from cbw.core.messages import Status
from cbw.core.outbox import Outbox
from cbw.core.tables import LAB_SERVICE, Client, Entry, Worker, is_anonymous, printable

DEAD_BODY_BYTES_MAX = 1024
"""What has ended may lie in a queue or among the timers for a while, but not with a larger body."""
RETURN_GRACE_S = 0.25
"""A client that was started anew asks at once, one that has come back says nothing: so long it is heard first."""


class Clients:
    """The table of clients with their requests, and the answers that are kept for those that are away.

    A CBW/1 client is known by its name, and returns with a new connection and a hello. A plain one is known by the
    identity of its connections, and returns without a word.
    """

    def __init__(self, outbox: Outbox, dispatcher: Dispatcher, limits: Limits, welcome: m.Welcome) -> None:
        self.by_peer: dict[bytes, Client] = {}
        self.requests = 0  # accepted and not ended
        self.requests_bytes = 0
        self.is_paused = False
        self.is_stopping = False
        self.next_plain_id = 1
        self.look_at = math.inf
        self.kept = Kept(outbox, limits.kept_bytes_max)
        self.absent: dict[Client, None] = {}
        self.returned: dict[Client, float] = {}  # they fetch what was kept for them, or do not want it
        self._by_name: dict[str, Client] = {}
        self._connected_at = -math.inf
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._limits = limits
        self._welcome = welcome

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it."""
        client = self.by_peer.get(peer)
        return client.name if client else printable(peer)

    # --- CBW/1

    def said(self, fact: e.ClientSaid) -> None:
        """A batch of a CBW/1 client."""
        client = self.by_peer.get(fact.peer)
        if client is not None and client.is_plain:  # it has not said hello
            client = None
        requests: list[m.Request] = []
        for message in fact.messages:
            if type(message) is m.Request:
                requests.append(message)
            elif type(message) is m.ClientHello:
                if client is not None:
                    self._accept(client, requests)
                    requests = []
                client = self._hello(fact.peer, message)
                if client is None:
                    return
            elif type(message) is m.Beat:
                self._outbox.tell_client(fact.peer, m.Beat())
            elif type(message) is m.Cancel and client is not None:
                self._accept(client, requests)
                requests = []
                self._cancel(client, message.id)
            elif type(message) is m.Goodbye:
                if client is not None:
                    self._forget(client, "said goodbye")
                return
        if client is None and fact.messages:
            self._ask_for_hello(fact.peer)
        elif client is not None:
            self._accept(client, requests)

    def _ask_for_hello(self, peer: bytes) -> None:
        told = self._outbox.to_client.get(peer)
        if not (told and type(told[-1]) is m.HelloAgain):  # once a step is enough
            self._outbox.tell_client(peer, m.HelloAgain())

    def _hello(self, peer: bytes, hello: m.ClientHello) -> Client | None:
        outbox = self._outbox
        if not (is_name(hello.client) and is_name(hello.boot)):
            outbox.tell_client(peer, m.Refused(m.Refusal.BAD_HELLO, f"an id has 1 to {NAME_CHARS_MAX} characters"))
            outbox.count_bad(e.Side.CLIENT, hello.client[:NAME_CHARS_MAX], "a bad id")
            return None
        known = self._by_name.get(hello.client)
        if known is not None and known.boot != hello.boot:
            if known.absent_since is None and known.peer != peer:
                outbox.tell_client(peer, m.Refused(m.Refusal.DUPLICATE_ID, f"a client called {hello.client!r} lives"))
                outbox.trace("refused", client=hello.client, text="duplicate id")
                outbox.counts["hellos_refused"] += 1
                return None
            self._forget(known, "another one took its id")
            known = None
        before = self.by_peer.get(peer)
        if before is not None and before is not known:
            self._forget(before, "changed its id")
        if known is None:
            known = self._by_name[hello.client] = Client(hello.client, hello.boot, peer, is_plain=False)
            outbox.trace("client_hello", client=known.name)
        else:
            if self.by_peer.get(known.peer) is known:
                del self.by_peer[known.peer]
            known.peer = peer
            self._back(known)
        self.by_peer[peer] = known
        outbox.tell_client(peer, self._welcome)
        return known

    def _accept(self, client: Client, requests: list[m.Request]) -> None:
        """The way in of CBW/1 requests: an entry in the client's table and a place in a queue for each."""
        entries, kept = client.entries, client.kept
        outbox, add, now = self._outbox, self._dispatcher.add, self._outbox.now
        for request in requests:
            key = request.id
            if key in entries:  # sent again after a lost connection: it joins the running one
                outbox.counts["requests_joined"] += 1
            elif kept and key in kept:
                outbox.tell_client(client.peer, self.kept.take(client, key))
            elif (refusal := self._refusal(request.service, len(request.body))) is not None:
                self._refuse(client, request, *refusal)
            elif (ttl := request.ttl) is not None and not ttl > 0:  # and no NaN
                self._refuse(client, request, Status.EXPIRED, "the deadline had passed when it arrived")
            else:
                entry = Entry(request, client, r.ACCEPTED, now, None if ttl is None else now + ttl)
                entries[key] = entry
                self.requests += 1
                self.requests_bytes += len(request.body)
                add(entry)
                if outbox.is_tracing:
                    outbox.trace_entry("accepted", entry)
        outbox.counts["requests_arrived"] += len(requests)

    def _refusal(self, service: str, size: int) -> tuple[Status, str] | None:
        limits = self._limits
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
        self._count_refusal(client, request, status, text)
        self._outbox.tell_client(client.peer, m.Answer(request.id, status, m.error_body(status.name.lower(), text)))

    def _count_refusal(self, client: Client, request: m.Request, status: Status, text: str) -> None:
        outbox = self._outbox
        outbox.counts["requests_refused"] += 1
        outbox.counts[f"refused_{status.name.lower()}"] += 1
        outbox.trace("refused", request=f"{client.name}/{request.id}", client=client.name, text=text)

    # --- plain

    def plain_said(self, fact: e.PlainClientSaid) -> None:
        """A request of a plain client."""
        outbox, limits = self._outbox, self._limits
        client = self.by_peer.get(fact.peer)
        if client is not None and not client.is_plain:
            self._forget(client, "speaks another dialect")
            client = None
        if client is None:
            client = self.by_peer[fact.peer] = Client(printable(fact.peer), "", fact.peer, is_plain=True)
        elif fact.is_replaced or client.absent_since is not None:
            self._plain_back(client, fact.envelope)
        client.heard_at = outbox.now
        request = m.Request(self.next_plain_id, LAB_SERVICE, fact.body, limits.plain_ttl_s)
        self.next_plain_id += 1
        outbox.counts["requests_arrived"] += 1
        deadline_at = None if request.ttl is None else outbox.now + request.ttl
        entry = Entry(request, client, r.ACCEPTED, outbox.now, deadline_at, fact.envelope)
        refusal = self._refusal(LAB_SERVICE, len(fact.body))
        # Its dialect has no word for busy: see _pause_if_high.
        if refusal is not None and refusal[0] is not Status.BUSY:
            self._count_refusal(client, request, *refusal)
            self._reply(entry, m.Answer(0, refusal[0], m.error_body(refusal[0].name.lower(), refusal[1])))
            return
        client.entries[request.id] = entry
        self.requests += 1
        self.requests_bytes += len(fact.body)
        self._dispatcher.add(entry)
        if outbox.is_tracing:
            outbox.trace_entry("accepted", entry)
        self._pause_if_high()

    def _plain_back(self, client: Client, envelope: tuple[bytes, ...]) -> None:
        """It speaks over a new connection. Answers are told apart by their envelopes alone, so what it asked before with
        this envelope is void: a REQ socket asks anew only if it gave up the old request, or is another program's (G1).
        """
        if client.absent_since is not None:
            self._back(client)
        for key, entry in list(client.entries.items()):
            if entry.envelope == envelope:
                self._cancel(client, key, "asked anew from another connection", is_told=False)
        self._outbox.orders.extend(
            e.SendPlainReply(client.peer, *reply) for reply in self.kept.take_all(client) if reply[0] != envelope
        )

    def _pause_if_high(self) -> None:
        """Back-pressure for plain clients: at twice the limit the port is read no more, and TCP makes them wait."""
        limits = self._limits
        is_high = self.requests >= 2 * limits.requests_max or self.requests_bytes >= 2 * limits.requests_bytes_max
        if is_high and not self.is_paused:
            self.is_paused = True
            self._outbox.orders.append(e.PauseClients())
            self._outbox.trace("paused", text=f"{self.requests} requests")

    def _resume_if_low(self) -> None:
        limits = self._limits
        if self.requests < limits.requests_max and self.requests_bytes < limits.requests_bytes_max:
            self.is_paused = False
            self._outbox.orders.append(e.ResumeClients())
            self._outbox.trace("resumed")

    # --- the end of a request

    def end(
        self,
        entry: Entry,
        event: r.Table,
        answer: m.Answer | None,
        name: str,
        worker: Worker | None = None,
        text: str = "",
    ) -> None:
        """End ``entry``, with ``answer`` for its client; the trace and the counts call it ``name``.

        In a queue or a hand it stays as a dead entry, to be passed over there.
        """
        outbox = self._outbox
        if outbox.is_tracing or (event is r.GAVE_UP and outbox.wants_failures):
            outbox.trace_entry(name, entry, worker, text)
        request, client = entry.request, entry.client
        if entry.worker is None:
            self._dispatcher.bury(entry)
        entry.state = event[entry.state]
        self.requests -= 1
        self.requests_bytes -= len(request.body)
        del client.entries[request.id]
        if len(request.body) > DEAD_BODY_BYTES_MAX:
            entry.request = m.Request(request.id, request.service, b"")
        outbox.counts[name] += 1
        if event is r.ANSWERED:
            outbox.latencies_s.append(outbox.now - entry.accepted_at)
        if answer is not None:
            self._reply(entry, answer)
        if self.is_paused:
            self._resume_if_low()

    def expire(self, entry: Entry) -> None:
        """Its deadline passed while it waited."""
        name = entry.request.service
        service = self._dispatcher.services.get(name)
        has_worker = service is not None and bool(service.workers)
        why = "was free" if has_worker else f"came that serves {name!r}" if name else "came"
        text = f"the deadline passed before {'another' if entry.attempt > 1 else 'a'} worker {why}"
        if entry.attempt > 1:
            text += f"; {entry.attempt - 1} failed at it"
        answer = m.Answer(0, Status.EXPIRED, m.error_body("expired", text))
        self.end(entry, r.EXPIRED, answer, "expired")

    def stop(self) -> None:
        """Accept nothing more, and tell the clients of what waits to ask somebody else."""
        self.is_stopping = True
        for client in dict.fromkeys([*self.by_peer.values(), *self.absent]):
            for entry in list(client.entries.values()):
                if entry.worker is None:
                    self.stop_waiting(entry)

    def stop_waiting(self, entry: Entry) -> None:
        """Nobody will run it any more."""
        answer = m.Answer(0, Status.STOPPING, m.error_body("stopping", "the broker is stopping"))
        self.end(entry, r.STOPPED, answer, "stopped")

    def say_goodbye(self) -> None:
        """To all that have a word for it."""
        for client in self.by_peer.values():
            if not client.is_plain:
                self._outbox.tell_client(client.peer, m.Goodbye())

    def _cancel(self, client: Client, key: int, why: str = "cancelled by the client", *, is_told: bool = True) -> None:
        entry = client.entries.get(key)
        if entry is None:
            return
        if entry.worker is not None and not entry.worker.is_plain:
            # The slot stays taken until the worker says what became of it: it may not be able to stop.
            self._outbox.tell_worker(entry.worker.peer, m.CancelTask(entry.task))
        answer = m.Answer(key, Status.CANCELLED, m.error_body("cancelled", why)) if is_told else None
        self.end(entry, r.CANCELLED, answer, "cancelled", entry.worker, why)

    def _reply(self, entry: Entry, answer: m.Answer) -> None:
        client, outbox = entry.client, self._outbox
        answer.id = entry.request.id
        if client.absent_since is not None or client.is_doubted:
            self.kept.keep(client, entry.envelope, answer)
            if client.is_plain and self._connected_at >= client.heard_at:
                self._look_soon()  # it may be back, without a word, even since before its loss was noticed
        elif client.is_plain:
            outbox.orders.append(e.SendPlainReply(client.peer, entry.envelope, answer))
        else:
            out = outbox.to_client.get(client.peer)
            if out is None:
                outbox.to_client[client.peer] = [answer]
            else:
                out.append(answer)

    # --- away and back

    def lost(self, peer: bytes) -> None:
        """Its connection is gone; it may come back, unless the ROUTER made its identity up."""
        client = self.by_peer.get(peer)
        if client is not None:
            self._away(client)

    def undelivered(self, fact: e.Undelivered) -> None:
        """A batch did not reach it: the answers are kept."""
        client = self.by_peer.get(fact.peer) or next((c for c in self.absent if c.peer == fact.peer), None)
        if client is not None and not client.is_plain:  # else the CBW/1 client that it was for is forgotten
            self._away(client)
            for message in fact.messages:
                if type(message) is m.Answer:
                    self.kept.keep(client, (), message)

    def reply_undelivered(self, fact: e.ReplyUndelivered) -> None:
        """The same for a plain one."""
        self._outbox.counts["messages_undelivered"] += 1
        client = self.by_peer.get(fact.peer)
        if client is not None:
            self._away(client)
            if client.absent_since is not None:
                self.kept.keep(client, fact.envelope, fact.answer)

    def unread(self, fact: e.PeerUnread) -> None:
        """It has not read for long. When it reads on, it has to learn that answers are missing, or it would wait for
        them for ever.
        """
        client = self.by_peer.get(fact.peer)
        self.lost(fact.peer)
        if client is None or not client.is_plain:
            self._ask_for_hello(fact.peer)

    def connected(self) -> None:
        """Somebody has connected, and it may be one of those that were lost."""
        self._connected_at = self._outbox.now
        if self.kept.count and any(client.is_plain and client.kept for client in self.absent):
            self._look_soon()

    def look(self) -> None:
        """Plain clients come back without a word: try them, once, when those that were started anew have had the time
        to ask. Whoever is not there is undelivered, and away again.
        """
        self.look_at = math.inf
        for client in [client for client in self.absent if client.is_plain and client.kept and not client.is_doubted]:
            self._back(client)
            self._send_kept(client)

    def doubted(self, fact: e.PeerDoubted) -> None:
        """As long as another program may have its identity, a plain client gets nothing (G1)."""
        client = self.by_peer.get(fact.peer)
        if client is None or not client.is_plain or client.is_doubted is fact.is_doubted:
            return
        client.is_doubted = fact.is_doubted
        if fact.is_doubted:
            self._outbox.counts["clients_doubted"] += 1
            self._outbox.trace("client_doubted", client=client.name, text="another program may have its identity")
        elif client.absent_since is None:
            self._send_kept(client)
        elif client.kept:
            self._look_soon()

    def _send_kept(self, client: Client) -> None:
        self._outbox.orders.extend(e.SendPlainReply(client.peer, *reply) for reply in self.kept.take_all(client))

    def _look_soon(self) -> None:
        if self.look_at == math.inf:
            self.look_at = max(self._outbox.now, self._connected_at + RETURN_GRACE_S)

    def _away(self, client: Client) -> None:
        if client.absent_since is not None:
            return
        if client.is_plain and is_anonymous(client.peer):
            self._forget(client, "lost its connection")
            return
        client.absent_since = self._outbox.now
        self.absent[client] = None
        if not client.is_plain:
            del self.by_peer[client.peer]
        self._outbox.trace("client_away", client=client.name)

    def _back(self, client: Client) -> None:
        if client.absent_since is not None:
            client.absent_since = None
            del self.absent[client]
            if client.kept:
                self.returned[client] = self._outbox.now
        self._outbox.trace("client_back", client=client.name)

    def _forget(self, client: Client, why: str) -> None:
        for key in list(client.entries):
            self._cancel(client, key, why, is_told=False)
        self.kept.take_all(client)
        self.absent.pop(client, None)
        self.returned.pop(client, None)
        if self.by_peer.get(client.peer) is client:
            del self.by_peer[client.peer]
        if self._by_name.get(client.name) is client:
            del self._by_name[client.name]
        self._outbox.trace("client_gone", client=client.name, text=why)

    # --- time

    @property
    def wants_sweep(self) -> bool:
        """Whether anybody is away, or has just come back."""
        return bool(self.absent or self.returned)

    def sweep(self) -> None:
        """Forget those that have been away too long, and what those that are back do not fetch."""
        now, limits = self._outbox.now, self._limits
        gone_since = now - limits.absence_s
        for client in [c for c in self.absent if c.absent_since is not None and c.absent_since < gone_since]:
            if not (client.is_plain and client.entries):  # it may be back, without a word, and wait
                self._forget(client, f"away for {limits.absence_s:g} s")
        for client in [c for c, since in self.returned.items() if since < now - limits.liveness_s]:
            del self.returned[client]
            if client.absent_since is None and not client.is_doubted:
                self.kept.take_all(client)
