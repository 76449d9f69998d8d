"""The broker: two ROUTERs around a :class:`~cbw.core.broker.driver.Driver`, in one poll loop."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cbw import memory
from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.dead_services import LIST
from cbw.core.broker.driver import Driver
from cbw.core.broker.limits import Limits
from cbw.core.broker.looks import LIST_REQUESTS, LIST_WORKERS, SHOW_STATUS, TELL_WHY
from cbw.core.broker.replay import Replay
from cbw.core.broker.schemas import SCHEMA
from cbw.core.broker.service_list import SERVICES
from cbw.core.broker.snapshot import snapshot
from cbw.core.key import FOR_CLIENTS, FOR_WORKERS
from cbw.core.messages import Answer, Status, error_body
from cbw.core.record import HAS_JOURNAL, Record
from cbw.desk import Desk
from cbw.errors import CbwError, JournalBroken
from cbw.journal.backend import Backend
from cbw.journal.writer import Writer
from cbw.observe.inquiry import Inquiry, status_of
from cbw.observe.request_spans import RequestSpans
from cbw.observe.spans import tracer
from cbw.observe.trace import Trace
from cbw.settings import BROKER, listen_default
from cbw.signals import stopping_unless_handled
from cbw.transport.descriptors import DescriptorWatch
from cbw.transport.guard import Guard
from cbw.transport.poller import Poller, Waker
from cbw.transport.router import Router
from cbw.transport.sockets import Intake, new_context

EVENTS_KEPT = 200
"""Events that the page shows: those of a bad minute."""
NOTABLE = frozenset(name for name, meaning in catalogue.EVENTS.items() if meaning.level != "debug")
OPEN_SERVICES = frozenset((LIST, SHOW_STATUS, LIST_WORKERS, LIST_REQUESTS, TELL_WHY, SCHEMA, SERVICES))
"""What whoever sees the status pages may ask: it tells no more than these do, and no bodies."""


class Recovered(NamedTuple):
    """How much a journal held when it was opened."""

    requests: int
    answers: int
    dead_letters: int


class Broker:
    """Binds both ports at once (so a taken one is known), serves in :meth:`run`, ends by :meth:`stop`.

    Port 0 takes a free one; ``client_port`` and ``worker_port`` say which. ``limits`` are by default those of
    :class:`Limits`, or smaller ones that fit the memory limit of the container. With a ``journal``, which is read before the
    ports are bound, requests and answers survive the broker; :attr:`recovered` says how many were in it (None: nothing at all).

    ``keys`` is a folder of keys (default: ``CBW_KEYS``; empty: nothing is encrypted). ``listen`` is by default every address with
    keys, and without them this machine alone. Without keys only programs on this machine may cancel, drain, pause or purge,
    unless ``allow_control``; with keys only those that have the key of an admin.

    Raises:
        CannotBind: a port is taken, or may not be used.
        JournalError: the journal cannot be used.
        UsageError: a key is missing, or the file ``allowed`` cannot be read.
    """

    def __init__(
        self,
        client_port: int = 9998,
        worker_port: int = 9999,
        *,
        listen: str | None = None,
        name: str | None = None,
        limits: Limits | None = None,
        grace_s: float = 10.0,
        journal: Backend | None = None,
        trace: Trace | None = None,
        keys: str | Path | None = None,
        allow_control: bool = False,
    ) -> None:
        self.guard = guard = Guard.of(keys, "broker")
        self.listen = listen = listen or listen_default(has_keys=guard is not None)
        self._trace = trace or Trace(is_printing=False)
        self._spans = None if (found := tracer()) is None else RequestSpans(found)
        self._grace_s = grace_s
        self._memory_limit = memory.limit_bytes()
        boot = os.urandom(8)
        self.core = BrokerCore(
            name or f"BRO_{socket.gethostname()}",
            boot.hex(),
            limits or Limits(**memory.defaults_of(BROKER, self._memory_limit)),
            first_task=int.from_bytes(boot[:5], "big") << 20,
            is_tracing=self._trace.wants_all or self._spans is not None,
            has_journal=journal is not None,
        )
        self._waker = Waker()
        self._started_at = time.monotonic()  # before anything is recorded
        self.recovered: Recovered | None = None
        self._journal = self._open(journal) if journal is not None else None
        self._context = new_context()
        self._bind(listen, client_port, worker_port)
        self.client_port = self._clients.port
        self.worker_port = self._workers.port
        self.inquiry = Inquiry(self._waker.wake)
        self.desk = Desk(self._waker.wake)
        self._events: deque[Record] = deque(maxlen=EVENTS_KEPT)
        self._is_stop_wanted = False
        self._driver = Driver(self.core, self._clients, self._workers, journal=self._journal)
        self._poller = Poller(
            self._workers.socket,
            self._waker.fileno(),
            self._workers.monitor_news,
            self._clients.monitor_news,
            self._clients.socket,
        )
        self._is_polling_clients = True
        self._descriptors = DescriptorWatch(self._tell_descriptors)
        if guard is not None:
            self._use_keys(guard)
        elif not allow_control:
            self.core.ask_who_may_act(self._why_not_act)

    def _bind(self, listen: str, client_port: int, worker_port: int) -> None:
        bounds, guard = self.core.limits, self.guard
        intake = Intake.within(bounds.requests_bytes_max)
        router = partial(Router, self._context, listen, body_bytes_max=bounds.body_bytes_max, intake=intake)
        try:
            if guard is not None:
                guard.open(self._context)
            self._clients = router(client_port, keys=guard.port(FOR_CLIENTS) if guard else None)
            try:
                self._workers = router(
                    worker_port, is_for_workers=True, keys=guard.port(FOR_WORKERS) if guard else None
                )
            except BaseException:
                self._clients.close()
                raise
        except CbwError:  # but not after a Ctrl-C: with a socket half made this would wait for ever
            if guard is not None:
                guard.close()
            self._context.term()
            if self._journal is not None:
                self._journal.close()
            raise

    def _use_keys(self, guard: Guard) -> None:
        """Let the core know whose keys its peers have shown."""
        assert self._clients.keys is not None and self._workers.keys is not None
        self._poller.add(guard.news)
        for peer, name in self.core.use_keys(self._clients.keys.key_of, self._workers.keys.key_of).items():
            self._clients.keys.own(peer, name)

    def _why_not_act(self, peer: bytes) -> str:
        if self._clients.is_from_here(peer):
            return ""
        return "without keys it is for programs on the broker's own machine"

    def _open(self, backend: Backend) -> Writer:
        """Read the journal into the core, and write it from now on."""
        try:
            with contextlib.closing(backend.open()) as batches:
                replay = recover(self.core, batches, backend.next_position - 1, time.monotonic())
        except BaseException:
            backend.close()
            raise
        if replay.sizes:
            self.recovered = Recovered(len(replay.accepted), len(replay.answers), len(replay.dead))
        return Writer(backend, self._waker.wake)

    def stop(self) -> None:
        """Finish what runs, within the grace time, and end :meth:`run`. Safe from any thread and from signal handlers."""
        self._is_stop_wanted = True
        self._waker.wake()

    def reopen_trace(self) -> None:
        """Go on in a new trace file at the same place (see :meth:`Trace.reopen`)."""
        self._trace.reopen()

    def run(self) -> None:
        """Serve until :meth:`stop`; SIGTERM and Ctrl-C call it, unless your program has handlers of its own for them."""
        if self._trace.wants_all:  # so that a trace of several runs can be told apart
            started = Record(self._started_at, catalogue.STARTED, role="broker", sender=self.core.name)
            started.text, started.fields = self._bounds(), {HAS_JOURNAL: True} if self._journal is not None else None
            self._write([started])
        try:
            with stopping_unless_handled(self):
                self._serve()
        finally:
            is_stored = self._journal is None or self._journal.close()
            self._clients.close()
            self._workers.close()
            if self.guard is not None:
                self.guard.close()
            self._context.term()
            self._waker.close()
            self._trace.close()
        if not is_stored:
            raise JournalBroken("the journal did not take all that was to be stored before the end")

    def _serve(self) -> None:
        driver, workers, clients, guard = self._driver, self._workers, self._clients, self.guard
        waker, outbox = self._waker.fileno(), self.core.outbox
        while not driver.is_over:
            ready = self._poller.poll(driver.wake_at - time.monotonic())
            workers.on_ready(ready)
            clients.on_ready(ready)
            if waker in ready:
                self._waker.clear()
            now = time.monotonic()
            if now >= self._descriptors.look_at:
                self._descriptors.look(now)
            if guard is not None and (told := guard.turn(ready, now)):
                self._write(
                    [Record(now, catalogue.KEYS, role="broker", sender=self.core.name, text=one) for one in told]
                )
            asked = self.desk.take() if self.desk.is_asked else ()
            driver.turn(now, self._take_stop_by(now) if self._is_stop_wanted else None, asked)
            if asked:
                self.desk.answer(driver.operator_answers)
                driver.operator_answers.clear()
            if driver.is_reading_clients is not self._is_polling_clients:
                self._poll_clients(driver.is_reading_clients)
            if self._journal is not None and self._journal.error is not None:
                raise self._journal.error
            if self.inquiry.is_open:
                self.inquiry.answer(self._status())
            if records := outbox.take_records():
                self._write(records)

    def events(self) -> list[dict[str, Any]]:
        """What was out of the ordinary, the last :data:`EVENTS_KEPT`, with how long ago it was. Safe from any thread."""
        now = time.monotonic()
        return [
            {
                "ago_s": round(now - one.at, 3),
                "level": catalogue.EVENTS[one.event].level,
                **{name: getattr(one, name) for name in ("event", "request", "client", "worker", "service", "text")},
            }
            for one in tuple(self._events)
        ]

    def operate(self, service: str, body: bytes, who: str, *, may_act: bool) -> Answer | None:
        """Ask one of the broker's own services, from any thread; None if the loop is stuck. Without ``may_act`` only what
        everybody who sees the status pages may look at is answered.
        """
        if not may_act and service not in OPEN_SERVICES:
            text = f"{service} is for who shows the token of the status pages (--status-token-file)"
            return Answer(0, Status.NOT_ALLOWED, error_body("not_allowed", text))
        return self.desk.ask(who, service, body)

    def _write(self, records: Sequence[Record]) -> None:
        self._events.extend(record for record in records if record.event in NOTABLE)
        if self._spans is not None:
            self._spans.take(records)
        with contextlib.suppress(
            BrokenPipeError
        ):  # everybody depends on the broker, whoever has stopped to read its output
            self._trace.write(records)

    def _tell_descriptors(self, text: str) -> None:
        name = self.core.name
        self._write([Record(time.monotonic(), catalogue.NO_DESCRIPTORS, role="broker", sender=name, text=text)])

    def _take_stop_by(self, now: float) -> float:
        """When to stop at the latest; it was asked for since the last call."""
        self._is_stop_wanted = False
        return now + self._grace_s

    def _poll_clients(self, is_wanted: bool) -> None:
        self._is_polling_clients = is_wanted
        if is_wanted:
            self._poller.add(self._clients.socket)
        else:
            self._poller.remove(self._clients.socket)

    def _bounds(self) -> str:
        """The bounds on memory, and the memory limit that they have to fit."""
        names = (setting.name for setting in BROKER if setting.memory_fraction)
        bounds = ", ".join(f"{name} {getattr(self.core.limits, name)}" for name in names)
        limit = "none" if self._memory_limit is None else f"{self._memory_limit} bytes"
        return f"memory limit: {limit}; {bounds}"

    def _journal_status(self) -> dict[str, Any] | None:
        journal = self._journal
        if journal is None:
            return None
        return {
            **journal.describe(),
            "stored": journal.stored,
            "size_bytes": journal.size_bytes,
            "problem": journal.problem,
        }

    def _status(self) -> dict[str, Any]:
        core, sender = self.core, self._trace.sender
        return status_of(
            "broker",
            core.name,
            self._started_at,
            "stopping" if core.is_stopping else "",
            boot=core.boot,
            ports={"clients": self.client_port, "workers": self.worker_port},
            memory_limit_bytes=self._memory_limit,
            log=sender.status() if sender is not None else None,
            journal=self._journal_status(),
            keys=None
            if self.guard is None
            else {"allowed": len(self.guard.allowed.keys), "refused": self.guard.refused},
            **snapshot(core, time.monotonic()),
        )


def recover(core: BrokerCore, batches: Iterable[tuple[int, bytes]], last: int, now: float) -> Replay:
    """Put what ``batches`` say, from which nothing is missing, into ``core``, which has not been stepped yet. ``last`` is the
    position of the last one, also if it is needed no longer and was dropped.

    Raises:
        JournalError: they cannot be read.
    """
    replay = Replay(last)
    gc.disable()  # a million new objects, none of them garbage: each look at all of them would take a second
    try:
        for position, data in batches:
            replay.read(position, data)
        core.use_journal(replay, now)
        gc.freeze()
    finally:
        gc.enable()
    return replay
