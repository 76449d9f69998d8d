"""The client library for asyncio: directly on the running event loop, without a thread and without ``zmq.asyncio``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from cbw import codec
from cbw.client.async_future import PendingAnswer, WaitingFuture
from cbw.client.contracts import OfOne, OfTwo, maps_contracts, takes_contracts
from cbw.client.result import decode_answer, result_of
from cbw.client.session import DRAIN_LOOK_S, TIMEOUT_S, Headers, KeysPath, Timeout, open_session
from cbw.client.ticket import Ticket, new_ticket, ticket_of
from cbw.client.window import WINDOW, MapWindow
from cbw.codec import Body
from cbw.contract.service import Contract, RequestOptions
from cbw.core.client.events import Ended
from cbw.core.messages import PRIORITY
from cbw.observe.trace import Trace

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """A connection to a broker, shaped like :class:`cbw.Client`. Use it in ``async with``, or await :meth:`close`.

    As there, the end of ``async with`` waits for the requests in flight, unless it is left by an exception.

    ::

        async with cbw.AsyncClient("localhost:9998") as client:
            answers = await asyncio.gather(client.call(b"one"), client.call(b"two"))

    It may be made anywhere, but belongs to the event loop in which it is first used. Requests that are submitted in one
    turn of the loop travel in one batch. Cancelling a task that awaits an answer cancels the request. The broker's name is
    looked up in another thread, so the loop never waits for a name server.

    Raises:
        UsageError: the address, the id or the timeout is not valid.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        id: str | None = None,
        timeout: float | None = TIMEOUT_S,
        trace: Trace | None = None,
        keys: KeysPath = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session, self._connection = open_session(broker, id, timeout, trace, self._resolved, keys)
        self.id = self._session.core.name
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._attach()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.close(wait=kind is None)

    # --- requests

    @overload
    async def call(self, task: Contract[P, R, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(
        self,
        body: Body = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
    ) -> bytes: ...
    @overload
    async def call(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[RequestOptions]
    ) -> T: ...
    @overload
    async def call(
        self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[RequestOptions]
    ) -> Any: ...
    @takes_contracts
    async def call(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        returns: Any = bytes,
    ) -> Any:
        """Send one request and wait for its answer. The arguments are those of :meth:`cbw.Client.call`.

        Raises:
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            UsageError: ``service`` is not a valid name, ``timeout`` not a number, ``priority`` not one from 0 to 9,
                or ``delay_s`` not below ``timeout``.
            Closed: the client is closed.
        """
        options = {"delay_s": delay_s, "require_worker": require_worker, "headers": headers}
        future = self._request(body, service, timeout, priority, **options)
        try:
            return decode_answer(await future, returns, future.request_id, service, self.id)
        finally:
            del future  # it holds the exception, which holds this frame: only the garbage collector would free them

    @overload
    async def start(self, task: Contract[P, Any, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> Ticket: ...
    @overload
    async def start(
        self,
        body: Body = b"",
        service: str = "",
        *,
        ticket: str | None = None,
        deadline_s: float | None = None,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        timeout: Timeout = ...,
    ) -> Ticket: ...
    @takes_contracts
    async def start(
        self,
        body: Any = b"",
        service: str = "",
        *,
        ticket: str | None = None,
        deadline_s: float | None = None,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        timeout: Timeout = ...,
    ) -> Ticket:
        """Start a request that outlives this client; :meth:`result` fetches its answer. As :meth:`cbw.Client.start`.

        Cancelling the task that awaits this does not cancel the request, if the broker has it already.

        Raises:
            TicketTaken, RequestError, VersionMismatch, UsageError, Closed: as :meth:`cbw.Client.start`.
        """
        future, name = WaitingFuture(self._cancel, self._attach()), new_ticket() if ticket is None else ticket
        options = (timeout, deadline_s, priority, delay_s, require_worker, headers)
        future.request_id = self._session.start(name, service, codec.encode(body), *options, future.set_ended)
        self._take_turn_soon()
        return ticket_of(await future)

    @overload
    async def result(self, ticket: str, *, timeout: Timeout = ...) -> bytes: ...
    @overload
    async def result(self, ticket: str, *, timeout: Timeout = ..., returns: type[T]) -> T: ...
    @overload
    async def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any) -> Any: ...
    async def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """Wait for the answer of a request that was started under ``ticket``. As :meth:`cbw.Client.result`.

        Cancelling the task that awaits this does not cancel the request.

        Raises:
            UnknownTicket, Expired, RequestError, VersionMismatch, UsageError, Closed: as :meth:`cbw.Client.result`.
        """
        future = WaitingFuture(self._cancel, self._attach())
        future.request_id = self._session.collect(ticket, timeout, future.set_ended)
        self._take_turn_soon()
        return result_of(await future, returns)

    @overload
    def submit(self, task: Contract[P, R, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]: ...
    @overload
    def submit(
        self,
        body: Body = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
    ) -> asyncio.Future[bytes]: ...
    @overload
    def submit(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[RequestOptions]
    ) -> asyncio.Future[T]: ...
    @overload
    def submit(
        self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[RequestOptions]
    ) -> asyncio.Future[Any]: ...
    @takes_contracts
    def submit(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        headers: Headers = None,
        returns: Any = bytes,
    ) -> asyncio.Future[Any]:
        """Send one request and return its future. ``future.cancel()`` cancels the request, also while it runs.

        Call it in the event loop's thread.
        """
        options = {"delay_s": delay_s, "require_worker": require_worker, "headers": headers}
        return self._request(body, service, timeout, priority, returns, **options)

    @overload
    def map(
        self,
        task: OfOne[A, R],
        values: Iterable[A],
        /,
        *,
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[R, None]: ...
    @overload
    def map(
        self,
        task: OfTwo[A, B, R],
        values: Iterable[A],
        others: Iterable[B],
        /,
        *,
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> AsyncGenerator[R, None]: ...
    @overload
    def map(
        self,
        task: Contract[..., Any, ..., Any],
        /,
        *values: Iterable[Any],
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        is_ordered: bool,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool = False,
    ) -> AsyncGenerator[Any, None]: ...
    @overload
    def map(
        self,
        task: Contract[..., Any, ..., Any],
        /,
        *values: Iterable[Any],
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool,
    ) -> AsyncGenerator[Any, None]: ...
    @overload
    def map(
        self,
        bodies: Iterable[Any],
        service: str = "",
        *,
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        returns: Any = bytes,
        is_ordered: bool = True,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool = False,
    ) -> AsyncGenerator[Any, None]: ...
    @maps_contracts
    def map(
        self,
        bodies: Iterable[Any],
        service: str = "",
        *,
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        require_worker: bool = False,
        headers: Headers = None,
        returns: Any = bytes,
        is_ordered: bool = True,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Send a request for each of ``bodies``, with at most ``window`` in flight, and yield the answers.

        The arguments are those of :meth:`cbw.Client.map`.
        """
        mapping = MapWindow(bodies, window, is_ordered=is_ordered)
        options: dict[str, Any] = {"require_worker": require_worker, "headers": headers}
        send = functools.partial(self._submit, service, timeout=timeout, priority=priority, may_retry=False, **options)
        return self._map(mapping, send, returns, is_ordered, on_progress, return_errors)

    async def _map(
        self,
        mapping: MapWindow,
        send: Callable[..., range],
        returns: Any,
        is_ordered: bool,
        on_progress: Callable[[int], None] | None,
        return_errors: bool,
    ) -> AsyncGenerator[Any, None]:
        has_answers = asyncio.Event()
        answers: list[Ended] = []

        def arrived(ended: Ended) -> None:
            answers.append(ended)
            has_answers.set()

        self._attach()
        try:
            while not mapping.is_done:
                while batch := mapping.take_bodies():
                    mapping.sent(send(batch, sink=arrived))
                    self._deliver(self._session.flush())
                    if mapping.is_slow:
                        break
                if not mapping.in_flight:
                    break
                await (asyncio.sleep(0) if mapping.is_slow else has_answers.wait())
                has_answers.clear()
                for ended in answers:
                    mapping.ended(ended)
                answers.clear()
                if on_progress is not None:
                    on_progress(mapping.done)
                for position, ended in mapping.take_answers():
                    result = result_of(ended, returns, return_errors)
                    yield result if is_ordered else (position, result)
        finally:
            if mapping.in_flight:
                self._cancel(list(mapping.in_flight))

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    async def close(self, *, wait: bool = False) -> None:
        """End the requests in flight with :class:`~cbw.errors.Closed`, and close the connection. Safe to call twice.

        ``wait``: first wait until they have ended by themselves, with an answer or an error; each does so within its timeout.
        """
        try:
            while wait and self._session.in_flight:
                await asyncio.sleep(DRAIN_LOOK_S)
        finally:
            await self._close()

    async def _close(self) -> None:
        session, link = self._session, self._connection.link
        if session.is_closed:
            return
        is_orphan = self._loop is not None and self._loop.is_closed()  # nobody is left who could be told
        ended = session.close()
        if not is_orphan:
            self._deliver(ended)
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and not is_orphan:
            self._loop.remove_reader(link.news)
            self._loop.remove_reader(link.monitor_news)
        session.say_goodbye()
        self._connection.close()
        await asyncio.to_thread(self._end)  # up to a second, which the loop should not stand still for

    # --- inside

    def _end(self) -> None:
        self._connection.wait()
        self._session.close_trace()

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None and not self._session.is_closed:
            self._loop = loop
            link = self._connection.link
            loop.add_reader(link.news, self._turn)
            loop.add_reader(link.monitor_news, self._connection_changed)
            loop.call_soon(self._connection_changed)  # perhaps the name was looked up before there was a loop
        elif self._loop is not loop and not self._session.is_closed:
            raise RuntimeError("this client belongs to another event loop")
        return loop

    def _request(
        self,
        body: Any,
        service: str,
        timeout: Timeout,
        priority: int,
        returns: Any = bytes,
        **options: Any,
    ) -> PendingAnswer:
        future = PendingAnswer(self._cancel, self._attach(), returns)
        (future.request_id,) = self._submit(
            service, [codec.encode(body)], timeout, priority, future.end, may_retry=True, **options
        )
        return future

    def _submit(
        self,
        service: str,
        bodies: list[bytes],
        timeout: Timeout,
        priority: int,
        sink: Callable[[Ended], None],
        **options: Any,
    ) -> range:
        request_ids = self._session.submit(service, bodies, timeout, sink, priority, **options)
        self._take_turn_soon()
        return request_ids

    def _cancel(self, request_ids: list[int]) -> None:
        self._session.cancel(request_ids)
        self._take_turn_soon()

    def _take_turn_soon(self) -> None:
        """Take a turn after all that the program does in this turn of the loop, so that its requests travel in one batch."""
        if not self._is_turn_due and self._loop is not None and not self._loop.is_closed():
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def _resolved(self) -> None:
        """The broker's name was looked up. Called in another thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._connection_changed)

    def _connection_changed(self) -> None:
        self._turn(has_changes=True)

    def _deliver(self, ended: list[Ended]) -> None:
        for end in ended:
            end.sink(end)

    def _turn(self, *, has_changes: bool = False) -> None:
        session, link = self._session, self._connection.link
        self._is_turn_due = False
        if session.is_closed:
            return
        link.forget_input()
        self._deliver(session.turn(has_changes=has_changes))
        if not session.is_closed:
            if link.has_input:  # came while we sent; its descriptor has said so already and will not again
                self._take_turn_soon()
            self._set_timer()

    def _set_timer(self) -> None:
        """See that a turn is taken when it is due. A timer that is set is not moved back: it is set anew when it fires."""
        timeout_s = self._session.timeout_s
        if timeout_s == math.inf or self._loop is None:
            return
        due_at = self._loop.time() + max(0.0, timeout_s)
        if self._timer is not None:
            if self._timer.when() <= due_at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_at, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._turn()
