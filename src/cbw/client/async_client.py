"""The client library for asyncio: directly on the running event loop, without a thread and without ``zmq.asyncio``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from cbw import codec
from cbw.client.async_future import PendingAnswer, WaitingFuture
from cbw.client.contracts import OfOne, OfTwo, maps_contracts, streams_contracts, takes_contracts
from cbw.client.loop_socket import LoopSocket
from cbw.client.options import Headers, Timeout, check_returns
from cbw.client.progress import OnProgress, ProgressSink
from cbw.client.result import result_of
from cbw.client.session import TIMEOUT_S, KeysPath
from cbw.client.stream import AsyncAnswerStream, Reading, StreamLine
from cbw.client.ticket import Ticket, new_ticket, ticket_of
from cbw.client.window import WINDOW, MapWindow
from cbw.codec import Body
from cbw.contract.service import Contract, RequestOptions, StreamOptions
from cbw.core.client.events import Ended
from cbw.core.messages import PRIORITY
from cbw.core.parts import PARTS_FIRST
from cbw.observe.trace import Trace

A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncClient(LoopSocket):
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
        super().__init__(broker, id, timeout, trace, keys)
        self.id = self._session.core.name

    def status(self) -> dict[str, Any]:
        """The state of this client, in the form of ``/status.json``. Safe from any thread."""
        return self._session.status()

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
        on_progress: OnProgress = None,
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
        on_progress: OnProgress = None,
        returns: Any = bytes,
    ) -> Any:
        """Send one request and wait for its answer. The arguments are those of :meth:`cbw.Client.call`.

        Raises:
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            UsageError: ``service`` is not a valid name, ``timeout`` not a number, ``priority`` not one from 0 to 9,
                or ``delay_s`` not below ``timeout``.
            Closed: the client is closed.
        """
        # No name for the future: it holds the exception, which holds this frame, and only the garbage collector would free them.
        return await self._request(
            body, service, timeout, priority, delay_s, require_worker, headers, on_progress, returns
        )

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
        future, name = self._waiting_future(), new_ticket() if ticket is None else ticket
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
        check_returns(returns)
        future = self._waiting_future()
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
        on_progress: OnProgress = None,
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
        on_progress: OnProgress = None,
        returns: Any = bytes,
    ) -> asyncio.Future[Any]:
        """Send one request and return its future. ``future.cancel()`` cancels the request, also while it runs.

        Call it in the event loop's thread.
        """
        return self._request(body, service, timeout, priority, delay_s, require_worker, headers, on_progress, returns)

    @overload
    def stream(
        self, task: Contract[P, Any, ..., Iterator[T] | AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncAnswerStream[T]: ...
    @overload
    def stream(
        self, body: Body = b"", service: str = "", **options: Unpack[StreamOptions]
    ) -> AsyncAnswerStream[bytes]: ...
    @overload
    def stream(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[StreamOptions]
    ) -> AsyncAnswerStream[T]: ...
    @overload
    def stream(
        self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[StreamOptions]
    ) -> AsyncAnswerStream[Any]: ...
    @streams_contracts
    def stream(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        returns: Any = bytes,
        restart: bool = False,
        on_progress: OnProgress = None,
        **options: Any,
    ) -> AsyncAnswerStream[Any]:
        """Send one request to a handler that yields, and iterate over the parts of its answer with ``async for``.

        The arguments and errors are those of :meth:`cbw.Client.stream`.
        """
        encoded = codec.encode(body)
        options |= {"parts": PARTS_FIRST, "restart": restart, "wants_progress": on_progress is not None}

        def ask(sink: Callable[[Any], None]) -> int:
            self._attach()
            return self._ask_stream(sink, service, encoded, timeout, priority, **options)

        return AsyncAnswerStream(
            Reading(self.id, service, returns, on_progress),
            StreamLine(ask, self._took, self._cancel, self._session.unread),
        )

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

    # --- inside

    def _waiting_future(self) -> WaitingFuture:
        future = WaitingFuture(loop=self._attach())
        future.cancel_requests = self._cancel
        return future

    def _request(
        self,
        body: Any,
        service: str,
        timeout: Timeout,
        priority: int,
        delay_s: float,
        require_worker: bool,
        headers: Headers,
        on_progress: OnProgress,
        returns: Any,
    ) -> PendingAnswer:
        future = PendingAnswer(loop=self._attach())
        future.cancel_requests, future.returns = self._cancel, returns
        encoded = codec.encode(body)
        if on_progress is not None:
            sink = ProgressSink(future.end, on_progress)
            options = {"delay_s": delay_s, "require_worker": require_worker, "headers": headers}
            future.request_id = self._ask_stream(
                sink, service, encoded, timeout, priority, **options, wants_progress=True
            )
            return future
        future.request_id = self._session.submit(
            service, [encoded], timeout, future.end, priority, True, delay_s, require_worker, headers
        )[0]
        self._take_turn_soon()
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
