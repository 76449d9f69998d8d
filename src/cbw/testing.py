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

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from cbw import codec
from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import BrokerCore, Limits
from cbw.core.client import ClientCore, Ended
from cbw.core.messages import Status
from cbw.core.worker import WorkerCore
from cbw.errors import CbwError, NoAnswer
from cbw.handler import Attempt, Handler, cancelled
from cbw.refusal import refusal_error
from cbw.session import TIMEOUT_S, Timeout, deadline_after, decode, error_of, seconds_of
from cbw.wire import native

F = TypeVar("F", bound=Callable[..., Any])
TICK_S = 0.001
"""Time passes in steps of at least this."""
PATIENCE_S = 3600.0
"""Whoever waits for an answer without a deadline is told after this time that none will come."""


class System:
    """A broker in memory, and the clients and workers that are made here.

    ``broker`` is the living :class:`~cbw.core.broker.BrokerCore`, whose ``counts`` may be of interest; its state is
    checked after each of its steps. ``records`` is the trace: what happened, in order. ``now`` is in seconds.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.now = 0.0
        self.records: list[e.Record] = []
        self.is_broker_alive = False
        self._limits = limits or Limits()
        self._boots = 0
        self._connections: dict[tuple[e.Side, bytes], _Peer] = {}
        self._connections_made = 0
        self._clients: list[MemoryClient] = []
        self._workers: list[MemoryWorker] = []
        self._facts: list[e.Event] = []
        self.start_broker()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.check()

    # --- who is there

    def service(self, name: str = "") -> Callable[[F], F]:
        """Decorator: a worker of its own serves requests for ``name`` with the function."""

        def register(function: F) -> F:
            self.worker({name: function})
            return function

        return register

    def worker(
        self,
        handlers: Callable[..., Any] | Mapping[str, Callable[..., Any]],
        *,
        id: str | None = None,
        concurrency: int = 1,
        work_time_s: float = 0.0,
    ) -> MemoryWorker:
        """Start a worker for services and their handlers; a lone function serves the nameless service.

        A handler is called when its task begins, and answers ``work_time_s`` later.
        """
        if not isinstance(handlers, Mapping):
            handlers = {"": handlers}
        worker = MemoryWorker(self, id or f"W{len(self._workers) + 1}", handlers, concurrency, work_time_s)
        self._workers.append(worker)
        worker.mend()
        return worker

    def client(self, id: str | None = None, *, timeout: float | None = TIMEOUT_S) -> MemoryClient:
        """Start a client."""
        client = MemoryClient(self, id or f"C{len(self._clients) + 1}", timeout)
        self._clients.append(client)
        client.mend()
        return client

    def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """One request of the first client, and its answer, as :meth:`cbw.Client.call`. Time passes until it is there."""
        return self.submit(body, service, timeout=timeout).result(returns)

    def submit(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> MemoryRequest:
        """One request of the first client. No time passes; what can happen at once has happened."""
        client = self._clients[0] if self._clients else self.client()
        return client.submit(body, service, timeout=timeout)

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
        """It is gone, with everything that it knew; all connections are lost."""
        self.is_broker_alive = False
        for peer in list(self._connections.values()):
            peer.cut()
        self._facts.clear()

    def start_broker(self) -> None:
        """Start another one after :meth:`kill_broker`; those that were cut off find it."""
        self._boots += 1
        self.broker = BrokerCore(
            "BRO", f"boot {self._boots}", self._limits, first_task=self._boots << 20, is_tracing=True
        )
        self.is_broker_alive = True
        for peer in (*self._clients, *self._workers):
            peer.mend()

    # --- inside: the wire and the time

    def _connect(self, side: e.Side, peer: _Peer) -> bytes:
        self._connections_made += 1
        address = b"\0%d" % self._connections_made
        self._connections[side, address] = peer
        return address

    def _disconnect(self, side: e.Side, address: bytes) -> None:
        del self._connections[side, address]
        self._facts.append(e.PeerLost(side, address))

    def _settle(self) -> None:
        """Everybody takes turns until nothing more happens at this instant."""
        is_moving = True
        while is_moving:
            turns = [peer._turn() for peer in (*self._clients, *self._workers)]
            turns.append(self._turn())
            turns.extend(worker._work() for worker in tuple(self._workers))
            is_moving = any(turns)

    def _turn(self) -> bool:
        if not self.is_broker_alive or not (self._facts or self.broker.wake_at <= self.now):
            return False
        facts, self._facts = self._facts, []
        orders = self.broker.step(facts, self.now)
        self.records.extend(self.broker.records)
        self.broker.records.clear()
        self.broker.check()
        for order in orders:
            assert isinstance(order, e.SendToClient | e.SendToWorker), f"an order that nobody here needs: {order}"
            side = e.Side.CLIENT if isinstance(order, e.SendToClient) else e.Side.WORKER
            peer = self._connections.get((side, order.peer))
            if peer is None:
                self._facts.append(e.Undelivered(side, order.peer, order.messages))
            else:
                peer._inbox.extend(frames for frames, _ in native.encode(order.messages))
        return bool(facts or orders)

    def _wake_at(self) -> float:
        times = [peer._wake_at for peer in (*self._clients, *self._workers)]
        return min(times, default=math.inf) if not self.is_broker_alive else min(self.broker.wake_at, *times)


class MemoryRequest:
    """A request that was submitted."""

    def __init__(self, client: MemoryClient) -> None:
        self.id = 0
        self._client = client
        self._ended: Ended | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it has its answer or its error."""
        return self._ended is not None

    def result(self, returns: Any = bytes) -> Any:
        """Its answer, read as ``returns``. Time passes until it is there.

        Raises:
            RequestError: it ended without an answer, or with one that ``returns`` does not fit; the subclass says how.
            NoAnswer: it has no deadline, and nobody who could answer it.
        """
        system = self._client._system
        patient_until = system.now + PATIENCE_S
        while self._ended is None:
            at = system._wake_at()
            if at > patient_until:
                raise NoAnswer("nobody will answer this request", advice="Start a worker for it, or give it a timeout.")
            system.pass_time(max(TICK_S, at - system.now))
        if self._ended.answer.status is Status.OK:
            return decode(self._ended.answer.body, returns, self.id, self._ended.service)
        raise self._client._error_of(self._ended)

    def cancel(self) -> None:
        """Take it back, also if it runs already."""
        ended = self._client.core.cancel(self.id)
        if ended is not None:
            ended.sink(ended)
            self._client._system._settle()

    @property
    def story(self) -> list[str]:
        """What the broker did with it, event by event."""
        name = f"{self._client.core.name}/{self.id}"
        return [record.event for record in self._client._system.records if record.request == name]

    def _end(self, ended: Ended) -> None:
        self._ended = ended


