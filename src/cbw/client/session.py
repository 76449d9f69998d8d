"""What the two client libraries and the client in memory share: arguments are checked, requests and ends are traced.

Nothing here waits, locks or calls back: :mod:`cbw.client.sync_client` does that with threads,
:mod:`cbw.client.async_client` with an event loop, and :mod:`cbw.testing` in simulated time.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

from cbw.addresses import addresses
from cbw.client.connection import Connection
from cbw.client.options import Headers, Timeout, check_priority, checked_delay, checked_headers, seconds_of
from cbw.client.spans import SentSpan
from cbw.core import catalogue, messages
from cbw.core.client.core import ClientCore
from cbw.core.client.driver import ClientConnection, ClientDriver
from cbw.core.client.events import Ended
from cbw.core.identities import PROOF_BYTES_MIN, name_of_request, ticket_name
from cbw.core.messages import Status
from cbw.core.parts import SUCCEEDED
from cbw.core.record import Record
from cbw.errors import Closed
from cbw.keys.folder import link_keys
from cbw.observe.inquiry import status_of
from cbw.observe.spans import tracer
from cbw.observe.trace import LogTarget, Trace
from cbw.transport.fork import call_after_fork
from cbw.wire.refusal import checked_id, checked_service, checked_ticket, refusal_error

TIMEOUT_S = 60.0
"""Seconds that a request may take if the program does not say otherwise."""
KeysPath = str | Path | None
"""The folder of keys, or the client's secret key file in it; None: what ``CBW_KEYS`` says; empty: no keys are used."""
DRAIN_LOOK_S = 0.02
"""Seconds between two looks of a client that is to be closed whether its requests have ended."""
TEXT_BYTES = 1000
"""Most bytes of a body that stand in the trace, for a trace that tells bodies."""


def new_id() -> str:
    """An id that no other client has, of the host's name, the process number, and random digits."""
    return f"CLI_{socket.gethostname()}_{os.getpid()}_{os.urandom(3).hex()}"


def open_session(
    broker: str | None,
    id: str | None,
    timeout: float | None,
    trace: Trace | None,
    on_resolved: Callable[[], None],
    keys: KeysPath,
) -> tuple[Session, Connection]:
    """The session of a real client, and its connection. ``on_resolved`` as in :class:`~cbw.client.connection.Connection`.

    Raises:
        UsageError: the address, the id or the timeout is not valid, or a key is missing.
    """
    hosts = addresses(broker, "client")
    name = new_id() if id is None else checked_id(id)
    core = ClientCore(name, os.urandom(8).hex(), random.random(), os.urandom(PROOF_BYTES_MIN))
    timeout_s = seconds_of(timeout)
    own_keys = link_keys(keys, "broker", "client", "admin")
    trace = trace or Trace(is_printing=False, name=core.name, log=LogTarget.from_environment("client", keys))
    connection = Connection(hosts, name, on_resolved, own_keys)
    session = Session(core, connection, time.monotonic, timeout_s, trace)
    call_after_fork(session)
    return session, connection


def deliver(ended: list[Ended]) -> None:
    """Call all sinks, also if Ctrl-C interrupts one of them: that concerns one caller, and the others wait."""
    left = iter(ended)
    try:
        for end in left:
            end.sink(end)
    finally:
        for end in left:
            end.sink(end)


