"""What both client libraries do, whoever waits for the answers: requests out, answers in, over one link.

Nothing here waits, locks or calls back: :mod:`cbw.client` does that with threads, :mod:`cbw.aio` with an event loop.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from numbers import Real
from types import EllipsisType
from typing import Any

import zmq

from cbw import codec
from cbw.core import messages as m
from cbw.core.client import ClientCore, Ended
from cbw.core.events import Record
from cbw.core.messages import Status
from cbw.errors import (
    BadAnswer,
    BadMessage,
    BadRequest,
    Busy,
    Cancelled,
    CbwError,
    Closed,
    Expired,
    GaveUp,
    HandlerFailed,
    RequestError,
    TooBig,
    UsageError,
)
from cbw.fork import tell_if_forked
from cbw.net import Link
from cbw.refusal import checked_id, checked_service, refusal_error
from cbw.settings import address
from cbw.status import status_of
from cbw.trace import LogTarget, Trace
from cbw.wire import native

WINDOW = 256
"""Requests that ``map`` keeps in flight: enough for full batches, few enough to fit the workers' credit."""
CHUNKS = 4
"""A window is sent in so many batches, so that client, broker and worker each have one to work on."""
SLOW_S = 0.001
"""A batch whose bodies take longer to come is sent as far as it is."""
TIMEOUT_S = 60.0
RETRY_S = 0.005
Timeout = float | EllipsisType | None
"""Seconds that a request may take; None: for ever; ``...``: what its client was made with."""
TEXT_BYTES = 1000
"""So much of a body is recorded, if bodies are to be."""

_ERRORS: dict[Status, type[RequestError]] = {
    Status.FAILED: HandlerFailed,
    Status.BAD_REQUEST: BadRequest,
    Status.EXPIRED: Expired,
    Status.GAVE_UP: GaveUp,
    Status.BUSY: Busy,
    Status.CANCELLED: Cancelled,
    Status.TOO_BIG: TooBig,
}


def _text(body: bytes) -> str:
    return bytes(body[:TEXT_BYTES]).decode(errors="backslashreplace")


def new_id() -> str:
    """An id that no other client has: the host's name, the process, and chance."""
    return f"CLI_{socket.gethostname()}_{os.getpid()}_{os.urandom(3).hex()}"


def error_of(answer: m.Answer, service: str) -> RequestError:
    """The exception that tells a caller what ``answer`` tells."""
    kind, text = m.error_of(answer.body)
    return _ERRORS.get(answer.status, RequestError)(text, kind=kind, request_id=answer.id, service=service)


def seconds_of(timeout: float | None) -> float:
    """``timeout`` as a number of seconds, at least 0; infinity for None.

    Raises:
        UsageError: ``timeout`` is no number.
    """
    if timeout is None:
        return math.inf
    if not isinstance(timeout, (float, Real)) or timeout != timeout:  # which is NaN
        raise UsageError(f"the timeout is {timeout!r}; it must be a number of seconds, or None to wait for ever")
    try:
        return max(0.0, float(timeout))
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def deadline_after(now: float, seconds: float) -> float | None:
    """When ``seconds`` have passed; None: never."""
    return None if seconds == math.inf else now + seconds