class _Peer:
    """What is connected to the broker, or not."""

    _side: e.Side

    def __init__(self, system: System) -> None:
        self._system = system
        self._address: bytes | None = None
        self._inbox: list[Sequence[Any]] = []

    def cut(self) -> None:
        """Lose the connection, and what is on its way to here."""
        if self._address is not None:
            self._system._disconnect(self._side, self._address)
            self._address = None
            self._inbox.clear()
            self._connection_lost()
            self._system._settle()

    def mend(self) -> None:
        """Get it back, if there is a broker."""
        if self._address is None and self._system.is_broker_alive and self._is_there:
            self._address = self._system._connect(self._side, self)
            self._connection_made()
            self._system._settle()

    @property
    def _is_there(self) -> bool:
        return True

    def _take_inbox(self) -> list[Sequence[Any]]:
        inbox, self._inbox = self._inbox, []
        return inbox

    @property
    def _wake_at(self) -> float:
        raise NotImplementedError

    def _turn(self) -> bool:
        """Take in what has arrived, do what is due, say what is to be said; whether it was anything."""
        raise NotImplementedError

    def _connection_made(self) -> None:
        raise NotImplementedError

    def _connection_lost(self) -> None:
        raise NotImplementedError


class MemoryClient(_Peer):
    """A client in memory; :meth:`System.client` makes it."""

    _side = e.Side.CLIENT

    def __init__(self, system: System, name: str, timeout: float | None) -> None:
        super().__init__(system)
        self.core = ClientCore(name, name)
        self._timeout_s = seconds_of(timeout)

    def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """One request, and its answer."""
        return self.submit(body, service, timeout=timeout).result(returns)

    def submit(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> MemoryRequest:
        """One request."""
        if self.core.refused is not None:
            raise refusal_error(self.core.refused)
        system = self._system
        deadline_at = deadline_after(system.now, self._timeout_s if timeout is ... else seconds_of(timeout))
        request = MemoryRequest(self)
        request.id = self.core.submit(service, codec.encode(body), deadline_at, system.now, request._end)
        system._settle()
        return request

    @property
    def _wake_at(self) -> float:
        return self.core.wake_at

    def _turn(self) -> bool:
        now = self._system.now
        ended: list[Ended] = []
        inbox = self._take_inbox()
        for frames in inbox:
            ended.extend(self.core.received(native.to_client(frames), now))
        if self.core.wake_at <= now:
            ended.extend(self.core.tick(now))
        for end in ended:
            end.sink(end)
        messages = self.core.take_messages()
        if self._address is not None:
            for frames, _ in native.encode(messages):
                self._system._facts.append(e.ClientSaid(self._address, native.from_client(frames)))
        return bool(inbox or ended or messages)

    def _connection_made(self) -> None:
        self.core.connected(self._system.now)

    def _connection_lost(self) -> None:
        self.core.disconnected()

    def _error_of(self, ended: Ended) -> CbwError:
        refused = self.core.refused
        return error_of(ended.answer, ended.service) if refused is None else refusal_error(refused)


class MemoryWorker(_Peer):
    """A worker in memory; :meth:`System.worker` makes it.

    Its handlers run when their tasks begin, one after another. They may call the system, and do to workers, even to
    their own, what is below: a handler that kills its worker is a crash in the middle of the request.
    """

    _side = e.Side.WORKER

    def __init__(
        self,
        system: System,
        name: str,
        handlers: Mapping[str, Callable[..., Any]],
        concurrency: int,
        work_time_s: float,
    ) -> None:
        super().__init__(system)
        self.core = WorkerCore(name, f"{name} {len(system._workers)}", list(handlers), concurrency)
        self.is_alive = True
        self.is_frozen = False
        self._handlers = {name: Handler(name, function) for name, function in handlers.items()}
        self._concurrency = concurrency
        self._work_time_s = work_time_s
        self._waiting: deque[m.Task] = deque()
        self._running: dict[int, Attempt] = {}
        self._done: list[tuple[float, m.Answer]] = []  # when each is to be answered, earliest first

    def kill(self) -> None:
        """As SIGKILL: it is gone in the middle of whatever it did."""
        self.is_alive = False
        self.cut()

    def stop(self, *, grace_s: float = 10.0) -> None:
        """As SIGTERM: it takes nothing more, finishes what runs, and says goodbye."""
        self.core.stop_requested(self._system.now, self._system.now + grace_s)
        self._system._settle()

    def freeze(self) -> None:
        """As SIGSTOP: it does nothing, and says nothing, but its connection stays."""
        self.is_frozen = True

    def thaw(self) -> None:
        """As SIGCONT: it goes on where it was."""
        self.is_frozen = False
        self._system._settle()

    @property
    def _is_there(self) -> bool:
        return self.is_alive

    @property
    def _wake_at(self) -> float:
        if not self.is_alive or self.is_frozen:
            return math.inf
        return min(self.core.wake_at, self._done[0][0]) if self._done else self.core.wake_at

    def _turn(self) -> bool:
        if not self.is_alive or self.is_frozen:
            return False
        core, now = self.core, self._system.now
        inbox = self._take_inbox()
        for frames in inbox:
            core.received(native.to_worker(frames), now)
        is_done = bool(self._done) and self._done[0][0] <= now
        while self._done and self._done[0][0] <= now:
            answer = self._done.pop(0)[1]
            self._running.pop(answer.id, None)
            core.finished([answer], self._work_time_s, now)
        if core.wake_at <= now:
            core.tick(now)
        self._carry_out()
        messages = core.take_messages()
        if self._address is not None:
            for frames, _ in native.encode(messages):
                self._system._facts.append(e.WorkerSaid(self._address, native.from_worker(frames)))
        if core.is_reconnect_wanted:
            core.is_reconnect_wanted = False
            self.cut()
            self.mend()
        if core.is_done:
            self.is_alive = False
            self.cut()
        return bool(inbox or is_done or messages)

    def _connection_made(self) -> None:
        self.core.connected(self._system.now)

    def _connection_lost(self) -> None:
        self.core.disconnected(self._system.now)

    def _carry_out(self) -> None:
        core, now = self.core, self._system.now
        self._waiting.extend(core.take_tasks())
        if core.to_take_back:
            wanted, core.to_take_back = core.to_take_back, []
            back = [task.id for task in self._waiting if task.id in wanted]
            self._waiting = deque(task for task in self._waiting if task.id not in back)
            core.returned(back, now)
        for task in core.to_cancel:
            if task in self._running:
                self._running[task].is_cancelled = True
            elif any(waiting.id == task for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting.id != task)
                self._done.insert(0, (now, cancelled(task)))
        core.to_cancel.clear()

    def _work(self) -> bool:
        """Begin one task, if there is room. Its handler may do anything, also make this worker work on."""
        is_ready = self.is_alive and not self.is_frozen and len(self._running) < self._concurrency
        if not is_ready or not self._waiting:
            return False
        task = self._waiting.popleft()
        system, handler = self._system, self._handlers[task.service]
        attempt = self._running[task.id] = Attempt(task, system.now, lambda: system.now)
        answer = asyncio.run(handler.run_async(task, attempt)) if handler.is_async else handler.run(task, attempt)
        self._done.append((system.now + self._work_time_s, answer))
        self._done.sort(key=lambda item: item[0])
        return True