class Session:
    """One client's conversation with the broker over ``link``. Not thread-safe. ``timeout_s`` is for requests without their own.

    The caller must :meth:`flush` after a :meth:`submit` or :meth:`cancel`, take a :meth:`turn` when something arrives or
    :attr:`timeout_s` have passed, and call the sinks of the ended requests that any method returns.
    """

    def __init__(
        self,
        core: ClientCore,
        link: ClientConnection,
        clock: Callable[[], float],
        timeout_s: float,
        trace: Trace | None = None,
    ) -> None:
        self.core = core
        self.is_closed = False
        self._driver = ClientDriver(core, link, on_resent=self._record_resent)
        self.unread: dict[int, object] = {}
        """Requests in parts, while their programs ask for none; each with the thread or coroutine that reads them."""
        self.news: list[tuple[Any, Any]] = []
        """Parts of answers and progresses that have come, each with the sink of its request: to be delivered."""
        self._driver.on_news = lambda news: self.news.extend(news)
        self._clock = clock
        self._own_timeout_s = timeout_s
        self._why_closed = "this client is closed"
        self._trace = trace
        self._is_tracing = trace is not None and trace.wants_all
        self._service = ""  # the last one, which was checked
        self._started_at = clock()

    def after_fork_in_child(self) -> None:
        """The socket belongs to the parent and must not be used here."""
        self.is_closed = True
        self._why_closed = "this client was made before the process was forked; make one in the child"

    # --- requests

    def submit(
        self,
        service: str,
        bodies: list[bytes],
        timeout: Timeout,
        sink: Any,
        priority: int = messages.PRIORITY,
        may_retry: bool = True,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
    ) -> range:
        """Note a request for each of ``bodies``; returns their ids. ``may_retry``: send them again while the broker is busy.

        They are not handed out before ``delay_s`` seconds have passed. ``require_worker``: they end at once if nobody serves
        them.

        Raises:
            Closed: the client is closed.
            DuplicateId, VersionMismatch, UsageError: the broker has refused this client for good.
            UsageError: ``service`` is not a valid name, ``timeout`` not a number, ``priority`` not one from 0 to 9,
                or ``delay_s`` not below ``timeout``.
        """
        if self.is_closed or self.core.refused is not None:
            self._check_open()
        if service is not self._service:
            self._service = service = checked_service(service)
        if priority is not messages.PRIORITY:  # the usual one is right
            check_priority(priority)
        now = self._clock()
        timeout_s = self._own_timeout_s if timeout is ... else seconds_of(timeout)
        deadline_at = None if timeout_s == math.inf else now + timeout_s
        due_at = None
        if delay_s:
            due_at = now + checked_delay(delay_s, math.inf if deadline_at is None else deadline_at - now)
        if headers is not None:
            headers = checked_headers(headers)
        submit = self._driver.submit if tracer() is None else self._submit_with_spans
        request_ids = submit(
            service, bodies, deadline_at, sink, priority, may_retry, due_at, require_worker, headers, now
        )
        if self._is_tracing:
            self._record_sent(request_ids, bodies, now, delay_s)
        return request_ids

    def _submit_with_spans(
        self,
        service: str,
        bodies: list[bytes],
        deadline_at: float | None,
        sink: Any,
        priority: int,
        may_retry: bool,
        due_at: float | None,
        require_worker: bool,
        headers: dict[str, str] | None,
        submitted_at: float,
    ) -> range:
        """Each request has a span of its own, and so headers and a sink."""
        first = self._driver.next_id
        for body in bodies:
            span = self._span(service, body, sink, headers)
            how = (deadline_at, span, priority, may_retry, due_at, require_worker)
            (key,) = self._driver.submit(service, [body], *how, span.headers, submitted_at)
            span.is_called(name_of_request(self.core.name, key))
        return range(first, self._driver.next_id)

    def _span(
        self, service: str, body: bytes, sink: Any, headers: dict[str, str] | None, *, is_answered: bool = True
    ) -> SentSpan:
        found, name = tracer(), self.core.name
        assert found is not None
        return SentSpan(found, service, sink, headers, client=name, body_bytes=len(body), is_answered=is_answered)

    def start(
        self,
        ticket: str,
        service: str,
        body: bytes,
        timeout: Timeout,
        deadline_s: float | None,
        priority: int,
        delay_s: float,
        require_worker: bool,
        headers: Headers,
        sink: Any,
    ) -> int:
        """Note a request that outlives this client; returns its id. It ends when the broker has it, within ``timeout``.

        Raises:
            Closed, DuplicateId, VersionMismatch, UsageError: as for :meth:`submit`, or ``ticket`` or ``deadline_s`` is not valid.
        """
        self._check_open()
        ticket, service, now = checked_ticket(ticket), checked_service(service), self._clock()
        check_priority(priority)
        within_s = seconds_of(deadline_s, "the deadline")
        ends_at = None if within_s == math.inf else now + within_s
        due_at = now + checked_delay(delay_s, within_s) if delay_s else None
        checked = checked_headers(headers)
        if tracer() is not None:
            sink = span = self._span(service, body, sink, checked, is_answered=False)
            span.is_called(ticket_name(ticket))
            checked = span.headers
        start = messages.Start(
            0, ticket, service, body, priority=priority, requires_worker=require_worker, headers=checked
        )
        key = self._driver.start(start, self._deadline_at(timeout, now), ends_at, sink, due_at)
        if self._is_tracing:
            name = self.core.name
            request = ticket_name(ticket)
            self._write(
                [
                    Record(
                        now, catalogue.ASKED, role="client", sender=name, request=request, client=name, service=service
                    )
                ]
            )
        return key

    def stream(
        self,
        service: str,
        body: bytes,
        timeout: Timeout,
        sink: Any,
        priority: int = messages.PRIORITY,
        *,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        parts: int | None = None,
        restart: bool = False,
        wants_progress: bool = False,
    ) -> int:
        """Note a request whose answer is wanted in ``parts`` (the first room for them; None: it is not), or whose progress is.

        Raises:
            Closed, DuplicateId, VersionMismatch, UsageError: as for :meth:`submit`.
        """
        self._check_open()
        check_priority(priority)
        now, deadline_at = self._clock(), self._deadline_at(timeout, self._clock())
        due_at = None
        if delay_s:
            due_at = now + checked_delay(delay_s, math.inf if deadline_at is None else deadline_at - now)
        service, checked = checked_service(service), checked_headers(headers)
        if tracer() is not None:
            sink = span = self._span(service, body, sink, checked)
            span.is_called(name_of_request(self.core.name, self._driver.next_id))
            checked = span.headers
        request = messages.StreamRequest(
            0,
            service,
            body,
            priority=priority,
            headers=checked,
            parts=parts,
            restarts=restart,
            wants_progress=wants_progress,
            requires_worker=require_worker,
        )
        self._service = request.service
        key = self._driver.stream(request, deadline_at, sink, due_at, now)
        if self._is_tracing:
            self._record_sent([key], [body], now, delay_s)
        return key

    def took(self, request_id: int, parts: int) -> None:
        """Note that the program has taken so many parts more of that answer."""
        if not self.is_closed:
            self._driver.took(request_id, parts)

    def deliver_news(self) -> None:
        """Give :attr:`news` to their sinks, before the ends that the last turn has returned."""
        news, self.news = self.news, []
        left = iter(news)
        try:
            for sink, one in left:
                sink(one)
        finally:  # as in deliver()
            for sink, one in left:
                sink(one)

    def collect(self, ticket: str, timeout: Timeout, sink: Any) -> int:
        """Note that the answer of ``ticket`` is wanted within ``timeout``; returns the id of that.

        Raises:
            Closed, DuplicateId, VersionMismatch, UsageError: as for :meth:`submit`, or ``ticket`` is not valid.
        """
        self._check_open()
        return self._driver.collect(checked_ticket(ticket), self._deadline_at(timeout, self._clock()), sink)

    def _check_open(self) -> None:
        if self.is_closed:
            raise Closed(self._why_closed)
        if self.core.refused is not None:
            raise refusal_error(self.core.refused)

    def _deadline_at(self, timeout: Timeout, now: float) -> float | None:
        timeout_s = self._own_timeout_s if timeout is ... else seconds_of(timeout)
        return None if timeout_s == math.inf else now + timeout_s

    def cancel(self, request_ids: list[int]) -> None:
        """Note that these requests are cancelled. Those that have ended already are ignored."""
        if not self.is_closed:
            self._driver.cancel(request_ids)

    def is_owed(self, waiting: object) -> bool:
        """Whether a request has not ended for which ``waiting``, a thread or coroutine, can wait: not one whose parts it reads
        itself.
        """
        if self.is_closed or not (count := self._driver.in_flight):
            return False
        own = {request_id for request_id, reader in list(self.unread.items()) if reader == waiting}
        return count > len(self.core.in_flight) or not self.core.in_flight.keys() <= own

    @property
    def has_news(self) -> bool:
        """Whether requests or cancels wait for a :meth:`flush`."""
        return self._driver.has_news

    def flush(self) -> list[Ended]:
        """Send what was submitted and cancelled; returns the requests that have ended."""
        ended = self._driver.flush(self._clock())
        return self._recorded(ended) if self._is_tracing else ended

    def turn(self, *, has_changes: bool) -> list[Ended]:
        """Take in what has arrived, do what is due, send what there is to send; returns the requests that have ended.

        ``has_changes``: connections may have been made or lost since the last turn.
        """
        ended = self._driver.turn(self._clock(), has_changes=has_changes)
        return self._recorded(ended) if self._is_tracing else ended

    @property
    def timeout_s(self) -> float:
        """Seconds until a :meth:`turn` is due even if nothing arrives; infinity: never."""
        return self.core.wake_at - self._clock()

    def close(self) -> list[Ended]:
        """End all requests in flight and refuse new ones; returns the ended requests. Then :meth:`say_goodbye`."""
        self.is_closed = True
        ended = self._driver.close(self._clock())
        return self._recorded(ended) if self._is_tracing else ended

    def say_goodbye(self) -> None:
        """Tell the broker, if there is a connection, that the client was closed."""
        self._driver.say_goodbye()

    def close_trace(self) -> None:
        """Deliver the rest of the trace, for a moment, and close it. Safe from any thread."""
        if self._trace is not None:
            self._trace.close()

    # --- for people

    def status(self) -> dict[str, Any]:
        """The state of the client, for status pages."""
        core, driver, broker = self.core, self._driver, self.core.broker
        sender = self._trace.sender if self._trace is not None else None
        problem = "closed" if self.is_closed else "" if broker is not None else "not connected to a broker"
        return status_of(
            "client",
            core.name,
            self._started_at,
            problem,
            boot=core.boot,
            broker=broker.broker if broker is not None else None,
            liveness_s=broker.liveness_s if broker is not None else None,
            in_flight=driver.in_flight,
            **core.latencies.look().shown("requests"),
            counts={
                "requests_sent": driver.submitted,
                "requests_ended": core.ended,
                "requests_resent": core.sent_again,
                "requests_retried": core.retried,
                "answers_unasked": core.late.unasked,
                "answers_repeated": core.late.repeated,
            },
            log=sender.status() if sender is not None else None,
        )

    def _record(
        self,
        event: catalogue.EventName,
        request_ids: Iterable[int],
        now: float,
        service: str,
        texts: Iterable[str],
        fields: dict[str, Any] | None = None,
    ) -> None:
        if self._trace is None:
            return
        name = self.core.name
        self._write(
            [
                Record(
                    now,
                    event,
                    role="client",
                    sender=name,
                    request=f"{name}/{request_id}",
                    client=name,
                    service=service,
                    text=text,
                    fields=fields,
                )
                for request_id, text in zip(request_ids, texts, strict=False)
            ]
        )

    def _record_sent(self, request_ids: Sequence[int], bodies: list[bytes], now: float, delay_s: float) -> None:
        tells_bodies = self._trace is not None and self._trace.tells_bodies
        texts = map(_text, bodies) if tells_bodies else repeat("")
        fields = {"delay_s": float(delay_s)} if delay_s else None
        self._record(catalogue.SENT, request_ids, now, self._service, texts, fields)

    def _record_resent(self, request_ids: Sequence[int]) -> None:
        self._record(catalogue.RESENT, request_ids, self._clock(), "", repeat(""))

    def _recorded(self, ended: list[Ended]) -> list[Ended]:
        """Write ``ended`` to the trace; returns it."""
        if not ended or self._trace is None:
            return ended
        name, now = self.core.name, self._clock()
        records = []
        for end in ended:
            answer = end.answer
            is_ok = answer.status in SUCCEEDED
            event = catalogue.GOT if is_ok else catalogue.FAILED
            if end.ticket:
                event = catalogue.ASKED if end.is_start else catalogue.COLLECTED
                if end.is_start and is_ok:  # the broker tells of it
                    continue
            record = Record(now, event, role="client", sender=name, client=name, service=end.service)
            record.request = end.request
            if not is_ok:
                record.text = messages.error_parts(answer.body).line
            elif self._trace.tells_bodies and answer.status is Status.OK:
                record.text = _text(answer.body)
            records.append(record)
        self._write(records)
        return ended

    def _write(self, records: list[Record]) -> None:
        if self._trace is not None:
            with contextlib.suppress(BrokenPipeError):  # requests are not the worse for it
                self._trace.write(records)


def _text(body: bytes) -> str:
    return bytes(body[:TEXT_BYTES]).decode(errors="backslashreplace")