def decode(body: Any, returns: Any, request_id: int, service: str) -> Any:
    """An answer, read as ``returns``.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        return codec.decode(body, returns)
    except Exception as error:  # a user's type may raise whatever it likes
        name = getattr(returns, "__qualname__", None) or repr(returns)
        text = f"the answer cannot be read as {name}: {error}"
        raise BadAnswer(text, kind=type(error).__name__, request_id=request_id, service=service) from error


class Session:
    """A client's side of the conversation. Not thread-safe.

    Whoever calls :meth:`submit`, :meth:`cancel` or :meth:`fail_all` owes a :meth:`flush`; whoever gets requests that
    have ended owes a call of their sinks; and a :meth:`turn` is owed by :attr:`wake_at`.

    Raises:
        UsageError: the address, the id or the timeout is not valid.
    """

    def __init__(self, broker: str | None, id: str | None, timeout: float | None, trace: Trace | None) -> None:
        host, port = address(broker, "client")
        self.id = new_id() if id is None else checked_id(id)
        self._own_timeout_s = seconds_of(timeout)
        self.core = ClientCore(self.id, os.urandom(8).hex())
        self.is_closed = False
        self._why_closed = "this client is closed"
        self._trace = trace or Trace(is_printing=False, name=self.id, log=LogTarget.from_environment())
        self._is_tracing = self._trace.wants_all
        self._service = ""  # the last one, which was checked
        self._resent = 0
        self._started_at = time.monotonic()
        self._context: zmq.Context[Any] = zmq.Context()
        try:
            self.link = Link(self._context, host, port)
        except CbwError:  # but not after a Ctrl-C: with a socket half made this would wait for ever
            self._context.term()
            raise
        tell_if_forked(self)

    def inherited(self) -> None:
        """The socket is the parent's: nothing may be done with it here."""
        self.is_closed = True
        self._why_closed = "this client was made before the process was forked; make one in the child"

    def submit(self, service: str, bodies: Sequence[bytes], timeout: Timeout, sink: Any) -> list[int]:
        """Take on requests; their ids.

        Raises:
            Closed: the client is closed.
            DuplicateId, VersionMismatch, UsageError: the broker has refused this client for good.
            UsageError: ``service`` is not a valid name, or ``timeout`` not a number.
        """
        if self.is_closed:
            raise Closed(self._why_closed)
        if self.core.refused is not None:
            raise refusal_error(self.core.refused)
        if service is not self._service:
            self._service = checked_service(service)
        now = time.monotonic()
        deadline_at = deadline_after(now, self._own_timeout_s if timeout is ... else seconds_of(timeout))
        submit = self.core.submit
        request_ids = [submit(service, body, deadline_at, now, sink) for body in bodies]
        if self._is_tracing:
            texts = map(_text, bodies) if self._trace.tells_bodies else repeat("")
            self._record("sent", request_ids, now, service, texts)
        return request_ids

    def cancel(self, request_id: int) -> Ended | None:
        """Give up a request; None if it has ended already."""
        ended = self.core.cancel(request_id)
        if ended is not None and self._is_tracing:
            self._record_ends([ended], time.monotonic())
        return ended

    def fail_all(self) -> list[Ended]:
        """The client is being closed: everything in flight has ended."""
        self.is_closed = True
        ended = self.core.fail_all(Status.CANCELLED, "the client was closed")
        if self._is_tracing:
            self._record_ends(ended, time.monotonic())
        return ended

    def turn(self, *, has_changes: bool) -> list[Ended]:
        """Take in what has arrived, send what is to be sent; the requests that have ended.

        ``has_changes``: the link has news of its connection.
        """
        core, link = self.core, self.link
        now = time.monotonic()
        for is_connected in link.watch() if has_changes else ():
            if is_connected:
                core.connected(now)
            else:
                core.disconnected()
        ended: list[Ended] = []
        while (frames := link.receive()) is not None:
            try:
                ended += core.received(native.to_client(frames), now)
            except BadMessage:
                core.bad_messages += 1
            if not core.in_flight:
                break  # nothing more is owed
        if core.wake_at <= now:
            ended.extend(core.tick(now))
        self.flush()
        if self._is_tracing:
            self._record_ends(ended, now)
        if core.sent_again != self._resent:
            self._resent = core.sent_again
            self._record("resent", core.in_flight, now, "", repeat(""))
        return ended

    def flush(self) -> None:
        """Send what is to be sent. What cannot be sent now is kept until the next time."""
        messages = self.core.take_messages()
        if messages or self.link.unsent:
            self.link.post([frames for frames, _ in native.encode(messages)])

    @property
    def timeout_s(self) -> float:
        """How long until :meth:`turn` is due even if nothing arrives; infinity: for ever."""
        return RETRY_S if self.link.unsent else self.core.wake_at - time.monotonic()

    def status(self) -> dict[str, Any]:
        """How the client is, for status pages."""
        core, sender = self.core, self._trace.sender
        problem = "closed" if self.is_closed else "" if core.broker is not None else "not connected to a broker"
        return status_of(
            "client",
            self.id,
            self._started_at,
            problem,
            boot=core.boot,
            broker=core.broker.broker if core.broker is not None else None,
            liveness_s=core.broker.liveness_s if core.broker is not None else None,
            in_flight=len(core.in_flight),
            counts={
                "requests_sent": core.submitted,
                "requests_ended": core.submitted - len(core.in_flight),
                "requests_resent": core.sent_again,
                "answers_unasked": core.answers_unasked,
            },
            log=sender.status() if sender is not None else None,
        )

    def error_of(self, ended: Ended) -> CbwError:
        """Why ``ended`` has no answer."""
        if self.is_closed and ended.answer.status is Status.CANCELLED:
            return Closed("the client was closed")
        if self.core.refused is not None:
            return refusal_error(self.core.refused)
        return error_of(ended.answer, ended.service)

    def result(self, ended: Ended, returns: Any, return_errors: bool = False) -> Any:
        """The answer, read as ``returns``, or its error: raised, or returned with ``return_errors``."""
        try:
            if ended.answer.status is Status.OK:
                return decode(ended.answer.body, returns, ended.answer.id, ended.service)
            raise self.error_of(ended)
        except CbwError as error:
            if return_errors:
                return error
            raise

    def close(self) -> None:
        """Say goodbye and give the socket back. It may still deliver what was sent until :meth:`end`."""
        if self.link.is_connected:
            for frames, _ in native.encode([m.Goodbye()]):
                self.link.send(frames)
        self.link.close()

    def end(self) -> None:
        """Wait, at most a second, until what was sent is delivered, and for the logger. From any thread."""
        self._context.term()
        self._trace.close()

    # --- the trace

    def _record(self, event: str, request_ids: Iterable[int], now: float, service: str, texts: Iterable[str]) -> None:
        name = self.id
        told = zip(request_ids, texts, strict=False)
        self._trace.write(
            [Record(now, event, "client", name, f"{name}/{id}", name, service, text=text) for id, text in told]
        )

    def _record_ends(self, ended: Sequence[Ended], now: float) -> None:
        name = self.id
        records = []
        for end in ended:
            answer = end.answer
            is_ok = answer.status is Status.OK
            record = Record(now, "got" if is_ok else "failed", "client", name, f"{name}/{answer.id}", name, end.service)
            if not is_ok:
                record.text = ": ".join(m.error_of(answer.body))
            elif self._trace.tells_bodies:
                record.text = _text(answer.body)
            records.append(record)
        if records:
            self._trace.write(records)


