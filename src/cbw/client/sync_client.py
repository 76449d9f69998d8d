"""The client library for threads: what a program asks for."""

from __future__ import annotations

import functools
import queue
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, Self, TypeVar, Unpack, overload

from cbw import codec
from cbw.client.contracts import OfOne, OfTwo, maps_contracts, streams_contracts, takes_contracts
from cbw.client.future import RequestFuture
from cbw.client.options import Headers, Timeout, check_returns
from cbw.client.progress import OnProgress, ProgressSink
from cbw.client.result import result_of
from cbw.client.session import TIMEOUT_S, KeysPath
from cbw.client.shared_socket import SharedSocket
from cbw.client.stream import AnswerStream, Reading, StreamLine
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


class Client(SharedSocket):
    """A connection to a broker. Thread-safe; use it in a ``with`` statement or call :meth:`close`.

    A broker gives up the requests of a client that leaves. So the end of ``with`` waits until all requests have ended, unless an
    exception leaves it; and a program that ends without closing its client leaves to chance what it has submitted. Requests that
    are to outlive their program are made by :meth:`start`.

    ``broker`` is ``"host:port"`` of the broker's client port (default: ``BROKER_HOST`` and ``BROKER_PORT``, else
    ``127.0.0.1:9998``). Of several, given as ``"a:9998,b:9998"`` or by a name with several addresses, it uses one, and another
    when that is lost. It may start later: requests wait for it until their time is up. ``timeout`` is in seconds, for each
    request that gives none of its own; None waits for ever. ``trace`` is where records go (default: to the logger of
    ``LOGGER_HOST``, if that is set); the client closes it. ``keys`` is the folder of keys, or the client's secret key file in
    it (default: ``CBW_KEYS``; empty: nothing is encrypted). In a forked process it is closed; make another one there. Where
    gevent has patched the program, a call stops its own greenlet only.

    Raises:
        UsageError: the address, the id or the timeout is not valid, or a key is missing.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(wait=kind is None)

    def status(self) -> dict[str, Any]:
        """The state of this client, in the form of ``/status.json``. Safe from any thread."""
        with self._lock:
            return self._session.status()

    # --- requests

    @overload
    def call(self, task: Contract[P, R, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(
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
    def call(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[RequestOptions]
    ) -> T: ...
    @overload
    def call(self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[RequestOptions]) -> Any: ...
    @takes_contracts
    def call(
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
        """Send one request and wait for its answer.

        ``body`` is sent as it is if it is ``bytes``, as UTF-8 if it is ``str``, else as JSON; ``returns`` is the type as
        which the answer is read, in the same way (default: ``bytes``). ``timeout`` is in seconds; None waits for ever; the
        default is the client's own. A ``priority`` from 0 to 9 orders what waits of this client, 9 first; clients take turns
        whatever their priorities are. A request with a timeout is sent again as long as the broker is too busy for it. No worker
        gets it before ``delay_s`` seconds have passed, which count towards the timeout. With ``require_worker`` it ends at once,
        with :class:`~cbw.errors.Expired` of kind ``no_worker``, if no worker serves it.
        ``headers`` are texts that the handler finds in its ``Context``: at most 32, of 8192 bytes in all.
        ``on_progress`` is called with a :class:`cbw.Progress` for each that the handler tells with ``Context.progress``.

        Raises:
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            UsageError: ``service`` is not a valid name, ``timeout`` not a number, ``priority`` not one from 0 to 9,
                or ``delay_s`` not below ``timeout``.
            Closed: the client is closed.
        """
        encoded = [codec.encode(body)]
        if on_progress is not None:
            options: dict[str, Any] = {"delay_s": delay_s, "require_worker": require_worker, "headers": headers}
            ask = functools.partial(self._session.stream, service, encoded[0], timeout)
            ended = self._wait_for(lambda sink: ask(sink, priority, **options, wants_progress=True), on_progress)
            return result_of(ended, returns)
        ended = self._wait_for(
            lambda sink: self._session.submit(
                service,
                encoded,
                timeout,
                sink,
                priority,
                delay_s=delay_s,
                require_worker=require_worker,
                headers=headers,
            )[0]
        )
        return result_of(ended, returns)

    @overload
    def start(self, task: Contract[P, Any, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> Ticket: ...
    @overload
    def start(
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
    def start(
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
        """Start a request that outlives this client; :meth:`result` fetches its answer, from any client, at any later time.

        Returns when the broker has the request, which is in its journal if the ticket ``is_durable``, and otherwise lives as
        long as the broker. The answer is kept for a day after the end (the broker's ``--results-keep``), as far as there is
        room. ``ticket`` may be chosen by you, to start the same request only once, whatever fails: if the broker has it, it is
        not run again. Otherwise it is made up, and nobody can guess it: whoever has it can fetch the answer.

        ``deadline_s`` is how long the request may take, in seconds (default: for ever). No worker gets it before the first
        ``delay_s`` of these have passed. ``priority``, ``require_worker`` and ``headers`` are those of :meth:`call`. ``timeout``
        is how long to wait for the broker; after that it is not known whether it has the request: do the same again.

        Raises:
            TicketTaken: another request, with another body or for another service, has this ticket.
            RequestError: the broker does not take it, or was not reached in time; the subclass says why.
            VersionMismatch: the broker is too old to know tickets.
            UsageError: ``service`` or ``ticket`` is not a valid name, or one of the numbers is out of its bounds.
            Closed: the client is closed.
        """
        name, encoded, start = new_ticket() if ticket is None else ticket, codec.encode(body), self._session.start
        options = (timeout, deadline_s, priority, delay_s, require_worker, headers)
        return ticket_of(self._wait_for(lambda sink: start(name, service, encoded, *options, sink)))

    @overload
    def result(self, ticket: str, *, timeout: Timeout = ...) -> bytes: ...
    @overload
    def result(self, ticket: str, *, timeout: Timeout = ..., returns: type[T]) -> T: ...
    @overload
    def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any) -> Any: ...
    def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """Wait for the answer of a request that was started under ``ticket``. It may be fetched again, also by others.

        ``returns`` and ``timeout`` are those of :meth:`call`; the request goes on when the time is over, or if the client is
        closed.

        Raises:
            UnknownTicket: the broker has no such request, or has dropped its answer.
            Expired: there is no answer in time; or the request itself had a deadline, which passed.
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            VersionMismatch: the broker is too old to know tickets.
            UsageError: ``ticket`` is not a valid name, ``timeout`` not a number, or ``returns`` not a type.
            Closed: the client is closed.
        """
        check_returns(returns)
        return result_of(self._wait_for(lambda sink: self._session.collect(ticket, timeout, sink)), returns)

    @overload
    def submit(self, task: Contract[P, R, ..., Any], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...
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
    ) -> Future[bytes]: ...
    @overload
    def submit(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[RequestOptions]
    ) -> Future[T]: ...
    @overload
    def submit(
        self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[RequestOptions]
    ) -> Future[Any]: ...
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
    ) -> Future[Any]:
        """Send one request and return its future. ``future.cancel()`` cancels the request, also while it runs.

        The options are those of :meth:`call`.
        The future's callbacks run in the thread that reads the socket: they must not wait for another answer.
        """
        future = RequestFuture(self._cancel, self._wait_no_more, returns)
        with self._lock:
            self._waiting += 1
        try:
            options: dict[str, Any] = {"delay_s": delay_s, "require_worker": require_worker, "headers": headers}
            encoded = codec.encode(body)
            if on_progress is None:
                (future.request_id,) = self._submit_all(
                    service, [encoded], timeout, priority, future.end, may_retry=True, **options
                )
            else:
                sink = ProgressSink(future.end, on_progress)
                future.request_id = self._ask_stream(
                    sink, service, encoded, timeout, priority, wants_progress=True, **options
                )
        except BaseException:
            self._wait_no_more()
            raise
        self._attend()
        return future

    @overload
    def stream(
        self, task: Contract[P, Any, ..., Iterator[T] | AsyncIterator[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AnswerStream[T]: ...
    @overload
    def stream(self, body: Body = b"", service: str = "", **options: Unpack[StreamOptions]) -> AnswerStream[bytes]: ...
    @overload
    def stream(
        self, body: Body = b"", service: str = "", *, returns: type[T], **options: Unpack[StreamOptions]
    ) -> AnswerStream[T]: ...
    @overload
    def stream(
        self, body: Body = b"", service: str = "", *, returns: Any, **options: Unpack[StreamOptions]
    ) -> AnswerStream[Any]: ...
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
    ) -> AnswerStream[Any]:
        """Send one request to a handler that yields, and iterate over the parts of its answer as they come.

        Each part is read as ``returns``. To leave the loop gives the request up, and closes the generator in the worker. If the
        worker is lost after parts have come, the stream ends with :class:`cbw.StreamBroken`; with ``restart`` another worker
        begins anew, its parts come from the first one, and ``stream.attempt`` counts one more. A handler that returns makes one.
        ``timeout`` is for all parts together. The other options are those of :meth:`call`. ::

            for word in client.stream(tell, "a story"):
                print(word)

        Raises:
            StreamBroken, RequestError, UsageError, Closed: as :meth:`call`, when the next part is asked for.
        """
        encoded = codec.encode(body)
        options |= {"parts": PARTS_FIRST, "restart": restart, "wants_progress": on_progress is not None}
        line = StreamLine(
            lambda sink: self._ask_stream(sink, service, encoded, timeout, priority, **options),
            self._took,
            self._cancel,
            self._session.unread,
        )
        return AnswerStream(Reading(self.id, service, returns, on_progress), line, self._wait)

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
    ) -> Iterator[R]: ...
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
    ) -> Iterator[R]: ...
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
    ) -> Iterator[Any]: ...
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
    ) -> Iterator[Any]: ...
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
    ) -> Iterator[Any]: ...
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
    ) -> Iterator[Any]:
        """Send a request for each of ``bodies``, with at most ``window`` in flight, and yield the answers.

        They come in the order of ``bodies``; with ``is_ordered=False`` as they arrive, each as a pair (position, answer).
        ``bodies`` may be slow: answers that are there are yielded before the next body is waited for.
        ``timeout`` (of each request), ``priority``, ``require_worker`` and ``headers`` are those of :meth:`call`, but nothing is
        sent again that the broker is too busy for: that is an error like others.
        ``on_progress`` is called now and then with the number of requests that have ended. A request that fails raises its
        error here, and those in flight are cancelled; with ``return_errors`` the error is yielded instead of the answer.
        """
        mapping = MapWindow(bodies, window, is_ordered=is_ordered)
        options: dict[str, Any] = {"require_worker": require_worker, "headers": headers}
        send = functools.partial(
            self._submit_all, service, timeout=timeout, priority=priority, may_retry=False, **options
        )
        return self._map(mapping, send, returns, is_ordered, on_progress, return_errors)

    def _map(
        self,
        mapping: MapWindow,
        send: Callable[..., range],
        returns: Any,
        is_ordered: bool,
        on_progress: Callable[[int], None] | None,
        return_errors: bool,
    ) -> Iterator[Any]:
        answers: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        is_counted = False  # among those waiting, from the first slow body on: answers are read while it is made
        try:
            while not mapping.is_done:
                while batch := mapping.take_bodies():
                    mapping.sent(send(batch, sink=answers.put))
                    self._push()
                    if mapping.is_slow:
                        break
                if not mapping.in_flight:
                    break
                if not mapping.is_slow:
                    mapping.ended(self._wait(answers))
                elif not is_counted:
                    is_counted = True
                    with self._lock:
                        self._waiting += 1
                    self._attend()
                while not answers.empty():
                    mapping.ended(answers.get())
                if on_progress is not None:
                    on_progress(mapping.done)
                for position, ended in mapping.take_answers():
                    result = result_of(ended, returns, return_errors)
                    yield result if is_ordered else (position, result)
        finally:
            if is_counted:
                self._wait_no_more()
            if mapping.in_flight:
                self._cancel(list(mapping.in_flight))

    def close(self, *, wait: bool = False) -> None:
        """End the requests in flight with :class:`~cbw.errors.Closed`, and close the connection. Safe to call twice.

        ``wait``: first wait until they have ended by themselves, with an answer or an error; each does so within its timeout. A
        stream that the caller itself has left, for instance in a variable, is given up. A future's callback may call this, but
        cannot wait; the connection is closed when the callbacks have returned.
        """
        try:
            if wait:
                self._drain()
        finally:
            self._close()
