"""The broker's decisions, put together: facts in, orders out.

Two rules hold in the broker's core:

1. :meth:`BrokerCore.step` is the only way in. It takes everything that has happened since the last call as a list of
   facts, decides once, and returns everything that is to be done as a list of orders, one batch a peer.
2. A request ends in exactly one place, :meth:`cbw.core.broker.requests.Requests.end`.

The life of a request is in :mod:`.requests`, who is here in :mod:`.clients` and :mod:`.workers`, what outlives its client in
:mod:`.tickets`, and which request goes to which worker in :mod:`.dispatch`. :mod:`.driver` runs the core between its ports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cbw.core import catalogue
from cbw.core.agenda import Agenda
from cbw.core.broker import events, schemas
from cbw.core.broker.acts import Acts
from cbw.core.broker.clients import Clients
from cbw.core.broker.dead_services import DeadServices
from cbw.core.broker.events import Side
from cbw.core.broker.inherited import InheritedAnswers
from cbw.core.broker.journal import Journal
from cbw.core.broker.limits import Limits
from cbw.core.broker.looks import Looks
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.own_services import IS_SERVED, telling_if_served
from cbw.core.broker.recovery import Recovery
from cbw.core.broker.replay import Replay
from cbw.core.broker.requests import Requests
from cbw.core.broker.rights import KeyOf
from cbw.core.broker.service_list import ServiceList
from cbw.core.broker.tables import ClientRow
from cbw.core.broker.tickets import Tickets
from cbw.core.broker.workers import Workers
from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.key import OPERATOR
from cbw.core.messages import Answer, Message, Request, Status, Welcome, error_body
from cbw.wire import native

SWEEP_S = 0.25
"""Time between two looks for silent and absent peers: well under a beat of 1 s."""
STALL_S = 1.0
"""A broker that was not called for so long, although it wanted to be, has stood still itself: nobody's silence counts."""