class MapWindow:
    """The book-keeping of one ``map``: which bodies are to be sent, which answers are to be given out, and when.

    Owed in turns, until :attr:`is_done`: send the batches of :meth:`take_bodies` and tell the ids to :meth:`sent`; wait
    for answers, unless it :attr:`is_slow`, and tell them to :meth:`ended`; give out those of :meth:`take_answers`.
    """

    def __init__(self, bodies: Iterable[Any], window: int, *, is_ordered: bool) -> None:
        if not isinstance(window, int) or window < 1:
            raise UsageError(f"window is {window!r}; it must be a whole number, at least 1")
        self._bodies = iter(bodies)
        self._window = window
        self._chunk = -(-window // CHUNKS)
        self._is_ordered = is_ordered
        self._is_more = True
        self.is_slow = False
        """Whether bodies come so slowly that what is answered should be given out before the next is taken."""
        self._next_in = self._next_out = 0
        self._held: dict[int, Ended] = {}  # answered, but not yet its turn
        self.in_flight: dict[int, int] = {}  # request ids to positions
        self.done = 0

    @property
    def is_done(self) -> bool:
        """Whether every body was sent and answered."""
        return not self._is_more and not self.in_flight

    def take_bodies(self) -> list[bytes]:
        """The next batch to be sent, encoded; empty: no room in the window, or no more bodies."""
        self.is_slow = False
        room = min(self._chunk, self._window - len(self.in_flight) - len(self._held))
        if not self._is_more or room < 1:
            return []
        batch: list[bytes] = []
        until = time.monotonic() + SLOW_S
        for body in islice(self._bodies, room):
            batch.append(body if type(body) is bytes else codec.encode(body))
            if time.monotonic() > until:
                self.is_slow = True
                break
        else:
            self._is_more = len(batch) == room
        return batch

    def sent(self, request_ids: Sequence[int]) -> None:
        """The last batch has these ids."""
        first = self._next_in
        self._next_in += len(request_ids)
        self.in_flight.update(zip(request_ids, range(first, self._next_in), strict=True))

    def ended(self, ended: Ended) -> None:
        """A request has ended."""
        self._held[self.in_flight.pop(ended.answer.id)] = ended
        self.done += 1

    def take_answers(self) -> Iterator[tuple[int, Ended]]:
        """What is to be given out now, with its position."""
        held = self._held
        if self._is_ordered:
            while self._next_out in held:
                position = self._next_out
                self._next_out += 1
                yield position, held.pop(position)
        else:
            while held:
                position = next(iter(held))
                yield position, held.pop(position)
