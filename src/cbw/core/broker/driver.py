"""Runs the broker's core between its two ports: bytes to facts, in the right order; orders to bytes, until none is left.

All that is decided around the core is decided here, so the real broker, the simulation and the tests' in-memory system run
the same code: a shell only owns sockets and the clock. Three things are kept from one turn to the next: messages for peers
that do not read, the dialects of workers, and when to look again.
"""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core.broker import events
from cbw.core.broker.backlog import Backlog, SendOrder, messages_of
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.events import Event, Side
from cbw.core.dialect import Dialect, WorkerDialect
from cbw.core.messages import Answer, Message, Status, error_body
from cbw.core.plain_messages import PlainReply, PlainRequest
from cbw.core.port import Arrival, Frames, JournalPort, Port, Sent, is_anonymous
from cbw.errors import BadMessage
from cbw.wire import dialects
from cbw.wire.envelope import ENVELOPE_FRAMES_MAX, beginning
from cbw.wire.journal import encode_batch

TURN_MESSAGES = 512
"""Messages taken from one port in a turn: enough to batch well, few enough to stay quick."""
TURN_FAULTS = 32
"""Messages that mean nothing, after which a turn takes no further one from that port. Each takes 40 to 80 µs, as it is counted,
told of and answered, and everybody waits for a turn to end: with 512 of them 25 ms. A ROUTER gives one message of each connection
after the other, so those of others are not far behind."""
UNREAD_RETRY_S = 0.01
"""Time between two attempts to send to peers that did not read."""
LOST_RETRY_S = 0.001
"""How soon a lost peer is looked at again whose last words may not have been read in this turn."""
DISPUTE_MARGIN_S = 0.001
"""How long after its end a dispute over an identity is looked at: then it is over for certain."""
DIALECTS_MAX = 10_000
"""Workers whose dialect is remembered. A forgotten one that returns without a word must register again."""

_CLIENT, _WORKER = Side.CLIENT, Side.WORKER  # for each turn: as messages.OK
_SENT, _FULL = Sent.YES, Sent.FULL


