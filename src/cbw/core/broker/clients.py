"""The table of clients: who is here, who is away, who has come back.

A client with sessions (CBW/1) is known by its id, and returns with a new connection and a hello. Any other is known by the
identity of its connections, and returns without a word. What becomes of their requests is decided in
:mod:`cbw.core.broker.requests`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker.events import ClientSaid, IdentityUncertain, PeerUnread, Side, Undelivered
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.requests import Requests
from cbw.core.broker.rights import Rights
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.broker.tickets import Tickets
from cbw.core.dialect import ClientDialect
from cbw.core.identities import NAME_CHARS_MAX, NO_PROOF, PROOF_RULE, is_name, is_proof, is_proven
from cbw.core.journal_records import Asker
from cbw.core.key import ANYBODY, Key
from cbw.core.messages import (
    NO_WORKER,
    Answer,
    Beat,
    Cancel,
    ClientHello,
    Collect,
    Goodbye,
    HelloAgain,
    Message,
    PartsWanted,
    Received,
    Refusal,
    Refused,
    Request,
    RequestIfServed,
    Start,
    Status,
    StreamRequest,
    Welcome,
)
from cbw.core.plain_messages import PlainPartial, PlainReply, PlainRequest
from cbw.core.port import is_anonymous, printable

RETURN_GRACE_S = 0.25
"""Delay before parked replies are sent to a client that may be back, so that a restarted program can speak first."""


class Clients:
    """All clients by their connections, and those that are away."""

    def __init__(
        self, outbox: Outbox, requests: Requests, tickets: Tickets, limits: Limits, welcome: Welcome, agenda: Agenda
    ) -> None:
        self.by_peer: dict[bytes, ClientRow] = {}
        self.absent: dict[ClientRow, None] = {}
        self._by_name: dict[str, ClientRow] = {}  # only those with sessions
        self.came_back: dict[ClientRow, list[Entry]] = {}
        """Those without sessions that have asked over a new connection in this step, with what was open of them before."""
        self._returned: dict[
            ClientRow, float
        ] = {}  # since when they are back: they fetch what is parked, or do not want it
        self.unsent_of: Callable[[Side, bytes], Sequence[Message]] = lambda side, peer: ()
        """Takes away what the driver could not send to a connection yet."""
        self.waiting_for: Callable[[Side, bytes], Sequence[Message]] = lambda side, peer: ()
        """Tells what the driver could not send to a connection yet, and leaves it there."""
        self.next_plain_id = 1
        self._uncertain: dict[bytes, None] = {}  # identities that another program may have now
        self._connected_at = -math.inf
        self._flush_timer = agenda.timer(self._flush_parked)
        self._outbox = outbox
        self._requests = requests
        self._tickets = tickets
        self._limits = limits
        self._welcome = welcome
        self.rights = Rights(outbox, requests.tell)
        requests.on_parked = self._parked

    def name_of(self, peer: bytes) -> str:
        """What the trace calls it."""
        client = self.by_peer.get(peer)
        return client.name if client else printable(peer)

    @property
    def all(self) -> list[ClientRow]:
        """The clients that are here, those that are away, and nobody, who asks for dead letters that are sent again."""
        return list(dict.fromkeys([*self.by_peer.values(), *self.absent, self._requests.dead.nobody]))

    # --- what they say

    def said(self, fact: ClientSaid) -> None:
        """A client sent a batch."""
        if not fact.dialect.has_sessions:
            for message in fact.messages:
                if isinstance(message, PlainRequest):
                    self._plain_request(fact, message)
            return
        client = self.by_peer.get(fact.peer)
        if client is not None and not client.dialect.has_sessions:  # it has not said hello
            client = None
        requests: list[Request] = []
        for message in fact.messages:
            if type(message) is Request:
                requests.append(message)
            elif type(message) is ClientHello:
                if client is not None:
                    self._accept(client, requests)
                    requests = []
                client = self._hello(fact, message)
                if client is None:
                    return
            elif type(message) is RequestIfServed:
                if client is None or self._may_wait(client, message):
                    requests.append(message)
            elif type(message) is Beat and client is not None:
                self._outbox.tell_client(client, Beat())
            elif type(message) is Received and client is not None:
                self._requests.acknowledged(client, message.requests)
            elif type(message) is Cancel and client is not None:
                self._accept(client, requests)
                requests = []
                self._cancel(client, message)
            elif type(message) is Start and client is not None:
                if client.key.may_ask(message.service):
                    self._tickets.start(client, message)
                else:
                    self.rights.deny(client, message.id, message.service)
            elif type(message) is Collect and client is not None:
                self._collect(client, message)
            elif type(message) is StreamRequest and client is not None:
                self._accept(client, requests)
                requests = []
                self._ask_stream(client, message)
            elif type(message) is PartsWanted and client is not None:
                self._requests.streams.wanted(client, message)
            elif type(message) is Goodbye:
                if client is not None:
                    self._forget(client, "said goodbye")
                return
        if client is None and fact.messages:
            self._outbox.tell_strange_client(fact.peer, fact.dialect, HelloAgain())
        elif client is not None:
            self._accept(client, requests)

    def _accept(self, client: ClientRow, requests: list[Request]) -> None:
        """Take on ``requests``, but not those whose answers wait for this connection: they are not run again (G7)."""
        if requests and (unsent := self.waiting_for(Side.CLIENT, client.peer)):
            answered = {message.id for message in unsent if type(message) is Answer}
            requests = [request for request in requests if request.id not in answered]
        self._requests.accept(client, self.rights.permitted(client, requests))

    def _ask_stream(self, client: ClientRow, request: StreamRequest) -> None:
        streams = self._requests.streams
        if streams.asked(client, request) and (not request.requires_worker or self._may_wait(client, request)):
            self._accept(client, [request])
            streams.begin(client, request)

    def _may_wait(self, client: ClientRow, request: Request) -> bool:
        """Whether a worker serves ``request``, or it is here already. If not, ``client`` is told."""
        requests, service = self._requests, request.service
        if request.id in client.entries or request.id in client.parked or requests.expiries.is_served(service):
            return True
        text = requests.expiries.why_unserved(client, service, self._outbox.now)
        requests.tell(client, (), requests.refusals.answer(client, request, Status.EXPIRED, text, NO_WORKER))
        return False

    def _cancel(self, client: ClientRow, cancel: Cancel) -> None:
        entry = client.entries.get(cancel.id)
        if entry is None:
            self._tickets.cancel(client, cancel.id, is_late=cancel.is_late)
        elif cancel.is_late:
            self._requests.expire(entry)
        else:
            self._requests.cancel(entry, "cancelled by the client", is_told=True)

    def _collect(self, client: ClientRow, collect: Collect) -> None:
        """Send a client the answer that it asks for by its ticket. One that could not be sent before is parked like any other."""
        if collect.id in client.parked:
            self._requests.parked.take(client, collect.id)
        unsent = self.waiting_for(Side.CLIENT, client.peer)
        if not any(type(message) is Answer and message.id == collect.id for message in unsent):
            self._tickets.collect(client, collect)

    def _hello(self, fact: ClientSaid, hello: ClientHello) -> ClientRow | None:
        outbox, peer = self._outbox, fact.peer
        if not (is_name(hello.client) and is_name(hello.boot) and is_proof(hello.proof)):
            refused = Refused(Refusal.BAD_HELLO, f"an id has 1 to {NAME_CHARS_MAX} characters, {PROOF_RULE}")
            outbox.tell_strange_client(peer, fact.dialect, refused)
            outbox.count_bad(Side.CLIENT, hello.client[:NAME_CHARS_MAX], "a bad id or proof")
            return None
        known = self._by_name.get(hello.client)
        key, why = self.rights.key_for(peer, known)
        if why:
            outbox.tell_strange_client(peer, fact.dialect, Refused(Refusal.KEY, why))
            outbox.trace(catalogue.REFUSED, client=hello.client, text=why)
            outbox.counts["hellos_refused"] += 1
            return None
        if known is not None and (why := _why_refused(known, hello, peer)):
            refused = Refused(Refusal.DUPLICATE_ID, f"a client called {hello.client!r} lives")
            outbox.tell_strange_client(peer, fact.dialect, refused)
            outbox.trace(catalogue.REFUSED, client=hello.client, text=why)
            outbox.counts["hellos_refused"] += 1
            return None
        if known is not None and known.boot != hello.boot:
            self._forget(known, "another one took its id")
            known = None
        before = self.by_peer.get(peer)
        if before is not None and before is not known:
            self._forget(before, "changed its id")
        if known is None:
            known = ClientRow(hello.client, hello.boot, peer, fact.dialect, hello.proof)
            known.key = key
            self._by_name[hello.client] = known
            outbox.trace(catalogue.CLIENT_HELLO, client=known.name, fields=key.fields)
        else:
            if self.by_peer.get(known.peer) is known:
                del self.by_peer[known.peer]
            if (
                known.peer != peer
            ):  # the loss of its last connection may be told only later: what is unsent is parked now,
                self._park(known, self.unsent_of(Side.CLIENT, known.peer))  # before the client asks for it again (G7)
            known.peer = peer
            if known.key is not key:
                known.key, known.asker = key, None
            self._back(known)
        self.by_peer[peer] = known
        outbox.tell_client(known, self._welcome)
        return known

    def _plain_request(self, fact: ClientSaid, asked: PlainRequest) -> None:
        """A client without sessions asks: it gets an id for its request, and what it asked before may be void."""
        client = self.by_peer.get(fact.peer)
        if fact.is_replaced:
            waiting = next(iter(client.entries.values()), None) if client is not None else None
            of_whom = (waiting.client.dialect, waiting.envelope) if waiting else (fact.dialect, asked.envelope)
            self._outbox.tell_displaced(fact.peer, *of_whom)
        key = client.key if client is not None else ANYBODY
        if client is None or fact.is_replaced or client.is_only_tried or client.absent_since is not None:
            key, why = self.rights.key_for(fact.peer, client)
            if why:
                self._outbox.trace(catalogue.REFUSED, client=printable(fact.peer), text=why)
                self._outbox.counts["requests_refused"] += 1
                if client is not None:  # what it waits for must not go to the other's connection
                    self._away(client)
                return
        if client is not None and client.dialect is not fact.dialect:
            self._forget(client, "speaks another dialect")
            client = None
        if client is None:
            client = self.by_peer[fact.peer] = ClientRow(printable(fact.peer), "", fact.peer, fact.dialect)
            client.is_uncertain = fact.peer in self._uncertain
        elif fact.is_replaced or client.is_only_tried or client.absent_since is not None:
            self._plain_back(client)
        if client in self.came_back:
            self._void(client, asked)
        client.key = key
        client.heard_at = self._outbox.now
        number = self.next_plain_id
        self.next_plain_id += 1
        request = Request(number, asked.service, asked.body, self._limits.plain_ttl_s)
        self._requests.accept(client, self.rights.permitted(client, [request], asked.envelope), asked.envelope)
        if client.dialect.takes_partials and number in client.entries:
            self._requests.streams.begin_plain(client.entries[number])

    def _plain_back(self, client: ClientRow) -> None:
        """Note that a plain client has a new connection. What was parked for it is sent when all its words are taken in."""
        if client.absent_since is None and client.entries and not client.is_only_tried:
            text = "give each program an id of its own"
            self._outbox.trace(catalogue.IDENTITY_TAKEN, client=client.name, text=text)
        unsent = self.unsent_of(Side.CLIENT, client.peer)
        self._park(client, [*unsent, *self._outbox.take_back(client.peer)])
        if client.absent_since is not None:
            self._back(client)
        self.came_back[client] = list(client.entries.values())

    def _void(self, client: ClientRow, asked: PlainRequest) -> None:
        """Answers are told apart by their envelopes alone, so what was asked over an earlier connection with that of ``asked`` is
        void: a REQ socket asks anew only if it gave up the old request, or is another program's (G1). If something else was asked
        with it, another program has this identity now, and all that the earlier one asked is void.
        """
        before = [entry for entry in self.came_back[client] if client.entries.get(entry.request.id) is entry]
        same = [entry for entry in before if entry.envelope == asked.envelope]
        if any(entry.state is not RequestState.ENDED and entry.request.body != asked.body for entry in same):
            same = before
            self._requests.parked.drop_all(client)
        for entry in same:
            self._requests.cancel(entry, "asked anew from another connection")
        void = [key for key, reply in client.parked.items() if reply.envelope == asked.envelope]
        self._requests.parked.drop(client, void)

    def welcome_back(self) -> None:
        """Send those that have asked over a new connection in this step what was parked for them, as far as it is not void."""
        came_back, self.came_back = self.came_back, {}
        for client in came_back:
            if not client.is_away:
                self._requests.send_parked(client)

    # --- from a journal

    def restore(self, asker: Asker, dialect: ClientDialect) -> ClientRow:
        """A client of an earlier broker, which is away."""
        known = self._by_name.get(asker.name) if dialect.has_sessions else self.by_peer.get(asker.peer)
        if known is not None and known.boot == asker.boot:  # it has got its key since then
            known.key = _key_of(asker)
            return known
        if dialect.has_sessions:
            client = self._by_name[asker.name] = ClientRow(asker.name, asker.boot, b"", dialect, asker.proof)
        else:
            client = self.by_peer[asker.peer] = ClientRow(printable(asker.peer), "", asker.peer, dialect)
            client.is_uncertain = asker.peer in self._uncertain
        client.absent_since = self._outbox.now
        client.key = _key_of(asker)
        self.absent[client] = None
        return client

    def seen_id(self, client: ClientRow, request: int) -> None:
        """An earlier broker has given a request of ``client`` this id, if the client does not number its requests."""
        if not client.dialect.has_sessions:
            self.next_plain_id = max(self.next_plain_id, request + 1)

    # --- away and back

    def lost(self, peer: bytes) -> None:
        """Its connection is gone; it may come back, unless the ROUTER made its identity up."""
        client = self.by_peer.get(peer)
        if client is not None:
            self._away(client)

    def undelivered(self, fact: Undelivered) -> None:
        """A batch did not reach it: the answers in it are parked."""
        client = self.by_peer.get(fact.peer) or next((c for c in self.absent if c.peer == fact.peer), None)
        if client is None:  # it is forgotten, and with it what it wanted
            return
        client.missed_at = self._outbox.now
        self._away(client)
        if client.absent_since is not None:
            self._park(client, fact.messages)

    def _park(self, client: ClientRow, messages: Sequence[Message]) -> None:
        for message in messages:
            if type(message) is Answer and client.dialect.has_sessions:
                self._requests.parked.park(client, (), message)
            elif type(message) is PlainReply and not client.dialect.has_sessions:
                self._requests.park_unsent(client, message.envelope, message.answer)
            elif type(message) is PlainPartial:
                self._outbox.counts["partials_dropped"] += 1

    def unread(self, fact: PeerUnread) -> None:
        """Take a client that has not read for long for absent: when it reads on, it learns so that answers are missing.

        It would wait for them for ever otherwise.
        """
        if (client := self.by_peer.get(fact.peer)) is not None:
            self._requests.streams.unread(client)
        self.lost(fact.peer)
        if isinstance(fact.dialect, ClientDialect) and fact.dialect.has_sessions:
            self._outbox.tell_strange_client(fact.peer, fact.dialect, HelloAgain())

    def connected(self) -> None:
        """Somebody has connected, and it may be one of those that were lost."""
        self._connected_at = self._outbox.now
        if self._requests.parked.count and any(not c.dialect.has_sessions and c.parked for c in self.absent):
            self._flush_soon()

    def _parked(self, client: ClientRow) -> None:
        """A reply was parked: its client may be back without a word."""
        if not client.dialect.has_sessions and self._is_untried(client):
            self._flush_soon()

    def _is_untried(self, client: ClientRow) -> bool:
        """Whether anybody has connected since ``client`` last spoke, and it was not tried since whether that was the client."""
        return self._connected_at >= client.heard_at and self._connected_at + RETURN_GRACE_S > client.missed_at

    def _flush_soon(self) -> None:
        self._flush_timer.set_by(max(self._outbox.now, self._connected_at + RETURN_GRACE_S))

    def _flush_parked(self, now: float) -> None:
        """Try once those that may be back without a word, as they have had the time to ask. Who is not there is away again."""
        pressure = self._requests.back_pressure
        if pressure.is_on or now < pressure.ended_at + RETURN_GRACE_S:  # their port was not read, so nobody could ask
            self._flush_timer.set(now + RETURN_GRACE_S)
            return
        for client in list(self.absent):
            if client.parked and not client.dialect.has_sessions and not client.is_uncertain:
                client.tried_since = client.absent_since
                self._back(client)
                self._requests.send_parked(client)

    def identity_uncertain(self, fact: IdentityUncertain) -> None:
        """Send a client without sessions nothing as long as another program may have its identity (G1)."""
        if fact.is_uncertain:
            self._uncertain[fact.peer] = None
        else:
            self._uncertain.pop(fact.peer, None)
        client = self.by_peer.get(fact.peer)
        if client is None or client.dialect.has_sessions or client.is_uncertain is fact.is_uncertain:
            return
        client.is_uncertain = fact.is_uncertain
        if fact.is_uncertain:
            self._park(client, self.unsent_of(Side.CLIENT, client.peer))
            self._outbox.counts["clients_uncertain"] += 1
            self._outbox.trace(
                catalogue.CLIENT_UNCERTAIN, client=client.name, text="another program may have its identity"
            )
        elif client.absent_since is None:
            self._requests.send_parked(client)
        elif client.parked:
            self._flush_soon()

    def _away(self, client: ClientRow) -> None:
        if client.absent_since is not None:
            return
        if not client.dialect.has_sessions and is_anonymous(client.peer):
            self._forget(client, "lost its connection")
            return
        client.absent_since = client.tried_since if client.is_only_tried else self._outbox.now
        self.absent[client] = None
        self._tickets.leave(client)
        if client.dialect.has_sessions:
            del self.by_peer[client.peer]
        self._outbox.trace(catalogue.CLIENT_AWAY, client=client.name)

    def _back(self, client: ClientRow) -> None:
        if client.absent_since is not None:
            client.absent_since = None
            del self.absent[client]
        if client.parked:
            self._returned[client] = self._outbox.now
        self._outbox.trace(catalogue.CLIENT_BACK, client=client.name)

    def _forget(self, client: ClientRow, why: str) -> None:
        self._requests.cancel_all(client, why)
        self._tickets.leave(client)
        self.absent.pop(client, None)
        self._returned.pop(client, None)
        if self.by_peer.get(client.peer) is client:
            del self.by_peer[client.peer]
        if self._by_name.get(client.name) is client:
            del self._by_name[client.name]
        self._outbox.trace(catalogue.CLIENT_GONE, client=client.name, text=why)

    def say_goodbye(self) -> None:
        """The broker ends: tell those that have a word for it."""
        for client in self.by_peer.values():
            if client.dialect.has_sessions:
                self._outbox.tell_client(client, Goodbye())

    # --- time

    @property
    def needs_sweep(self) -> bool:
        """Whether anybody is away, or has just come back."""
        has_stored = self._requests.journal is not None and self._requests.parked.count > 0
        return bool(self.absent or self._returned or has_stored)

    def sweep(self, now: float) -> None:
        """Forget those that have been away too long, and what those that are back do not fetch."""
        limits = self._limits
        gone_since = now - limits.absence_s
        kept_since = gone_since  # for whom something is stored
        if self._requests.journal is not None:
            kept_since = min(gone_since, now - limits.answers_keep_s)
            self._requests.parked.drop_older(now - limits.answers_keep_s)
        for client in [c for c in self.absent if (c.absent_since or 0.0) < now - limits.liveness_s]:
            if client.dialect.has_sessions:
                self._requests.streams.left_alone(client)
        for client in [c for c in self.absent if c.absent_since is not None and c.absent_since < gone_since]:
            if (client.entries or client.parked) and (client.absent_since or 0.0) >= kept_since:
                continue
            # Any other may be back without a word, and wait for an answer, or for a reply that is withheld from it or not tried.
            may_wait = client.entries or (client.parked and (client.is_uncertain or self._is_untried(client)))
            if client.dialect.has_sessions or not may_wait:
                self._forget(client, f"away for {limits.absence_s:g} s")
        for client in [c for c, since in self._returned.items() if since < now - limits.liveness_s]:
            since = self._returned.pop(client)
            if client.absent_since is None and client.dialect.has_sessions:  # of what came since, it may not know yet
                self._requests.parked.drop_all(client, until=since)
            elif client.is_only_tried:  # nobody tells of the loss of a connection that has said nothing
                self._away(client)


def _why_refused(known: ClientRow, hello: ClientHello, peer: bytes) -> str:
    """Why nobody may say ``hello`` over the connection ``peer`` while ``known`` has the id; empty: one may."""
    if known.boot != hello.boot:
        return "duplicate id" if known.absent_since is None and known.peer != peer else ""
    return "" if is_proven(known.proof, hello.proof) else NO_PROOF


def _key_of(asker: Asker) -> Key:
    """The key of a client that is restored, until it is back and shows it: enough to know it by."""
    return Key("client", "", asker.key) if asker.key else ANYBODY
