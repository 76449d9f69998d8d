"""The client's decisions: what is in flight, what is sent when, how each request ends.

A request is in flight from :meth:`ClientCore.submit` until it is handed back by :meth:`ClientCore.received` or
:meth:`ClientCore.tick` with the one answer that ends it. Connections come and go in between: after each one, everything
in flight is sent again under the same ids, and the broker joins what it knows already.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from cbw.core import messages as m
from cbw.core.hello import Patience
from cbw.core.messages import Status

HELLO_PATIENCE_S = 3.0
"""After so long without a word to it, a hello is said again: of a peer that did not read, all that waits is thrown away."""
UNASKED_BYTES = 512 * 1024
"""A larger body is sent only when the broker has told its limit: one far over it would end the connection, every time."""
CANCELLED_MAX = 10_000
"""So many cancelled requests are kept to be told of, the newest."""
EXPIRY_STEP_S = 0.01
"""Deadlines are looked at no more often than this."""


class Pending(msgspec.Struct, gc=False, eq=False):
    """A request in flight. ``sink`` belongs to the caller of :meth:`ClientCore.submit`."""

    request: m.Request
    sink: Any
    deadline_at: float | None


class Ended(msgspec.Struct, gc=False):
    """The end of a request: its sink, and the answer in which it is told."""

    sink: Any
    answer: m.Answer
    service: str


class ClientCore:
    """``name`` and ``boot`` as in :class:`~cbw.core.messages.ClientHello`.

    Whoever calls a method that may want to send owes a :meth:`take_messages` afterwards, and a :meth:`tick` by
    :attr:`wake_at`.
    """

    def __init__(self, name: str, boot: str) -> None:
        self.name = name
        self.boot = boot
        self.in_flight: dict[int, Pending] = {}
        self.broker: m.Welcome | None = None
        self.refused: m.Refused | None = None
        self.has_met_broker = False
        self.sent_again = 0
        self.bad_messages = 0
        self.answers_unasked = 0
        """Answers to requests that had ended here: cancelled, expired, or answered already."""
        self._is_connected = False
        self._out: list[m.Message] = []
        self._held: list[Pending] = []  # big bodies, until the broker has told its limit
        self._too_big: list[Ended] = []
        self._cancelled: dict[int, None] = {}  # of which the broker may not have been told
        self._next_id = 1
        self._expiry_at = math.inf
        self._hello_at = math.inf
        self._patience = Patience()

    # --- facts

    def connected(self, now: float) -> None:
        """The connection is there: introduce ourselves and send everything that is in flight."""
        self._is_connected = True
        self._patience.welcomed()
        self._say_hello(now)

    def disconnected(self) -> None:
        """The connection is gone, and what had been sent with it may be too."""
        self._is_connected = False
        self.broker = None
        self._hello_at = math.inf
        self._keep_cancels(_cancels_in(self._out))
        self._out.clear()

    def submit(self, service: str, body: bytes, deadline_at: float | None, now: float, sink: Any) -> int:
        """Take on a request; the id that it gets."""
        request = m.Request(self._next_id, service, body, None if deadline_at is None else deadline_at - now)
        self._next_id += 1
        self.in_flight[request.id] = Pending(request, sink, deadline_at)
        if deadline_at is not None and deadline_at < self._expiry_at:
            self._expiry_at = deadline_at
        if self._is_connected:
            if len(body) <= UNASKED_BYTES:
                self._out.append(request)
            else:
                self._send_big(self.in_flight[request.id], now)
        return request.id

    def cancel(self, request_id: int) -> Ended | None:
        """Give up a request; None if it has ended already."""
        pending = self.in_flight.pop(request_id, None)
        if pending is None:
            return None
        if self._is_connected:
            self._out.append(m.Cancel(request_id))
        if self.broker is None:
            self._keep_cancels([request_id])
        return _ended(pending, Status.CANCELLED, "cancelled by this client")

    def received(self, messages: Iterable[m.Message], now: float) -> list[Ended]:
        """The broker sent a batch; the requests that it ends."""
        ended: list[Ended] = []
        in_flight = self.in_flight
        for message in messages:
            if type(message) is m.Answer:
                if message.status is Status.STOPPING:
                    continue  # its successor will get it: the next connection sends it again
                pending = in_flight.pop(message.id, None)
                if pending is not None:
                    ended.append(Ended(pending.sink, message, pending.request.service))
                else:
                    self.answers_unasked += 1
            elif type(message) is m.Welcome:
                self.broker = message
                self.has_met_broker = True
                self._cancelled.clear()
                self._hello_at = math.inf
                self._patience.welcomed()
                held, self._held = self._held, []
                for pending in held:
                    if pending.request.id in in_flight:
                        self._send_big(pending, now)
            elif type(message) is m.HelloAgain:
                if self.broker is not None:  # otherwise our hello is on its way already
                    self.broker = None
                    self._say_hello(now)
            elif type(message) is m.Refused:
                ended.extend(self._was_refused(message, now))
        if self._too_big:
            ended.extend(self._take_too_big())
        return ended

    def tick(self, now: float) -> list[Ended]:
        """Time has passed; the requests whose deadline has, and those that turned out to be too big."""
        if now >= self._hello_at:
            self._say_hello(now)
        ended = self._take_too_big()
        if now < self._expiry_at:
            return ended
        expired = [p for p in self.in_flight.values() if p.deadline_at is not None and p.deadline_at <= now]
        for pending in expired:
            del self.in_flight[pending.request.id]
            if self._is_connected:
                self._out.append(m.Cancel(pending.request.id))
        left = (p.deadline_at for p in self.in_flight.values() if p.deadline_at is not None)
        self._expiry_at = max(min(left, default=math.inf), now + EXPIRY_STEP_S)
        where = "no answer in time" if self.broker else "the broker was not reached in time"
        ended.extend(_ended(pending, Status.EXPIRED, where) for pending in expired)
        return ended

    # --- what the shell asks

    @property
    def submitted(self) -> int:
        """How many requests there have been."""
        return self._next_id - 1

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`take_messages` has anything."""
        return bool(self._out)

    @property
    def wake_at(self) -> float:
        """When :meth:`tick` is due; infinity: never."""
        if self._too_big:
            return 0.0
        return min(self._expiry_at, self._hello_at)

    def take_messages(self) -> list[m.Message]:
        """What is to be sent now."""
        out = self._out
        if out:
            self._out = []
        return out

    def fail_all(self, status: Status, text: str) -> list[Ended]:
        """End everything that is in flight: the client is closing, or can never be served."""
        ended = self._take_too_big()
        ended.extend(_ended(pending, status, text) for pending in self.in_flight.values())
        self.in_flight.clear()
        return ended

    # --- inside

    def _say_hello(self, now: float) -> None:
        self._hello_at = now + HELLO_PATIENCE_S
        self._keep_cancels(_cancels_in(self._out))
        self._out = [m.ClientHello(self.name, self.boot), *map(m.Cancel, self._cancelled)]
        self._held.clear()
        for pending in self.in_flight.values():
            if len(pending.request.body) > UNASKED_BYTES:
                self._held.append(pending)
                continue
            if pending.deadline_at is not None:
                pending.request.ttl = pending.deadline_at - now
            self._out.append(pending.request)
        if self.has_met_broker:
            self.sent_again += len(self.in_flight)

    def _keep_cancels(self, request_ids: Iterable[int]) -> None:
        """For the next hello: else the broker would run what nobody wants."""
        self._cancelled.update(dict.fromkeys(request_ids))
        while len(self._cancelled) > CANCELLED_MAX:
            del self._cancelled[next(iter(self._cancelled))]

    def _send_big(self, pending: Pending, now: float) -> None:
        request = pending.request
        size = len(request.body)
        if self.broker is None:
            self._held.append(pending)
        elif size > self.broker.body_bytes_max:
            del self.in_flight[request.id]
            text = f"{size} bytes; the broker allows {self.broker.body_bytes_max} (--body-bytes-max)"
            self._too_big.append(_ended(pending, Status.TOO_BIG, text))
        else:
            if pending.deadline_at is not None:
                request.ttl = pending.deadline_at - now
            self._out.append(request)

    def _take_too_big(self) -> list[Ended]:
        too_big, self._too_big = self._too_big, []
        return too_big

    def _was_refused(self, refused: m.Refused, now: float) -> list[Ended]:
        self._hello_at = self._patience.retry_at(refused, now)
        if self._hello_at < math.inf:
            return []
        self.refused = refused
        return self.fail_all(Status.FAILED, refused.text)


def _cancels_in(messages: Iterable[m.Message]) -> list[int]:
    return [message.id for message in messages if type(message) is m.Cancel]


def _ended(pending: Pending, status: Status, text: str) -> Ended:
    request = pending.request
    answer = m.Answer(request.id, status, m.error_body(status.name.lower(), text))
    return Ended(pending.sink, answer, request.service)
