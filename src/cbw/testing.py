"""A whole system in memory, for tests of your handlers and of what becomes of requests when a part fails.

::

    import shop
    from cbw.testing import System

    def test_a_killed_worker_costs_no_answer() -> None:
        with System() as system:
            first = system.worker(shop.price, work_time_s=2)
            request = system.submit({"article": "tea", "count": 2})
            system.pass_time(1)
            first.kill()
            system.worker(shop.price)
            assert request.result(returns=int) == 980
            assert request.story == ["accepted", "handed_out", "attempt_failed", "handed_out", "answered"]

Client, broker and worker decide what they decide in earnest: their cores and the bytes between them are the real ones.
There is no socket, no thread and no clock. Messages arrive at once. Time passes in :meth:`System.pass_time` and while
:meth:`System.call` or :meth:`MemoryRequest.result` wait, and costs none; so a test of a minute's silence takes a
millisecond, and does the same every time.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Self, TypeVar

from cbw import codec
from cbw.client.contracts import streams_contracts, takes_contracts
from cbw.client.options import Headers, Timeout, seconds_of
from cbw.client.progress import OnProgress, ProgressSink
from cbw.client.result import result_of
from cbw.client.session import TIMEOUT_S, Session
from cbw.client.stream import AnswerStream, Reading, StreamLine
from cbw.client.ticket import Ticket, ticket_of
from cbw.contract.retrying import Retrying
from cbw.contract.service import Service
from cbw.core import messages
from cbw.core.broker.check import check
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.driver import Driver
from cbw.core.broker.events import Side
from cbw.core.broker.limits import Limits
from cbw.core.client.core import ClientCore
from cbw.core.client.events import Ended
from cbw.core.parts import PARTS_FIRST
from cbw.core.port import Arrival, Frames
from cbw.core.record import Record
from cbw.core.worker.core import WorkerCore
from cbw.core.worker.driver import WorkerDriver
from cbw.errors import NoAnswer
from cbw.transport.memory_link import ClientMemoryLink, MemoryLink, WorkerMemoryLink
from cbw.transport.memory_port import MemoryPort
from cbw.wire import native
from cbw.worker.memory import MemoryPool

F = TypeVar("F", bound=Callable[..., Any])
TICK_S = 0.001
"""Time passes in steps of at least this."""
PATIENCE_S = 3600.0
"""Whoever waits for an answer without a deadline is told after this time that none will come."""


class System:
    """A broker in memory, and the clients and workers that are made here. ``broker`` is the living :class:`.BrokerCore`, whose
    state is checked after each of its turns; ``records`` is the trace: what happened, in order; ``now`` is in seconds.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 0.0
        self.records: list[Record] = []
        self.is_broker_alive = False
        self._limits = limits or Limits()
        self._boots = 0
        self._clients: list[MemoryClient] = []
        self._workers: list[MemoryWorker] = []
        self._connections_made = self._tickets_made = 0
        self._ports = {side: MemoryPort() for side in Side}
        self.start_broker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        check(self.broker)

    @property
    def counts(self) -> Counter[str]:
        """How often what has happened to the living broker, as on its status page."""
        return self.broker.outbox.counts

    # --- who is there

    def service(self, name: str = "", **retrying: Any) -> Callable[[F], F]:
        """Decorator: a worker of its own serves requests for ``name`` with the function.

        ``retrying`` are ``retries``, ``retry_on`` and ``backoff_s`` of :meth:`cbw.Worker.add`.
        """

        def register(function: F) -> F:
            self.worker({name: function}, **retrying)
            return function

        return register

    def worker(
        self,
        handlers: Callable[..., Any] | Mapping[str, Callable[..., Any]] | Service,
        *,
        id: str | None = None,
        concurrency: int = 1,
        work_time_s: float = 0.0,
        **retrying: Any,
    ) -> MemoryWorker:
        """Start a worker for services and their handlers, or for a :class:`cbw.Service`; a lone function serves the nameless one.

        A handler is called when its task begins, and answers ``work_time_s`` later. ``retrying`` are ``retries``, ``retry_on``
        and ``backoff_s`` of :meth:`cbw.Worker.add`, for all of them; nothing of a backoff is left to chance here.
        """
        if not isinstance(handlers, Mapping):
            handlers = handlers.tasks if isinstance(handlers, Service) else {"": handlers}
        name = id or f"W{len(self._workers) + 1}"
        worker = MemoryWorker(self, name, handlers, concurrency, work_time_s, Retrying(**retrying))
        self._workers.append(worker)
        worker.mend()
        return worker

    def client(self, id: str | None = None, *, timeout: float | None = TIMEOUT_S) -> MemoryClient:
        """Start a client."""
        self._clients.append(client := MemoryClient(self, id or f"C{len(self._clients) + 1}", timeout))
        client.mend()
        return client

    def call(self, *arguments: Any, **options: Any) -> Any:
        """One request of the first client, and its answer, as :meth:`cbw.Client.call`. Time passes until it is there."""
        return self.submit(*arguments, **options).result()

    def stream(self, *arguments: Any, **options: Any) -> AnswerStream[Any]:
        """One request of the first client, as :meth:`cbw.Client.stream`."""
        return (self._clients or [self.client()])[0].stream(*arguments, **options)  # type: ignore[no-any-return]

    def submit(self, *arguments: Any, **options: Any) -> MemoryRequest:
        """One request of the first client, as :meth:`cbw.Client.submit`. No time passes; what can happen at once has happened."""
        return (self._clients or [self.client()])[0].submit(*arguments, **options)  # type: ignore[no-any-return]

    # --- what happens to them

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything happen that is due by then. Handlers may call this too: they take that long."""
        until = self.now + seconds
        self._settle()
        while self.now < until:
            at = self._wake_at()
            self.now = min(until, max(at, self.now + TICK_S))
            self._settle()

    def kill_broker(self) -> None:
        """End the broker, with everything that it knew; all connections are lost."""
        self.is_broker_alive = False
        for peer in (*self._clients, *self._workers):
            peer.cut()

    def start_broker(self) -> None:
        """Start another one after :meth:`kill_broker`; those that were cut off find it."""
        self._boots += 1
        self.broker = BrokerCore(
            "BRO", f"boot {self._boots}", self._limits, first_task=self._boots << 20, is_tracing=True
        )
        self._ports = {side: MemoryPort() for side in Side}
        self._driver = Driver(self.broker, self._ports[Side.CLIENT], self._ports[Side.WORKER])
        self.is_broker_alive = True
        for peer in (*self._clients, *self._workers):
            peer.mend()

    # --- inside: the wire and the time

    def _wait_until(self, is_there: Callable[[], bool]) -> None:
        self._settle()
        patient_until = self.now + PATIENCE_S
        while not is_there():
            at = self._wake_at()
            if at > patient_until:
                raise NoAnswer("nobody will answer this request", advice="Start a worker for it, or give it a timeout.")
            self.pass_time(max(TICK_S, at - self.now))

    def _new_ticket(self) -> str:
        self._tickets_made += 1
        return f"T{self._tickets_made}"

    def _connect(self, side: Side, peer: _Peer) -> bytes:
        self._connections_made += 1
        address = b"\0%d" % self._connections_made
        self._ports[side].connect(address, peer._inbox)
        return address

    def _disconnect(self, side: Side, address: bytes) -> None:
        self._ports[side].disconnect(address)

    def _send(self, side: Side, address: bytes, batch: Sequence[messages.Message]) -> None:
        """A peer sends a batch to the broker."""
        for frames, _ in native.encode(batch):
            self._ports[side].arrivals.append(Arrival(address, list(frames)))

    def _settle(self) -> None:
        """Everybody takes turns until nothing more happens at this instant."""
        is_moving = True
        while is_moving:
            turns = [peer._turn() for peer in (*self._clients, *self._workers)]
            turns.append(self._turn())
            turns.extend(worker._work() for worker in tuple(self._workers))
            is_moving = any(turns)

    def _turn(self) -> bool:
        has_news = any(port.has_news for port in self._ports.values())
        if not self.is_broker_alive or not (has_news or self._driver.wake_at <= self.now):
            return False
        sent = sum(port.sent for port in self._ports.values())
        self._driver.turn(self.now)
        self.records.extend(self.broker.outbox.take_records())
        check(self.broker)
        return has_news or sum(port.sent for port in self._ports.values()) > sent

    def _wake_at(self) -> float:
        times = [peer._wake_at for peer in (*self._clients, *self._workers)]
        return min(times, default=math.inf) if not self.is_broker_alive else min(self._driver.wake_at, *times)


class MemoryRequest:
    """A request that was submitted."""

    def __init__(self, client: MemoryClient, returns: Any = bytes) -> None:
        self.id = 0
        self._client = client
        self._returns = returns
        self._ended: Ended | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it has its answer or its error."""
        return self._ended is not None

    def result(self, returns: Any = ...) -> Any:
        """The answer, read as ``returns`` (default: ``bytes``, or the result of the task). Time passes until it is there.

        Raises:
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            NoAnswer: the request has no deadline, and nobody is there who could answer it.
        """
        return result_of(self._wait(), self._returns if returns is ... else returns)

    def _wait(self) -> Ended:
        """How it ended. Time passes until it has, as in :meth:`result`."""
        self._client._system._wait_until(lambda: self.is_ended)
        assert self._ended is not None
        return self._ended

    def cancel(self) -> None:
        """Cancel the request, also while it runs."""
        self._client._cancel([self.id])

    @property
    def story(self) -> list[str]:
        """What the broker did with the request: its events, in order."""
        name = f"{self._client.core.name}/{self.id}"
        return [record.event for record in self._client._system.records if record.request == name]

    def _end(self, ended: Ended) -> None:
        self._ended = ended


