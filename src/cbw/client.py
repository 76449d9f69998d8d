"""The client library: requests in, answers out, from any thread.

Whoever waits for an answer reads the socket itself, so a lone :meth:`Client.call` never changes threads. Only one
thread at a time has the socket's *turn*; when others wait too, or futures are open that nobody waits for, a background
thread takes the turn over. It is started when it is first needed.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Self, TypeVar, overload

from cbw import codec
from cbw.core.client import Ended
from cbw.core.messages import Status
from cbw.errors import CbwError, Closed, UsageError
from cbw.fork import tell_if_forked
from cbw.session import TIMEOUT_S, WINDOW, MapWindow, Session, Timeout
from cbw.sleeper import Sleeper, Waker
from cbw.trace import Trace

T = TypeVar("T")
_log = logging.getLogger("concurrent.futures")


class Client:
    """A connection to a broker. Thread-safe; use it in a ``with`` statement or call :meth:`close`.

    ``broker`` is ``"host:port"`` of the broker's client port (default: ``BROKER_HOST`` and ``BROKER_PORT``, else
    ``127.0.0.1:9998``). It need not be there yet: requests wait for it until their time is up. ``timeout`` is in
    seconds, for each request that gives none of its own; None waits for ever.
    ``trace`` is where records go (default: to the logger of ``LOGGER_HOST``, if that is set); the client closes it.
    A process that is forked from this one has it closed, and makes one of its own.

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
    ) -> None:
        self._waker = Waker()
        self._session = Session(broker, id, timeout, trace)
        self.id = self._session.id
        link = self._session.link
        self._sleeper = Sleeper(link.socket, self._waker.fileno(), link.monitor_news)
        self._make_locks()
        self._reader: int | None = None  # the thread that has the turn and may run callbacks
        self._attended = 0  # waiters and futures that need somebody at the socket
        self._is_sleeping = False
        self._is_end_owed = False
        self._background: threading.Thread | None = None
        self._background_wanted = threading.Event()
        tell_if_forked(self)

    def inherited(self) -> None:
        """A forked process has this client, closed."""
        self._make_locks()

    def _make_locks(self) -> None:
        self._lock = threading.Lock()  # the core and what is counted here
        self._turn = threading.Lock()  # the socket

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """How this client is, as ``/status.json`` tells it. From any thread."""
        with self._lock:
            return self._session.status()

    # --- requests

    @overload
    def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> bytes: ...
    @overload
    def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: type[T]) -> T: ...
    def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """One request, and wait for its answer.

        ``body`` is sent as it is if it is ``bytes``, as UTF-8 if it is ``str``, else as JSON; ``returns`` says how to
        read the answer in the same way (default: ``bytes``). ``timeout`` is in seconds; None waits for ever, and without
        it the client's own counts.

        Raises:
            RequestError: it ended without an answer, or with one that ``returns`` does not fit; the subclass says how.
            UsageError: ``service`` is not a valid name, or ``timeout`` not a number.
            Closed: the client is closed.
        """
        answers: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        request_id = self._submit(service, body, timeout, answers.put)
        try:
            ended = self._wait(answers)
        except BaseException:  # Ctrl-C: nobody waits for it any more
            self._cancel(request_id)
            raise
        return self._session.result(ended, returns)

    def submit(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> Future[bytes]:
        """One request; its future. ``future.cancel()`` takes the request back.

        The future's callbacks run in the thread that reads the socket: they must not wait for another answer.
        """
        future = _RequestFuture(self)
        with self._lock:
            self._attended += 1
        try:
            future.request_id = self._submit(service, body, timeout, future.end)
        except BaseException:
            with self._lock:
                self._attended -= 1
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
        returns: Any = bytes,
        is_ordered: bool = True,
        on_progress: Callable[[int], None] | None = None,
        return_errors: bool = False,
    ) -> Iterator[Any]:
        """The answers to ``bodies``, with at most ``window`` requests in flight.

        In the order of ``bodies``, or as they come with ``is_ordered=False``: then each is a pair (position, answer).
        What is answered is given out before more of ``bodies`` are waited for; these are taken while an answer is.
        ``on_progress`` is told after each batch how many have ended. A failed request raises its error here, and what
        is in flight is cancelled; with ``return_errors`` the error stands in the place of the answer.
        """
        mapping = MapWindow(bodies, window, is_ordered=is_ordered)
        return self._map(mapping, service, timeout, returns, is_ordered, on_progress, return_errors)

    def _map(
        self,
        mapping: MapWindow,
        service: str,
        timeout: Timeout,
        returns: Any,
        is_ordered: bool,
        on_progress: Callable[[int], None] | None,
        return_errors: bool,
    ) -> Iterator[Any]:
        answers: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        is_attended = False  # while we wait for bodies, too
        try:
            while not mapping.is_done:
                while batch := mapping.take_bodies():
                    mapping.sent(self._submit_all(service, batch, timeout, answers.put))
                    self._push()
                    if mapping.is_slow:
                        break
                if not mapping.in_flight:
                    break
                if not mapping.is_slow:
                    mapping.ended(self._wait(answers))
                elif not is_attended:
                    is_attended = True
                    with self._lock:
                        self._attended += 1
                    self._attend()
                while not answers.empty():
                    mapping.ended(answers.get())
                if on_progress is not None:
                    on_progress(mapping.done)
                for position, ended in mapping.take_answers():
                    result = self._session.result(ended, returns, return_errors)
                    yield result if is_ordered else (position, result)
        finally:
            if is_attended:
                with self._lock:
                    self._attended -= 1
            for request_id in mapping.in_flight:
                self._cancel(request_id)

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    def close(self) -> None:
        """End what is in flight with :class:`~cbw.errors.Closed`, say goodbye and close. Safe to call twice.

        In a future's callback too; then the socket is closed when the callbacks are done.
        """
        with self._lock:
            if self._session.is_closed:
                return
            ended = self._session.fail_all()
        for end in ended:
            end.sink(end)
        self._background_wanted.set()
        if self._reader == threading.get_ident():
            self._is_end_owed = True
            return
        self._waker.wake()
        if self._background is not None:
            self._background.join()
        with self._turn:
            self._end()

    # --- inside

    def _end(self) -> None:
        self._session.close()
        self._session.end()
        self._waker.close()

    def _submit(self, service: str, body: Any, timeout: Timeout, sink: Callable[[Ended], None]) -> int:
        return self._submit_all(service, [codec.encode(body)], timeout, sink)[0]

    def _submit_all(
        self, service: str, bodies: list[bytes], timeout: Timeout, sink: Callable[[Ended], None]
    ) -> list[int]:
        with self._lock:
            ids = self._session.submit(service, bodies, timeout, sink)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        return ids

    def _cancel(self, request_id: int) -> None:
        with self._lock:
            ended = self._session.cancel(request_id)
            is_sleeping = self._is_sleeping
        if ended is not None:
            if is_sleeping:
                self._waker.wake()
            else:
                self._push()
            ended.sink(ended)

    def _wait(self, answers: queue.SimpleQueue[Ended]) -> Ended:
        """The first of ``answers``: read the socket for it, or wait until whoever has the turn does."""
        if not answers.empty():
            return answers.get()
        with self._lock:
            self._attended += 1
        try:
            while self._turn.acquire(blocking=False):
                try:
                    if not self._session.is_closed:
                        self._pump(lambda: not answers.empty())
                finally:
                    self._turn.release()
                if not answers.empty():
                    return answers.get()
                if self._session.is_closed:
                    raise Closed("the client was closed")
            if self._reader == threading.get_ident():
                raise UsageError("a future's callback cannot wait for another answer", advice="Submit it there.")
            return answers.get()
        finally:
            with self._lock:
                self._attended -= 1
            self._attend()

    def _attend(self) -> None:
        """See to it that what is to be sent is, and that somebody reads the socket if anybody needs that.

        Owed by whoever gives the turn back: others may have found it taken.
        """
        if self._session.core.wants_to_send and not self._session.is_closed:
            self._push()
        if self._attended and not self._turn.locked():
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
            with self._turn:
                if not self._session.is_closed:
                    with contextlib.suppress(KeyboardInterrupt):  # of a callback: others need us still
                        self._pump(lambda: not self._attended)
            self._attend()

    def _pump(self, is_enough: Callable[[], bool]) -> None:
        """Send and receive until ``is_enough`` or closed. The caller has the turn."""
        session, link = self._session, self._session.link
        ended: list[Ended] = []
        self._reader = threading.get_ident()
        try:
            with self._lock:
                session.flush()
                self._is_sleeping = True
            while not (is_enough() or session.is_closed):
                news = self._sleeper.sleep(0.0 if ended else session.timeout_s)
                self._is_sleeping = False
                has_changes = link.woke(news)
                if self._waker.fileno() in news:
                    self._waker.clear()
                with self._lock:
                    ended = session.turn(has_changes=has_changes)
                    self._is_sleeping = not ended
                _deliver(ended)
        finally:
            self._is_sleeping = False
            self._reader = None
            if self._is_end_owed:
                self._end()

    def _push(self) -> None:
        """Send what is to be sent, unless somebody else is about to."""
        if self._turn.acquire(blocking=False):
            try:
                with self._lock:
                    self._session.flush()
            finally:
                self._turn.release()
            self._attend()


def _deliver(ended: list[Ended]) -> None:
    """Each to its own; also after a Ctrl-C in between, which is the business of one caller only."""
    left = iter(ended)
    try:
        for end in left:
            end.sink(end)
    finally:
        for end in left:
            end.sink(end)


class _RequestFuture(Future[bytes]):
    """A future whose ``cancel`` takes the request back, also when it runs already."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self.request_id = 0

    def cancel(self) -> bool:
        if self.done():
            return self.cancelled()
        self._client._cancel(self.request_id)
        return self.cancelled()

    def end(self, ended: Ended) -> None:
        """Whatever its callbacks raise is told, and nobody else's business; but for Ctrl-C."""
        client = self._client
        with client._lock:
            client._attended -= 1
        try:
            self._end(ended, client._session)
        except KeyboardInterrupt:
            raise
        except BaseException:  # concurrent.futures itself tells of each Exception
            _log.exception("exception calling callback for %r", self)

    def _end(self, ended: Ended, session: Session) -> None:
        if ended.answer.status is Status.CANCELLED and not session.is_closed:
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        try:
            answer = session.result(ended, bytes)
        except CbwError as error:
            self.set_exception(error)
        else:
            self.set_result(answer)
