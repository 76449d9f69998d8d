"""The client library for threads.

A thread that waits for an answer reads the socket itself, so a lone :meth:`Client.call` never changes threads. One thread
at a time *owns the socket*: the one that holds ``_socket_lock``. It reads the answers of all. When threads wait that do not
own it, or futures are open for which no thread waits, a background thread takes it over; it is started when first needed.

A thread that does not own the socket only notes what it asks for, under ``_lock``, and wakes the owner.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Self, TypeVar, overload

from cbw import codec
from cbw.client.future import RequestFuture
from cbw.client.result import result_of
from cbw.client.session import DRAIN_LOOK_S, TIMEOUT_S, KeysPath, Timeout, deliver, open_session
from cbw.client.ticket import Ticket, new_ticket, ticket_of
from cbw.client.window import WINDOW, MapWindow
from cbw.core.client.events import Ended
from cbw.core.messages import PRIORITY
from cbw.errors import Closed, UsageError
from cbw.observe.trace import Trace
from cbw.transport.fork import call_after_fork
from cbw.transport.poller import Poller, Waker

T = TypeVar("T")


class Client:
    """A connection to a broker. Thread-safe; use it in a ``with`` statement or call :meth:`close`.

    A broker gives up the requests of a client that leaves. So the end of ``with`` waits until all requests have ended, unless an
    exception leaves it; and a program that ends without closing its client leaves to chance what it has submitted. Requests that
    are to outlive their program are made by :meth:`start`.

    ``broker`` is ``"host:port"`` of the broker's client port (default: ``BROKER_HOST`` and ``BROKER_PORT``, else
    ``127.0.0.1:9998``). The broker may start later: requests wait for it until their time is up. ``timeout`` is in seconds, for
    each request that gives none of its own; None waits for ever. ``trace`` is where records go (default: to the logger of
    ``LOGGER_HOST``, if that is set); the client closes it.
    ``keys`` is the folder of keys, or the client's secret key file in it (default: ``CBW_KEYS``; empty: nothing is encrypted). In
    a forked process this client is closed; make another one there.

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
        self._waker = Waker()
        self._session, self._connection = open_session(broker, id, timeout, trace, self._waker.wake, keys)
        self.id, link = self._session.core.name, self._connection.link
        self._poller = Poller(link.socket, self._waker.fileno(), link.monitor_news)
        self._make_locks()
        self._owner: int | None = None  # the thread that owns the socket, and may run callbacks
        self._waiting = 0  # calls, futures and maps that need some thread to read the socket
        self._is_sleeping = False  # the owner sleeps, or is about to, and has to be woken
        self._is_end_owed = False  # a callback has closed the client: the owner closes the socket after its turn
        self._background: threading.Thread | None = None
        self._background_wanted = threading.Event()
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Called in a forked process, where this client is closed. A lock may have been held by a thread of the parent."""
        self._make_locks()

    def _make_locks(self) -> None:
        self._lock = threading.Lock()  # the session and what is counted here; nobody waits or calls back under it
        self._socket_lock = threading.Lock()

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
    def call(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
    ) -> bytes: ...
    @overload
    def call(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        returns: type[T],
    ) -> T: ...
    def call(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
        returns: Any = bytes,
    ) -> Any:
        """Send one request and wait for its answer.

        ``body`` is sent as it is if it is ``bytes``, as UTF-8 if it is ``str``, else as JSON; ``returns`` is the type as
        which the answer is read, in the same way (default: ``bytes``). ``timeout`` is in seconds; None waits for ever; the
        default is the client's own. A ``priority`` from 0 to 9 orders what waits of this client, 9 first; clients take turns
        whatever their priorities are. A request with a timeout is sent again as long as the broker is too busy for it. No worker
        gets it before ``delay_s`` seconds have passed, which count towards the timeout. With ``require_worker`` it ends at once,
        with :class:`~cbw.errors.Expired` of kind ``no_worker``, if no worker serves it.

        Raises:
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            UsageError: ``service`` is not a valid name, ``timeout`` not a number, ``priority`` not one from 0 to 9,
                or ``delay_s`` not below ``timeout``.
            Closed: the client is closed.
        """
        encoded = [codec.encode(body)]
        ended = self._wait_for(
            lambda sink: self._session.submit(
                service, encoded, timeout, sink, priority, delay_s=delay_s, require_worker=require_worker
            )[0]
        )
        return result_of(ended, returns)

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
        timeout: Timeout = ...,
    ) -> Ticket:
        """Start a request that outlives this client; :meth:`result` fetches its answer, from any client, at any later time.

        Returns when the broker has the request, which is in its journal if the ticket ``is_durable``, and otherwise lives as
        long as the broker. The answer is kept for a day after the end (the broker's ``--results-keep``), as far as there is
        room. ``ticket`` may be chosen by you, to start the same request only once, whatever fails: if the broker has it, it is
        not run again. Otherwise it is made up, and nobody can guess it: whoever has it can fetch the answer.

        ``deadline_s`` is how long the request may take, in seconds (default: for ever). No worker gets it before the first
        ``delay_s`` of these have passed. ``priority`` and ``require_worker`` are those of :meth:`call`. ``timeout`` is how long
        to wait for the broker; after that it is not known whether it has the request: do the same again.

        Raises:
            TicketTaken: another request, with another body or for another service, has this ticket.
            RequestError: the broker does not take it, or was not reached in time; the subclass says why.
            VersionMismatch: the broker is too old to know tickets.
            UsageError: ``service`` or ``ticket`` is not a valid name, or one of the numbers is out of its bounds.
            Closed: the client is closed.
        """
        name, encoded, start = new_ticket() if ticket is None else ticket, codec.encode(body), self._session.start
        options = (timeout, deadline_s, priority, delay_s, require_worker)
        return ticket_of(self._wait_for(lambda sink: start(name, service, encoded, *options, sink)))

    @overload
    def result(self, ticket: str, *, timeout: Timeout = ...) -> bytes: ...
    @overload
    def result(self, ticket: str, *, timeout: Timeout = ..., returns: type[T]) -> T: ...
    def result(self, ticket: str, *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """Wait for the answer of a request that was started under ``ticket``. It may be fetched again, also by others.

        ``returns`` and ``timeout`` are those of :meth:`call`; the request goes on when the time is over, or if the client is
        closed.

        Raises:
            UnknownTicket: the broker has no such request, or has dropped its answer.
            Expired: there is no answer in time; or the request itself had a deadline, which passed.
            RequestError: the request ended without an answer, or with one that is not a ``returns``; the subclass says why.
            VersionMismatch: the broker is too old to know tickets.
            UsageError: ``ticket`` is not a valid name, or ``timeout`` not a number.
            Closed: the client is closed.
        """
        return result_of(self._wait_for(lambda sink: self._session.collect(ticket, timeout, sink)), returns)

    def submit(
        self,
        body: Any = b"",
        service: str = "",
        *,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        delay_s: float = 0.0,
        require_worker: bool = False,
    ) -> Future[bytes]:
        """Send one request and return its future. ``future.cancel()`` cancels the request, also while it runs.

        ``timeout``, ``priority``, ``delay_s`` and ``require_worker`` are those of :meth:`call`.
        The future's callbacks run in the thread that reads the socket: they must not wait for another answer.
        """
        future = RequestFuture(self._cancel, self._wait_no_more)
        with self._lock:
            self._waiting += 1
        try:
            (future.request_id,) = self._submit_all(
                service, [codec.encode(body)], timeout, priority, future.end, True, delay_s, require_worker
            )
        except BaseException:
            self._wait_no_more()
            raise
        self._attend()
        return future

    def map(
        self,
        bodies: Iterable[Any],
        service: str = "",
        *,
        window: int = WINDOW,
        timeout: Timeout = ...,
        priority: int = PRIORITY,
        returns: Any = bytes,
        is_ordered: bool = True,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool = False,
        require_worker: bool = False,
    ) -> Iterator[Any]:
        """Send a request for each of ``bodies``, with at most ``window`` in flight, and yield the answers.

        They come in the order of ``bodies``; with ``is_ordered=False`` as they arrive, each as a pair (position, answer).
        ``bodies`` may be slow: answers that are there are yielded before the next body is waited for.
        ``timeout`` (of each request), ``priority`` and ``require_worker`` are those of :meth:`call`, but nothing is sent again
        that the broker is too busy for: that is an error like others.
        ``on_progress`` is called now and then with the number of requests that have ended. A request that fails raises its
        error here, and those in flight are cancelled; with ``return_errors`` the error is yielded instead of the answer.
        """
        mapping = MapWindow(bodies, window, is_ordered=is_ordered)
        send = functools.partial(
            self._submit_all, service, timeout=timeout, priority=priority, require_worker=require_worker
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

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    def close(self, *, wait: bool = False) -> None:
        """End the requests in flight with :class:`~cbw.errors.Closed`, and close the connection. Safe to call twice.

        ``wait``: first wait until they have ended by themselves, with an answer or an error; each does so within its timeout.
        A future's callback may call it, but cannot wait; the connection is closed when the callbacks have returned.
        """
        try:
            if wait and self._owner != threading.get_ident():
                self._drain()
        finally:
            self._close()

    def _drain(self) -> None:
        """Wait until nothing is in flight, and have the background thread read the socket meanwhile."""
        with self._lock:
            self._waiting += 1
        try:
            while self._session.in_flight:
                self._attend()
                time.sleep(DRAIN_LOOK_S)
        finally:
            self._wait_no_more()

    def _close(self) -> None:
        with self._lock:
            if self._session.is_closed:
                return
            ended = self._session.close()
        deliver(ended)
        self._background_wanted.set()
        if self._owner == threading.get_ident():
            self._is_end_owed = True
            return
        self._waker.wake()
        if self._background is not None:
            self._background.join()
        with self._socket_lock:
            self._end()

    # --- inside

    def _end(self) -> None:
        self._session.say_goodbye()
        self._connection.close()
        self._connection.wait()
        self._session.close_trace()
        self._waker.close()

    def _wait_for(self, ask: Callable[[Callable[[Ended], None]], int]) -> Ended:
        """Note what is asked for, and wait for its end. ``ask`` is called with a sink, under the lock, and returns its id."""
        answers: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        with self._lock:
            request_id = ask(answers.put)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        try:
            return self._wait(answers)
        except BaseException:  # Ctrl-C: nobody waits for it any more
            self._cancel([request_id])
            raise

    def _wait_no_more(self) -> None:
        """One of those that need some thread to read the socket does not any more."""
        with self._lock:
            self._waiting -= 1

    def _submit_all(
        self,
        service: str,
        bodies: list[bytes],
        timeout: Timeout,
        priority: int,
        sink: Callable[[Ended], None],
        may_retry: bool = False,
        delay_s: float = 0.0,
        require_worker: bool = False,
    ) -> range:
        how: dict[str, Any] = {"may_retry": may_retry, "delay_s": delay_s, "require_worker": require_worker}
        with self._lock:
            request_ids = self._session.submit(service, bodies, timeout, sink, priority, **how)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        return request_ids

    def _cancel(self, request_ids: list[int]) -> None:
        with self._lock:
            self._session.cancel(request_ids)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        else:
            self._push()

    def _wait(self, answers: queue.SimpleQueue[Ended]) -> Ended:
        """Wait for the first of ``answers``: own the socket until it has arrived, or let the thread read it that does."""
        if not answers.empty():
            return answers.get()
        with self._lock:
            self._waiting += 1
        try:
            while self._socket_lock.acquire(blocking=False):
                try:
                    self._exchange(lambda: not answers.empty())
                finally:
                    self._socket_lock.release()
                if not answers.empty():
                    return answers.get()
                if self._session.is_closed:
                    raise Closed("the client was closed")
            if self._owner == threading.get_ident():
                raise UsageError("a future's callback cannot wait for another answer", advice="Submit it there.")
            return answers.get()
        finally:
            self._wait_no_more()
            self._attend()

    def _attend(self) -> None:
        """Send what others have noted, and have the background thread read the socket if anybody waits for an answer.

        A thread that has released the socket must call this: meanwhile others may have found it taken.
        """
        if self._session.has_news and not self._session.is_closed:
            self._push()
        if self._waiting and not self._socket_lock.locked():
            if self._background is None:
                with self._lock:
                    if self._background is None and not self._session.is_closed:
                        self._background = threading.Thread(target=self._run, name=f"{self.id} socket", daemon=True)
                        self._background.start()
            self._background_wanted.set()

    def _run(self) -> None:
        while not self._session.is_closed:
            self._background_wanted.wait()
            self._background_wanted.clear()
            with self._socket_lock, contextlib.suppress(KeyboardInterrupt):  # raised by a callback; others wait still
                self._exchange(lambda: not self._waiting)
            self._attend()

    def _push(self) -> None:
        """Send what was noted, unless another thread owns the socket: that one will."""
        if self._socket_lock.acquire(blocking=False):
            try:
                self._exchange(lambda: True)
            finally:
                self._socket_lock.release()
            self._attend()

    def _exchange(self, is_enough: Callable[[], bool]) -> None:
        """Send what was noted, then take turns until ``is_enough`` or closed. The caller owns the socket."""
        session, link = self._session, self._connection.link
        if session.is_closed:  # and perhaps the socket is
            return
        self._owner = threading.get_ident()
        try:
            with self._lock:
                ended = session.flush()
                timeout_s = self._sleep_s(ended)
            if ended:
                deliver(ended)
            while not (is_enough() or session.is_closed):
                ready = self._poller.poll(timeout_s)
                self._is_sleeping = False
                has_changes = link.on_ready(ready)
                if self._waker.fileno() in ready:
                    self._waker.clear()
                with self._lock:
                    ended = session.turn(has_changes=has_changes)
                    timeout_s = self._sleep_s(ended)
                deliver(ended)
        finally:
            self._is_sleeping = False
            self._owner = None
            if self._is_end_owed:
                self._is_end_owed = False
                self._end()

    def _sleep_s(self, ended: list[Ended]) -> float:
        """Seconds until the owner's next turn is due: 0 if ``ended`` are delivered first, as their callbacks may ask for more."""
        self._is_sleeping = not ended
        return 0.0 if ended else self._session.timeout_s