class _Peer:
    """A client or a worker, which may be connected to the broker."""

    _side: Side
    _link: MemoryLink

    def __init__(self, system: System) -> None:
        self._system = system
        self._address: bytes | None = None
        self._inbox: list[Frames] = []

    def cut(self) -> None:
        """Lose the connection, and the messages that have not been read."""
        if self._address is not None:
            self._system._disconnect(self._side, self._address)
            self._address = None
            self._inbox.clear()
            self._link.changes.append(False)
            self._system._settle()

    def mend(self) -> None:
        """Connect again, if there is a broker."""
        if self._address is None and self._system.is_broker_alive and self._is_there:
            self._address = self._system._connect(self._side, self)
            self._link.changes.append(True)
            self._system._settle()

    def _post(self, batch: Sequence[messages.Message]) -> None:
        if self._address is not None:
            self._system._send(self._side, self._address, batch)

    @property
    def _is_there(self) -> bool:
        return True

    @property
    def _wake_at(self) -> float:
        raise NotImplementedError

    def _turn(self) -> bool:
        """Take one turn; whether anything has happened in it."""
        raise NotImplementedError


class MemoryClient(_Peer):
    """A client in memory; :meth:`System.client` makes it."""

    _side = Side.CLIENT

    def __init__(self, system: System, name: str, timeout: float | None) -> None:
        super().__init__(system)
        self.core = ClientCore(name, name)
        self._link: ClientMemoryLink = ClientMemoryLink(self._inbox, native.to_client, self._post)
        self._session = Session(self.core, self._link, lambda: system.now, seconds_of(timeout))

    def call(self, *arguments: Any, **options: Any) -> Any:
        """Send one request and return its answer, as :meth:`cbw.Client.call`. Time passes until it is there."""
        return self.submit(*arguments, **options).result()

    @takes_contracts
    def submit(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = messages.PRIORITY,
        returns: Any = bytes,
        on_progress: OnProgress = None,
        **options: Any,
    ) -> MemoryRequest:
        """Send one request, as :meth:`cbw.Client.submit`. No time passes; what can happen at once has happened."""
        request, encoded = MemoryRequest(self, returns), codec.encode(body)
        if on_progress is None:
            (request.id,) = self._session.submit(service, [encoded], timeout, request._end, priority, **options)
        else:
            options["wants_progress"], sink = True, ProgressSink(request._end, on_progress)
            request.id = self._session.stream(service, encoded, timeout, sink, priority, **options)
        self._system._settle()
        return request

    @streams_contracts
    def stream(
        self,
        body: Any = b"",
        service: str = "",
        *,
        returns: Any = bytes,
        on_progress: OnProgress = None,
        **options: Any,
    ) -> AnswerStream[Any]:
        """The parts of an answer, as :meth:`cbw.Client.stream`. Time passes until each is there."""
        encoded, timeout = codec.encode(body), options.pop("timeout", ...)
        options |= {"parts": PARTS_FIRST, "wants_progress": on_progress is not None}
        ask, session = functools.partial(self._session.stream, service, encoded, timeout), self._session
        line = StreamLine(lambda sink: ask(sink, **options), session.took, self._cancel)
        return AnswerStream(Reading(self.core.name, service, returns, on_progress), line, self._wait_for)

    def _cancel(self, request_ids: list[int]) -> None:
        self._session.cancel(request_ids)
        self._system._settle()

    def _wait_for(self, news: SimpleQueue[Any]) -> Any:
        self._system._wait_until(lambda: not news.empty())
        return news.get()

    @takes_contracts
    def start(
        self,
        body: Any = b"",
        service: str = "",
        *,
        ticket: str | None = None,
        deadline_s: float | None = None,
        priority: int = messages.PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        timeout: Timeout = ...,
    ) -> Ticket:
        """Start a request that outlives this client, as :meth:`cbw.Client.start`. The broker in memory has no journal."""
        request = MemoryRequest(self)
        name = self._system._new_ticket() if ticket is None else ticket
        options = (timeout, deadline_s, priority, delay_s, require_worker, headers)
        request.id = self._session.start(name, service, codec.encode(body), *options, request._end)
        self._system._settle()
        return ticket_of(request._wait())

    def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """The answer of such a request, as :meth:`cbw.Client.result`. Time passes until it is there."""
        request = MemoryRequest(self)
        request.id = self._session.collect(ticket, timeout, request._end)
        self._system._settle()
        return request.result(returns)

    @property
    def _wake_at(self) -> float:
        return self.core.wake_at

    def _turn(self) -> bool:
        link, has_news = self._link, bool(self._inbox)
        link.has_sent = False
        ended = self._session.turn(has_changes=True)
        self._session.deliver_news()
        for end in ended:
            end.sink(end)
        return has_news or link.has_sent or bool(ended)