class BrokerCore:
    """Facts in, orders out; see the rules at the head of the file.

    ``name`` and ``boot`` are what it calls itself to its peers. ``first_task`` should be different at every start, so
    that an answer for an earlier broker's task cannot be taken for one of ours. Without ``is_tracing`` only what is out
    of the ordinary is recorded. One that ``has_journal`` is told by :meth:`use_journal` what stands in it.

    The rooms ``requests``, ``clients``, ``tickets``, ``workers`` and ``outbox`` are for looking at.
    """

    def __init__(
        self,
        name: str = "BRO",
        boot: str = "0",
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        first_task: int = 1,
        is_tracing: bool = False,
        has_journal: bool = False,
    ) -> None:
        self.name = name
        self.boot = boot
        self.limits = limits
        welcome = Welcome(
            name,
            boot,
            limits.liveness_s,
            limits.body_bytes_max,
            stores_answers=has_journal,
            keeps_tickets=True,
            takes_retries=True,
            refuses_unserved=True,
            takes_streams=True,
        )
        self.unsent_of: Callable[[Side, bytes], Sequence[Message]] = lambda side, peer: ()
        """Takes away what the driver has not been able to send to a peer; the driver sets it."""
        self._agenda = Agenda()
        self.outbox = Outbox(name, is_tracing=is_tracing)
        self.requests = Requests(self.outbox, limits, self._agenda, first_task, boot)
        self.tickets = Tickets(self.outbox, self.requests, limits, self._agenda)
        self.clients = Clients(self.outbox, self.requests, self.tickets, limits, welcome, self._agenda)
        self.requests.streams.waiting_for = lambda side, peer: self.clients.waiting_for(side, peer)
        inherited = InheritedAnswers(self.clients, self.requests, self.outbox, limits)
        self.workers = Workers(self.outbox, self.requests, inherited, limits, welcome, self._agenda)
        own, dead = self.requests.own, DeadServices(self.outbox, self.requests, self.tickets)
        services, workers = self.requests.dispatcher.services, self.workers.by_peer
        own.add({IS_SERVED: telling_if_served(services, own.names)})
        own.add(ServiceList(services, workers, self.requests.durations, self.outbox).all)
        own.add({**schemas.ALL, **Looks(self).all, **dead.looks}, acts={**Acts(self).all, **dead.acts})
        self._sweep_timer = self._agenda.timer(self._sweep)
        self._stop_timer = self._agenda.timer(lambda now: None)  # a step at that time is all that it takes
        self._quiet_timer = self._agenda.timer(lambda now: None)
        self._stepped_at = 0.0
        self._is_stopped = False
        self._on: dict[type, Callable[[Any], None]] = {
            events.ClientSaid: self.clients.said,
            events.WorkerSaid: self.workers.said,
            events.PeerLost: self._peer_lost,
            events.PeersConnected: self._peers_connected,
            events.IdentityUncertain: self.clients.identity_uncertain,
            events.Undelivered: self._undelivered,
            events.PeerUnread: self._peer_unread,
            events.BadMessageArrived: self._bad_message_arrived,
            events.StopRequested: self._stop_requested,
            events.OperatorAsked: self._operator_asked,
            events.JournalStored: lambda fact: self.requests.stored(fact.position),
            events.JournalStalled: self._journal_stalled,
            events.JournalFilled: self._journal_filled,
        }

    def use_journal(self, replay: Replay, now: float) -> None:
        """Write a journal from now on, which says ``replay``. Before the first step."""
        self.outbox.now = now
        journal = self.requests.journal = self.requests.dead.journal = Journal(self.outbox, self._agenda)
        journal.is_waited_for = lambda client: bool(self.clients.waiting_for(Side.CLIENT, client.peer))
        recovery = Recovery(self.outbox, self.requests, self.clients, self.tickets, self.workers, journal)
        recovery.restore(replay, now)
        journal.begin(self.name, self.boot)

    def use_keys(self, key_of_client: KeyOf, key_of_worker: KeyOf) -> dict[bytes, str]:
        """Ask these for the keys that peers have shown. Before the first step, and after :meth:`use_journal`.

        Returns the identities of plain clients in the journal, each with the name of the key that it belongs to.
        """
        self.clients.rights.key_of, self.workers.key_of = key_of_client, key_of_worker
        plain = (client for client in self.clients.all if client.peer and not client.dialect.has_sessions)
        return {client.peer: client.key.name for client in plain if client.key.name}

    def ask_who_may_act(self, why_not: Callable[[bytes], str]) -> None:
        """Ask this, without keys, why a client may not act on the broker; empty: it may. Before the first step."""
        self.requests.own.why_not_act = why_not

    # --- the way in

    def step(self, facts: Iterable[events.Event], now: float) -> list[events.Event]:
        """Take in ``facts``, decide at time ``now`` (monotonic seconds, never going back), and say what to do.

        The caller owes: every order carried out in this order, an ``Undelivered`` fact for each that could not be, the
        records of the trace taken from ``outbox``, and another call by :attr:`wake_at` even without facts.
        """
        self.outbox.now = now
        for fact in facts:
            self._on[type(fact)](fact)
        if self.clients.came_back:
            self.clients.welcome_back()
        self._agenda.run(now)
        self._stepped_at = now
        journal, is_stopping = self.requests.journal, self.requests.stopping.is_on
        if not is_stopping or (journal is None and not self._is_stopped):
            self.workers.hand_out()
        if is_stopping:
            self._finish_stopping(now)
        if journal is not None:
            journal.close_turn(now, is_prompt=is_stopping)
        self.requests.durations.count_if_many()
        if self._sweep_timer.at == math.inf and self._needs_sweep:
            self._sweep_timer.set(now + SWEEP_S)
        orders = self.outbox.take_orders()
        if self._is_stopped:
            orders.append(events.Stop())
        return orders

    @property
    def wake_at(self) -> float:
        """When :meth:`step` wants to be called even if nothing happens; infinity: only for a fact."""
        return self._agenda.wake_at

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self.requests.stopping.is_on

    @property
    def _needs_sweep(self) -> bool:
        """Whether anybody's silence counts, that of the journal too."""
        journal = self.requests.journal
        return self.workers.needs_sweep or self.clients.needs_sweep or (journal is not None and journal.is_waiting)

    def _sweep(self, now: float) -> None:
        if now - self._stepped_at > STALL_S:
            self._sweep_timer.set(now + SWEEP_S)  # hear the others first
            if (journal := self.requests.journal) is not None:
                journal.wait_anew(now)
        else:
            self.workers.sweep(now)
            self.clients.sweep(now)

    # --- connections

    def _peer_lost(self, fact: events.PeerLost) -> None:
        if unsent := self.unsent_of(fact.side, fact.peer):
            self._undelivered(events.Undelivered(fact.side, fact.peer, unsent))
        self._side(fact.side).lost(fact.peer)

    def _peers_connected(self, fact: events.PeersConnected) -> None:
        self._side(fact.side).connected()

    def _undelivered(self, fact: events.Undelivered) -> None:
        self.outbox.counts["messages_undelivered"] += 1
        self._side(fact.side).undelivered(fact)

    def _peer_unread(self, fact: events.PeerUnread) -> None:
        side, dropped = self._side(fact.side), len(fact.messages)
        self.outbox.counts["messages_dropped"] += dropped
        self.outbox.trace(
            catalogue.UNREAD, **{fact.side.value: side.name_of(fact.peer)}, text=f"{dropped} messages dropped"
        )
        side.unread(fact)

    def _bad_message_arrived(self, fact: events.BadMessageArrived) -> None:
        outbox, peer, dialect = self.outbox, fact.peer, fact.dialect
        outbox.count_bad(fact.side, self._side(fact.side).name_of(peer), fact.why)
        if fact.ends_conversation:
            self.workers.end_conversation(peer, fact.why)
        for message in fact.told:
            if isinstance(dialect, ClientDialect):
                outbox.tell_strange_client(peer, dialect, message)
            elif isinstance(dialect, WorkerDialect):
                outbox.tell_strange_worker(peer, dialect, message)

    def _side(self, side: Side) -> Clients | Workers:
        return self.clients if side is Side.CLIENT else self.workers

    # --- the journal

    def _journal_stalled(self, fact: events.JournalStalled) -> None:
        journal = self.requests.journal
        assert journal is not None
        journal.reported = fact.problem
        self.outbox.trace(catalogue.JOURNAL_STALLED, text=fact.problem or "it stores again")

    def _journal_filled(self, fact: events.JournalFilled) -> None:
        journal = self.requests.journal
        assert journal is not None
        was_full = journal.is_full
        journal.fill(fact.filled)
        if journal.is_full is not was_full:
            self.requests.dispatcher.spare(is_sparing=journal.is_full)
            self.outbox.trace(catalogue.JOURNAL_STALLED, text=journal.lack_of_room or "it has room again")

    # --- people

    def _operator_asked(self, fact: events.OperatorAsked) -> None:
        operator = ClientRow(fact.name, "", b"", native.CLIENT)
        operator.key = OPERATOR
        own = self.requests.own
        if problem := own.problem:
            answer = Answer(0, Status.BUSY, error_body("busy", problem))
        else:
            answer = own.answer(operator, Request(1, fact.service, fact.body))
        self.outbox.order(events.AnswerOperator(fact.number, answer))

    # --- stopping

    def _stop_requested(self, fact: events.StopRequested) -> None:
        self._stop_timer.set_by(fact.by)
        if not self.requests.stopping.is_on:
            self.outbox.trace(catalogue.STOPPING)
            self.requests.stopping.begin(self._all_clients)

    @property
    def _all_clients(self) -> list[ClientRow]:
        return [*self.clients.all, *self.tickets.rows.values()]

    def _finish_stopping(self, now: float) -> None:
        """Once nothing runs any more, or the grace is over: a clear end for what is left, and goodbye to all."""
        is_over = now >= self._stop_timer.at or not self._stop_timer.is_set
        journal = self.requests.journal
        is_at_work = bool(self.requests.count) if journal is None else self.workers.has_work or not journal.is_settled
        if self._is_stopped:
            return
        quiet_at = self.requests.stopping.quiet_at
        if not is_over and (is_at_work or now < quiet_at):
            if not is_at_work:
                self._quiet_timer.set(quiet_at)
            return
        self.requests.stopping.begin(self._all_clients, is_grace_over=True)
        self.workers.stop()
        self.clients.say_goodbye()
        self.outbox.trace(catalogue.STOPPED_SERVING)
        self._is_stopped = True
        self._stop_timer.clear()
        self._quiet_timer.clear()