class Driver:
    """Owed by the shell: a :meth:`turn` whenever a port has news and by :attr:`wake_at`, until :attr:`is_over`.

    ``turn_messages`` bounds what is read from each port in a turn.
    """

    def __init__(
        self,
        core: BrokerCore,
        clients: Port,
        workers: Port,
        turn_messages: int = TURN_MESSAGES,
        journal: JournalPort | None = None,
    ) -> None:
        self.core = core
        self.backlog = Backlog(core.limits.parked_bytes_max)
        self.is_reading_clients = True
        """Whether the client port is to be polled: not while far too much waits."""
        self.operator_answers: list[events.AnswerOperator] = []
        """For the shell to take."""
        self.is_over = False
        self._clients = clients
        self._workers = workers
        self._turn_messages = turn_messages
        self._journal = journal
        self._stored = 0
        self._problem = ""
        self._filled = 0.0
        self._dialects: dict[bytes, WorkerDialect] = dict(core.workers.returning)
        self._is_unsettled = True
        self._now = 0.0
        core.unsent_of = core.clients.unsent_of = self._take_unsent
        core.clients.waiting_for = self.backlog.messages_for
        core.requests.streams.narrow.unsent_bytes = lambda: self.backlog.bytes

    def turn(self, now: float, stop_by: float | None = None, asked: Iterable[events.OperatorAsked] = ()) -> None:
        """Take in what the ports have, decide, and carry it out. ``stop_by``: stop, at that time at the latest. What operators
        have ``asked`` is answered in :attr:`operator_answers`.
        """
        self._now = now
        facts = self._facts()
        if stop_by is not None:
            facts.insert(0, events.StopRequested(stop_by))
        facts += asked
        has_backlog = self.backlog.bytes > 0
        self._run(facts)
        # Only now: what waits may be for a client that has come back, or for an identity that has become uncertain (G1, G7).
        if has_backlog and not self.is_over and (facts := self._retry()):
            self._run(facts)

    @property
    def wake_at(self) -> float:
        """When the next :meth:`turn` is due even if no port has news; infinity: never."""
        wake_at = self.core.wake_at
        if self.backlog.bytes:
            wake_at = min(wake_at, self._now + UNREAD_RETRY_S)
        if self._is_unsettled:
            if self._workers.has_lost or self._clients.has_lost:
                wake_at = min(wake_at, self._now + LOST_RETRY_S)
            if self._clients.has_disputes:
                wake_at = min(wake_at, self._clients.dispute_ends_at + DISPUTE_MARGIN_S)
        return wake_at

    def _run(self, facts: list[Event]) -> None:
        """Step the core until no order is left, or it orders the end: nobody would carry out what it decides then."""
        while orders := self._decide(facts):
            facts = self._carry_out(orders)
            if not facts or self.is_over:
                return

    def _decide(self, facts: list[Event]) -> list[Event]:
        return self.core.step(facts, self._now)

    # --- in: what happened, in an order that keeps the promises

    def _facts(self) -> list[Event]:
        """What has happened at both ports.

        What became of clients comes before what workers said: an answer among that must not go to a connection that another
        program has now (G1). Losses come after what was said: a goodbye or an answer may be among that.
        """
        clients, workers = self._clients, self._workers
        # Of workers that have one request among them, one message: to ask for another would delay their answer.
        limit = 1 if self.core.requests.count == 1 else self._turn_messages
        from_workers = self._said(_WORKER, workers.receive(limit))
        facts = self._said(_CLIENT, clients.receive(self._turn_messages)) if self.is_reading_clients else []
        if is_unsettled := clients.is_unsettled:
            facts = self._with_uncertain(facts + self._changes(Side.CLIENT, clients))
        if self._journal is not None:
            facts += self._journal_facts(self._journal)
        facts += from_workers
        if workers.is_unsettled:
            is_unsettled = True
            facts += self._changes(Side.WORKER, workers)
        self._is_unsettled = is_unsettled
        return facts

    def _journal_facts(self, journal: JournalPort) -> list[Event]:
        facts: list[Event] = []
        stored, problem = journal.stored, journal.problem
        if stored != self._stored:
            self._stored = stored
            facts.append(events.JournalStored(stored))
        if problem != self._problem:
            self._problem = problem
            facts.append(events.JournalStalled(problem))
        if (filled := journal.filled) != self._filled:
            self._filled = filled
            facts.append(events.JournalFilled(filled))
        return facts

    def _append(self, order: events.AppendToJournal) -> None:
        assert self._journal is not None
        self._journal.put(order.position, encode_batch(order.batch))

    def _said(self, side: Side, arrivals: Iterable[Arrival]) -> list[Event]:
        facts: list[Event] = []
        read = self._client_said if side is _CLIENT else self._worker_said
        faults_left = TURN_FAULTS
        for arrival in arrivals:
            try:
                if not arrival.fault:
                    facts.append(read(arrival))
                    continue
                fact = self._bad_message(side, arrival, arrival.fault)
            except BadMessage as error:
                fact = self._refuse(side, arrival, str(error))
            facts.append(fact)
            faults_left -= 1
            if not faults_left:
                break
        return facts

    def _client_said(self, arrival: Arrival) -> Event:
        dialect = dialects.of_client(arrival.frames)
        messages = dialect.read(arrival.peer, arrival.frames)
        return events.ClientSaid(arrival.peer, messages, dialect, arrival.is_replaced)

    def _worker_said(self, arrival: Arrival) -> Event:
        peer, frames = arrival.peer, arrival.frames
        shown = dialects.of_worker(frames)
        dialect = shown or self._dialect_of(peer)
        if dialect is None:
            dialect = shown = dialects.of_answer(frames)
        if dialect is None:
            raise BadMessage(f"no registration of a worker: {len(frames)} frames, it begins {beginning(frames)}")
        messages = dialect.read(peer, frames)
        if shown is not None and not shown.is_self_describing:
            self._remember(peer, shown)
        elif shown is not None and self._dialects:  # another program has this identity now
            self._dialects.pop(peer, None)
        return events.WorkerSaid(peer, messages, dialect, arrival.is_replaced)

    def _remember(self, peer: bytes, dialect: WorkerDialect) -> None:
        self._dialects.pop(peer, None)
        self._dialects[peer] = dialect
        if len(self._dialects) > DIALECTS_MAX:
            del self._dialects[next(iter(self._dialects))]

    def _with_uncertain(self, facts: list[Event]) -> list[Event]:
        """Uncertainty comes before ``facts``, as answers among these must not go astray; its end comes after what ended it."""
        changes = [events.IdentityUncertain(*change) for change in self._clients.take_uncertain(self._now)]
        begun = [change for change in changes if change.is_uncertain]
        return [*begun, *facts, *(change for change in changes if not change.is_uncertain)]

    def _changes(self, side: Side, port: Port) -> list[Event]:
        facts: list[Event] = []
        for peer in port.take_lost(self._now):
            facts.append(events.PeerLost(side, peer))
            if is_anonymous(peer):
                self._dialects.pop(peer, None)
        if port.take_connected():
            facts.append(events.PeersConnected(side))
        return facts

    # --- bytes that are no message

    def _refuse(self, side: Side, arrival: Arrival, why: str) -> events.BadMessageArrived:
        """Bytes that are no message; if they are one for the other port, the sender is told that."""
        if dialects.is_for_other_port(arrival.frames, is_client_port=side is Side.CLIENT):
            if side is Side.CLIENT:
                why = f"this port is for clients; workers connect to port {self._workers.port}"
            else:
                why = f"this port is for workers; clients connect to port {self._clients.port}"
        return self._bad_message(side, arrival, why)

    def _bad_message(self, side: Side, arrival: Arrival, why: str) -> events.BadMessageArrived:
        """The fact that ``arrival`` is no message, with what is to be told to its sender."""
        peer, frames = arrival.peer, arrival.frames
        if not frames:
            return events.BadMessageArrived(side, peer, why)
        if side is Side.CLIENT:
            dialect: Dialect = dialects.of_client(frames)
            told = dialect.refusal(frames, why)
            if arrival.fault and not told:
                told = _too_big(dialect, peer, frames, why)
            return events.BadMessageArrived(side, peer, why, dialect, told)
        spoken = dialects.of_worker(frames) or self._dialect_of(peer)
        if spoken is None:
            return events.BadMessageArrived(side, peer, why)
        told = spoken.refusal(frames, why)
        return events.BadMessageArrived(side, peer, why, spoken, told, spoken.has_conversations)

    def _dialect_of(self, worker: bytes) -> WorkerDialect | None:
        """The dialect in which ``worker`` has registered, or did before it was lost."""
        dialect = self._dialects.get(worker)
        if dialect is None:
            row = self.core.workers.by_peer.get(worker)
            if row is not None and not row.dialect.has_sessions:
                return row.dialect
        return dialect

    # --- out: orders to bytes

    def _carry_out(self, orders: list[Event]) -> list[Event]:
        """Do it; what could not be delivered, as facts."""
        undelivered: list[Event] = []
        for order in orders:
            kind = type(order)
            if kind is events.SendToWorker:
                self._send(_WORKER, order, undelivered)  # type: ignore[arg-type]
            elif kind is events.SendToClient:
                self._send(_CLIENT, order, undelivered)  # type: ignore[arg-type]
            elif kind is events.TellDisplaced:
                for frames, _ in order.dialect.write(order.messages):  # type: ignore[attr-defined]
                    self._clients.tell_displaced(order.peer, frames)  # type: ignore[attr-defined]
            elif kind is events.AppendToJournal:
                self._append(order)  # type: ignore[arg-type]
            elif kind is events.CompactJournal:
                self._journal.compact(order.before)  # type: ignore[attr-defined,union-attr]
            elif kind is events.PauseClients:
                self.is_reading_clients = False
            elif kind is events.ResumeClients:
                self.is_reading_clients = True
            elif kind is events.AnswerOperator:
                self.operator_answers.append(order)  # type: ignore[arg-type]
            elif kind is events.Stop:
                self.is_over = True
            else:
                raise TypeError(f"unknown order {order!r}")
        return undelivered

    def _send(self, side: Side, order: SendOrder, undelivered: list[Event]) -> None:
        rest: SendOrder | None = order
        if not (self.backlog.bytes and self.backlog.has(side, order.peer)):
            rest = self._try_to_send(side, order, undelivered)
        if rest is not None:
            self.backlog.add(side, rest, self._now)

    def _try_to_send(self, side: Side, order: SendOrder, undelivered: list[Event]) -> SendOrder | None:
        """What of ``order`` is still to be sent because the peer does not read, or None."""
        port = self._workers if side is _WORKER else self._clients
        peer, count = order.peer, 0
        for frames, size in order.dialect.write(order.messages):
            sent = port.send(peer, frames) if frames else _SENT
            if sent is _SENT:
                count += size
            elif sent is _FULL:
                return type(order)(peer, order.messages[count:], order.dialect) if count else order  # type: ignore[arg-type]
            else:
                undelivered.append(events.Undelivered(side, peer, order.messages[count:]))
                return None
        return None

    def _retry(self) -> list[Event]:
        facts: list[Event] = []
        given_up = self.backlog.retry(self._now, lambda side, order: self._try_to_send(side, order, facts))
        return [*facts, *given_up]

    def _take_unsent(self, side: Side, peer: bytes) -> list[Message]:
        """What waits for ``peer``, which is lost or has another connection now, and waits no longer."""
        return messages_of(self.backlog.forget(side, peer)) if self.backlog else []


def _too_big(dialect: Dialect, peer: bytes, frames: Frames, why: str) -> list[Message]:
    """The reply to a request that is too large, of which ``frames`` are the first."""
    try:
        messages = dialect.read(peer, [*map(bytes, frames[: ENVELOPE_FRAMES_MAX + 1]), b""])
    except BadMessage:  # then there is no envelope to answer in
        return []
    answer = Answer(0, Status.TOO_BIG, error_body("too_big", why))
    return [PlainReply(message.envelope, answer) for message in messages if isinstance(message, PlainRequest)]
