"""The client's core: which requests are in flight, what is sent to the broker and when, and how each request ends.

What is asked for under a ticket counts as a request too: it is in flight until the broker has answered.

A request is in flight from its :class:`~cbw.core.client.events.Submitted` to its one
:class:`~cbw.core.client.events.Ended`, however many connections that takes. After each hello everything in flight is sent
again under the same ids; the broker recognizes what it has already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cbw.core import messages
from cbw.core.agenda import Agenda
from cbw.core.client import events
from cbw.core.client.capability import as_known, why_unknown
from cbw.core.client.late_answers import LateAnswers
from cbw.core.client.pending import Pending, pending_start, pending_stream, why_expired
from cbw.core.client.retries import Retries
from cbw.core.client.standing import TRANSITIONS, Standing
from cbw.core.client.unwanted import Unwanted
from cbw.core.hello import Patience, is_about_keys
from cbw.core.messages import OK, Status
from cbw.core.port import UNSENT_RETRY_S
from cbw.core.service_latencies import UNCOUNTED_MAX, ServiceLatencies

HELLO_PATIENCE_S = 3.0
"""Seconds without a welcome after which the hello is said again: a broker throws away what waits for a peer that did not
read for long, its welcome too."""
UNASKED_BYTES = 512 * 1024
"""A larger body is sent only when the broker has told its limit: one far over it would end the connection, every time."""
RECEIVED_DELAY_S = 0.02
"""How long the broker is not told which answers have arrived, if there is nothing else to tell it."""
RECEIVED_MAX = 256
"""Most answers of which the broker is not told at once."""
OVERDUE_S = 0.05
"""Time in seconds, beside a round trip, in which the broker is to say where a request is whose deadline has passed."""
ROUND_TRIP_S_MAX = 1.0
"""Longest round trip that is waited for, in seconds: some satellites need 0.7."""
EXPIRY_STEP_S = 0.01
"""Shortest time in seconds between two searches for expired requests: each looks at everything in flight."""


class ClientCore:
    """Decides for one client. ``name``, ``boot`` and ``proof`` are those of :class:`~cbw.core.messages.ClientHello`.

    ``chance`` is a number from 0 to 1 that was drawn at random: all clients that a busy broker has refused would otherwise
    come back at the same time.

    After each :meth:`step` the caller owes every order carried out, in this order, and another step by :attr:`wake_at`.
    """

    def __init__(self, name: str, boot: str, chance: float = 0.0, proof: bytes = b"") -> None:
        self.name = name
        self.boot = boot
        self._proof = proof
        self.standing = Standing.DISCONNECTED
        self.in_flight: dict[int, Pending] = {}
        self.broker: messages.Welcome | None = None  # what it said of itself, while the client is welcomed
        self.refused: messages.Refused | None = None  # what the broker said if it refuses this client for good
        self.has_met_broker = False
        self.ended = 0  # requests that have ended
        self.sent_again = 0
        self.retried = 0  # requests that were sent again because the broker was busy
        self.late = LateAnswers()
        self.latencies = ServiceLatencies()  # of requests that were answered, or not in time
        self._count_at = UNCOUNTED_MAX  # when so many have ended
        self._is_connected = False  # and not refused
        self._is_over = False  # refused or closed: whatever is submitted ends at once
        self._agenda = Agenda()
        self._expiry = self._agenda.timer(self._expire)
        self._hello = self._agenda.timer(self._say_hello)
        self._hello_at = self._round_trip_s = 0.0
        self.hello_refused = ""  # why the last hello was not answered with a welcome
        self._retry = self._agenda.timer(self._send_unsent)
        self._receipt = self._agenda.timer(self._tell_received)
        self._received: list[int] = []  # answers of which the broker has not been told that they have arrived
        self._busy = Retries(chance)
        self._busy_timer = self._agenda.timer(self._send_refused)
        self._patience = Patience()
        self._unsent: list[messages.Message] = []  # there was no room for these; whatever comes later waits behind them
        self._waiting_for_welcome: list[Pending] = []  # what depends on what the broker says of itself
        self._unwanted = Unwanted()
        self._to_send: list[messages.Message] = []
        self._to_end: list[events.Ended] = []
        self._to_deliver: list[tuple[Any, messages.AnswerPart | messages.ProgressMade]] = []
        self._resent: list[int] = []

    def step(self, facts: Iterable[events.Fact], now: float) -> list[events.Order]:
        """Take in ``facts``, do what is due at ``now`` (monotonic seconds, never going back), and say what to do."""
        for fact in facts:
            if type(fact) is events.BatchArrived:
                self._batch_arrived(fact.messages, now)
            elif type(fact) is events.Submitted:
                self._submitted(fact, now)
            elif type(fact) is events.StartRequested:
                self._asked(pending_start(fact, now), now)
            elif type(fact) is events.CollectRequested:
                collect = messages.Collect(fact.id, fact.ticket)
                self._asked(Pending(collect, fact.sink, fact.deadline_at, may_retry=True, submitted_at=now), now)
            else:
                self._happened(fact, now)
        self._agenda.run(now)
        orders: list[events.Order] = []
        if self._received and (self._to_send or len(self._received) > RECEIVED_MAX):
            self._tell_received(now)
        if self._to_send:
            if self._unsent:
                self._unsent += self._to_send
            else:
                orders.append(events.Send(self._to_send))
            self._to_send = []
        if self._to_deliver:
            orders.append(events.Deliver(self._to_deliver))
            self._to_deliver = []
        if self._to_end:
            self.ended += len(self._to_end)
            if self.ended >= self._count_at:
                self._count_at = self.ended + UNCOUNTED_MAX
                self.latencies.count()
            orders.append(events.End(self._to_end))
            self._to_end = []
        if self._resent:
            orders.append(events.ReportResent(self._resent))
            self._resent = []
        return orders

    @property
    def wake_at(self) -> float:
        """When :meth:`step` wants to be called even if nothing happens; infinity: never."""
        return self._agenda.wake_at

    def _happened(self, fact: events.Fact, now: float) -> None:
        """Take in one of the facts that are rare."""
        match fact:
            case events.Connected():
                self._connected(now)
            case events.Disconnected():
                self._disconnected()
            case events.StreamRequested():
                self._asked(pending_stream(fact, now), now)
            case events.PartsTaken():
                self._parts_taken(fact)
            case events.CancelRequested():
                self._cancel_requested(fact.request_ids)
            case events.Unsent():
                self._unsent = list(fact.messages)
                self._retry.set(now + UNSENT_RETRY_S)
            case events.CloseRequested():
                self._close()
            case _:
                raise TypeError(f"unknown fact {fact!r}")

    # --- the program's requests

    def _submitted(self, fact: events.Submitted, now: float) -> None:
        if self._is_over:
            self._end_unwanted(fact)
            return
        service, sink, deadline_at, priority = fact.service, fact.sink, fact.deadline_at, fact.priority
        may_retry = fact.may_retry and deadline_at is not None
        ttl, due_at, headers = None, fact.due_at, fact.headers
        delay_s = None if due_at is None else max(0.0, due_at - now)
        if deadline_at is not None:
            ttl = deadline_at - now
            self._expiry.set_by(deadline_at)
        submitted_at = fact.submitted_at
        if submitted_at is None:
            submitted_at = now
        is_connected, in_flight, to_send = self._is_connected, self.in_flight, self._to_send
        request_id = fact.first_id
        if fact.requires_worker:
            for key, body in enumerate(fact.bodies, request_id):
                choosy = messages.RequestIfServed(key, service, body, ttl, priority, delay_s, headers)
                self._asked(Pending(choosy, sink, deadline_at, may_retry, submitted_at, due_at=due_at), now)
            return
        for body in fact.bodies:
            request = messages.Request(request_id, service, body, ttl, priority, delay_s, headers)
            pending = Pending(request, sink, deadline_at, may_retry, submitted_at, due_at=due_at)
            in_flight[request_id] = pending
            if is_connected:
                if len(body) <= UNASKED_BYTES:
                    to_send.append(request)
                else:
                    self._send_welcomed(pending, now)
            request_id += 1
        self.late.submitted(request_id - 1)

    def _asked(self, pending: Pending, now: float) -> None:
        """The program wants something under a ticket: only a broker that has said so knows what that is."""
        if self._is_over:
            self._end_unsent(pending)
            return
        self.in_flight[pending.request.id] = pending
        self.late.submitted(pending.request.id)
        if pending.deadline_at is not None:
            self._expiry.set_by(pending.deadline_at)
        if self._is_connected:
            self._send_welcomed(pending, now)

    def _tell_received(self, _now: float) -> None:
        self._receipt.clear()
        if self._received and self.broker is not None:
            self._to_send.append(messages.Received(self._received))
        self._received = []

    def _end_unwanted(self, fact: events.Submitted) -> None:
        """End what was submitted before the program could know that nobody will answer it."""
        for request_id, body in enumerate(fact.bodies, fact.first_id):
            request = messages.Request(request_id, fact.service, body)
            self._end_unsent(Pending(request, fact.sink, None, may_retry=False, submitted_at=0.0))

    def _end_unsent(self, pending: Pending) -> None:
        if self.refused is not None:
            self._end(pending, Status.FAILED, self.refused.text, refused=self.refused)
        else:
            self._end(pending, Status.CANCELLED, "the client was closed", is_closed=True)

    def _cancel_requested(self, request_ids: list[int]) -> None:
        for request_id in request_ids:
            pending = self.in_flight.pop(request_id, None)
            if pending is None:
                continue
            if self._is_connected:
                self._to_send.append(messages.Cancel(request_id))
            if self.standing is not Standing.WELCOMED or pending.is_stream:
                self._unwanted.add([request_id], are_streams=pending.is_stream)
            self._end(pending, Status.CANCELLED, "cancelled by this client")

    def _expire(self, now: float) -> None:
        in_flight = self.in_flight
        expired = [p for p in in_flight.values() if p.deadline_at is not None and p.deadline_at <= now]
        is_reached = self.broker is not None
        for pending in expired:
            request = pending.request
            if self._is_connected and not pending.is_overdue:
                self._to_send.append(messages.Cancel(request.id, is_late=True))
            if is_reached and not pending.is_overdue and type(request) is not messages.Start:
                pending.is_overdue, pending.deadline_at = True, now + OVERDUE_S + self._round_trip_s
            else:
                del in_flight[request.id]
                pending.tell_time(self.latencies, now)
                if pending.is_stream:
                    self._cancel_again(request.id)
                self._end(pending, Status.EXPIRED, *why_expired(request, self.broker, self.hello_refused))
        next_at = min((p.deadline_at for p in in_flight.values() if p.deadline_at is not None), default=None)
        if next_at is not None:
            self._expiry.set(max(next_at, now + EXPIRY_STEP_S))

    def _close(self) -> None:
        if self.standing is Standing.CLOSED:
            return
        is_connected = self._is_connected
        self._end_all(Status.CANCELLED, "the client was closed", is_closed=True)
        self._enter(Standing.CLOSED)
        self._to_send = [messages.Goodbye()] if is_connected else []

    # --- the connection

    def _connected(self, now: float) -> None:
        if not self._is_over:
            self._patience.welcomed()
            self._unwanted.connected()
            self.hello_refused = ""
            self._enter(Standing.GREETING)
            self._say_hello(now)

    def _disconnected(self) -> None:
        if not self._is_over:
            self._enter(Standing.DISCONNECTED)
            self._hello.clear()
            self._forget_unsent()

    def _enter(self, standing: Standing) -> None:
        assert standing in TRANSITIONS[self.standing], f"{self.standing} -> {standing}"
        self.standing = standing
        self._is_connected = standing in (Standing.GREETING, Standing.WELCOMED)
        self._is_over = standing in (Standing.REFUSED, Standing.CLOSED)
        if standing is not Standing.WELCOMED:
            self.broker = None

    def _say_hello(self, now: float) -> None:
        """Introduce the client, and send everything that is in flight."""
        self._hello.set(now + HELLO_PATIENCE_S)
        self._hello_at = now
        self.late.hello_said()
        self._forget_unsent()
        self._busy.clear()  # this broker may have room
        to_send = self._to_send
        to_send.append(messages.ClientHello(self.name, self.boot, self._proof))
        to_send.extend(map(messages.Cancel, self._unwanted))
        if self._unwanted.told():
            to_send.append(messages.Beat())
        self._waiting_for_welcome.clear()
        for pending in self.in_flight.values():
            request = pending.request
            if pending.is_overdue:
                continue
            if type(request) is not messages.Request or len(request.body) > UNASKED_BYTES:
                self._waiting_for_welcome.append(pending)
                continue
            pending.renew(now)
            to_send.append(pending.request)
        if self.has_met_broker and self.in_flight:
            self.sent_again += len(self.in_flight)
            self._resent = [key for key, p in self.in_flight.items() if type(p.request) is messages.Request]

    def _forget_unsent(self) -> None:
        """Drop what was not sent, but for cancels: the next hello sends everything else again."""
        unsent = [*self._unsent, *self._to_send]
        self._unwanted.add(m.id for m in unsent if type(m) is messages.Cancel)
        self._unwanted.not_sent(sum(type(m) is messages.Beat for m in unsent))
        self._unsent, self._to_send = [], []
        self._retry.clear()

    def _send_unsent(self, _now: float) -> None:
        self._to_send, self._unsent = self._unsent + self._to_send, []

    def _send_welcomed(self, pending: Pending, now: float) -> None:
        """Send what is large, or has a ticket, to a broker that takes it, when it has said that it does."""
        request, broker = pending.request, self.broker
        size = 0 if isinstance(request, messages.Collect) else len(request.body)
        if broker is None:
            self._waiting_for_welcome.append(pending)
        elif why := why_unknown(request, broker):
            del self.in_flight[request.id]
            refused = messages.Refused(messages.Refusal.VERSION, why)
            self._end(pending, Status.FAILED, refused.text, refused=refused)
        elif size > broker.body_bytes_max:
            del self.in_flight[request.id]
            text = f"{size} bytes; the broker allows {broker.body_bytes_max} (--body-bytes-max)"
            self._end(pending, Status.TOO_BIG, text)
        else:
            pending.renew(now)
            self._to_send.append(as_known(request, broker))

    # --- what the broker says

    @property
    def _owes_receipts(self) -> bool:
        """Whether the broker keeps answers until it is told that they have arrived."""
        return self.broker is not None and self.broker.stores_answers

    def _batch_arrived(self, batch: list[messages.Message], now: float) -> None:
        in_flight, to_end = self.in_flight, self._to_end
        owes_receipts = self._owes_receipts
        for message in batch:
            if type(message) is not messages.Answer:
                self._heard(message, now)
                owes_receipts = self._owes_receipts  # a welcome may come before answers
            elif message.status is OK or not self._is_to_be_sent_again(message, now):
                if owes_receipts:
                    self._received.append(message.id)
                    self._receipt.set_by(now + RECEIVED_DELAY_S)
                pending = in_flight.pop(message.id, None)
                if pending is None:
                    self.late.came(message.id)
                    self._unwanted.answered(message.id)
                elif pending.is_overdue and message.status is Status.CANCELLED:  # by a broker that does not say why
                    pending.tell_time(self.latencies, now)
                    self._end(pending, Status.EXPIRED, "no answer in time")
                elif type(pending.request) is messages.Request:  # the usual case
                    service = pending.request.service
                    to_end.append(events.Ended(pending.sink, message, service, self.name))
                    self.latencies.remembered[service].append(now - pending.submitted_at)
                else:
                    pending.tell_time(self.latencies, now)
                    to_end.append(self._ended(pending, message))
                    if pending.may_run_again:
                        self._cancel_again(message.id)

    def _is_to_be_sent_again(self, answer: messages.Answer, now: float) -> bool:
        """Whether the request of this ``answer`` goes on: after the next hello, or when the broker has room."""
        return answer.status is Status.STOPPING or (answer.status is Status.BUSY and self._may_retry(answer, now))

    def _may_retry(self, answer: messages.Answer, now: float) -> bool:
        """The broker is too busy for this request: whether it is sent again later, or ends."""
        pending = self.in_flight.get(answer.id)
        if pending is None or pending.deadline_at is None or not pending.may_retry:
            return False
        if not self._busy.add(answer.id, answer.retry_after_s, pending.deadline_at, now):
            return False
        self._busy_timer.set(self._busy.next_at)
        return True

    def _send_refused(self, now: float) -> None:
        """Send what the broker was too busy for, where it is due."""
        due = [self.in_flight[i] for i in self._busy.take_due(now) if i in self.in_flight]
        if len(self._busy):
            self._busy_timer.set(self._busy.next_at)
        if self._is_connected:  # otherwise the next hello sends them
            self.retried += len(due)
            for pending in due:
                request = pending.request
                if type(request) is messages.Request:
                    self._resent.append(request.id)
                if type(request) is not messages.Request or len(request.body) > UNASKED_BYTES:
                    self._send_welcomed(pending, now)
                else:
                    pending.renew(now)
                    self._to_send.append(request)

    def _heard(self, message: messages.Message, now: float) -> None:
        if not self._is_connected and (self._is_over or not is_about_keys(message)):
            return
        match message:
            case messages.Welcome():
                self._welcomed(message, now)
            case messages.HelloAgain():
                if self.standing is Standing.WELCOMED:  # otherwise a hello is on its way already
                    self._enter(Standing.GREETING)
                    self._say_hello(now)
            case messages.Refused():
                self._was_refused(message, now)
            case messages.Started():
                self._was_started(message)
            case messages.AnswerPart() | messages.ProgressMade():
                self._came(message)
            case messages.Beat():
                self._unwanted.beat_came()

    def _came(self, message: messages.AnswerPart | messages.ProgressMade) -> None:
        """A part of an answer, or how far one is."""
        pending = self.in_flight.get(message.id)
        if pending is not None:
            if pending.came(message):
                self._to_deliver.append((pending.sink, message))
        elif type(message) is messages.AnswerPart and message.id not in self._unwanted:
            self._cancel_again(message.id)

    def _cancel_again(self, request_id: int) -> None:
        """A stream may still run for nobody, and would wait for ever: it was sent again while its answer was on the way, or the
        broker does not say that it has heard that its time is over.
        """
        self._unwanted.add([request_id], are_streams=True)
        if self._is_connected:
            self._to_send.append(messages.Cancel(request_id))

    def _parts_taken(self, fact: events.PartsTaken) -> None:
        pending = self.in_flight.get(fact.request_id)
        if pending is not None and pending.took(fact.count) and self.broker is not None:  # otherwise it is sent again
            self._to_send.append(pending.parts_wanted)

    def _welcomed(self, welcome: messages.Welcome, now: float) -> None:
        self._enter(Standing.WELCOMED)
        self.broker = welcome
        self.has_met_broker = True
        self.hello_refused = ""
        self._round_trip_s = min(ROUND_TRIP_S_MAX, now - self._hello_at)
        self._unwanted.greeted()
        self._hello.clear()
        self._patience.welcomed()
        large, self._waiting_for_welcome = self._waiting_for_welcome, []
        for pending in large:
            if pending.request.id in self.in_flight:
                self._send_welcomed(pending, now)

    def _was_refused(self, refused: messages.Refused, now: float) -> None:
        retry_at = self._patience.retry_at(refused, now)
        self._hello.set(retry_at)
        self.hello_refused = refused.text
        if not self._hello.is_set:
            self.refused = refused
            self._end_all(Status.FAILED, refused.text, refused=refused)
            self._enter(Standing.REFUSED)

    def _was_started(self, started: messages.Started) -> None:
        pending = self.in_flight.get(started.id)
        if pending is not None and type(pending.request) is messages.Start:
            del self.in_flight[started.id]
            answer = messages.Answer(started.id, Status.OK, b"")
            self._to_end.append(self._ended(pending, answer, is_durable=started.is_durable))

    # --- ends

    def _end(self, pending: Pending, status: Status, text: str, kind: str = "", **why: Any) -> None:
        answer = messages.Answer(pending.request.id, status, messages.error_body(kind or status.name.lower(), text))
        self._to_end.append(self._ended(pending, answer, **why))

    def _ended(self, pending: Pending, answer: messages.Answer, **why: Any) -> events.Ended:
        request, sink = pending.request, pending.sink
        if isinstance(request, messages.Request):
            return events.Ended(sink, answer, request.service, self.name, **why)
        if isinstance(request, messages.Collect):
            return events.Ended(sink, answer, "", self.name, ticket=request.ticket, **why)
        return events.Ended(sink, answer, request.service, self.name, ticket=request.ticket, is_start=True, **why)

    def _end_all(self, status: Status, text: str, **why: Any) -> None:
        """Nothing that is in flight will be answered, and nothing more is sent."""
        for pending in self.in_flight.values():
            self._end(pending, status, text, **why)
        self.in_flight.clear()
        self._waiting_for_welcome.clear()
        self._forget_unsent()
        self._busy.clear()
        for timer in (self._expiry, self._hello, self._busy_timer):
            timer.clear()