class MemoryWorker(_Peer):
    """A worker in memory; :meth:`System.worker` makes it.

    Its handlers run when their tasks begin, one after another. They may call the system, and do to workers, even to
    their own, what is below: a handler that kills its worker is a crash in the middle of the request.
    """

    _side = Side.WORKER

    def __init__(
        self,
        system: System,
        name: str,
        handlers: Mapping[str, Callable[..., Any]],
        concurrency: int,
        work_time_s: float,
        retrying: Retrying,
    ) -> None:
        super().__init__(system)
        self._pool = MemoryPool(handlers, concurrency, work_time_s, lambda: system.now, retrying)
        takes_streams, boot = self._pool.takes_streams, f"{name} {len(system._workers)}"
        self.core = WorkerCore(name, boot, list(handlers), concurrency, wants_names=True, takes_streams=takes_streams)
        self.is_alive, self.is_frozen = True, False
        self._link: WorkerMemoryLink = WorkerMemoryLink(self._inbox, native.to_worker, self._post)
        self._stop_by: float | None = None
        self._driver = WorkerDriver(self.core, self._pool, self._link)

    def kill(self) -> None:
        """End the worker in the middle of whatever it does, as SIGKILL would."""
        self.is_alive = False
        self.cut()

    def stop(self, *, grace_s: float = 10.0) -> None:
        """Stop the worker as SIGTERM would: it takes nothing more, finishes what runs, and says goodbye."""
        self._stop_by = self._system.now + grace_s
        self._system._settle()

    def freeze(self) -> None:
        """Have the worker stand still, as SIGSTOP would: it does nothing, and says nothing, but its connection stays."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let a frozen worker go on where it was, as SIGCONT would."""
        self.is_frozen = False
        self._system._settle()

    @property
    def _is_there(self) -> bool:
        return self.is_alive

    @property
    def _wake_at(self) -> float:
        if not self.is_alive or self.is_frozen:
            return math.inf
        return min(self._driver.wake_at, self._pool.wake_at)

    def _turn(self) -> bool:
        if not self.is_alive or self.is_frozen:
            return False
        link = self._link
        has_news = bool(self._inbox) or self._pool.wake_at <= self._system.now
        link.has_sent = False
        stop_by, self._stop_by = self._stop_by, None
        self._driver.turn(self._system.now, stop_by)
        has_moved = has_news or link.has_sent
        if link.is_reconnect_wanted:
            link.is_reconnect_wanted = False
            self.cut()
            self.mend()
        if self._driver.is_over:
            self.kill()
        return has_moved

    def _work(self) -> bool:
        """Begin one task, if there is room. Its handler may do anything, also make this worker work on."""
        return self.is_alive and not self.is_frozen and self._pool.run_next()
