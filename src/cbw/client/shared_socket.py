"""One socket that the threads of a program share.

A thread that waits for an answer reads the socket itself, so a lone call never changes threads. One thread
at a time *owns the socket*: the one that holds ``_socket_lock``. It reads the answers of all. When threads wait that do not
own it, or futures are open for which no thread waits, a background thread takes it over; it is started when first needed.

A thread that does not own the socket only notes what it asks for, under ``_lock``, and wakes the owner.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from cbw.client.options import Timeout
from cbw.client.progress import OnProgress, progress_of
from cbw.client.session import DRAIN_LOOK_S, KeysPath, deliver, open_session
from cbw.core.client.events import Ended
from cbw.core.messages import ProgressMade
from cbw.errors import Closed, UsageError
from cbw.observe.trace import Trace
from cbw.transport.fork import call_after_fork
from cbw.transport.poller import Poller, Waker

T = TypeVar("T")


class SharedSocket:
    """The conversation of :class:`cbw.Client`, for threads."""

    def __init__(
        self, broker: str | None, id: str | None, timeout: float | None, trace: Trace | None, keys: KeysPath
    ) -> None:
        self._waker = Waker()
        self._session, self._connection = open_session(broker, id, timeout, trace, self._waker.wake, keys)
        link = self._connection.link
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

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    @property
    def hello_refused(self) -> str:
        """Why the broker has not let this client in when it last asked for that; empty: it has."""
        return self._session.core.hello_refused

    def _make_locks(self) -> None:
        self._lock = threading.Lock()  # the session and what is counted here; nobody waits or calls back under it
        self._socket_lock = threading.Lock()

    def _drain(self) -> None:
        """Wait until nothing is in flight, and have the background thread read the socket meanwhile."""
        if self._owner == threading.get_ident():
            return  # a callback cannot wait
        with self._lock:
            self._waiting += 1
        try:
            while self._is_owed():
                self._attend()
                time.sleep(DRAIN_LOOK_S)
        finally:
            self._wait_no_more()

    def _is_owed(self) -> bool:
        with self._lock:
            return self._session.is_owed(threading.get_ident())

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

    def _end(self) -> None:
        self._session.say_goodbye()
        self._connection.close()
        self._connection.wait()
        self._session.close_trace()
        self._waker.close()

    def _wait_for(self, ask: Callable[[Callable[[Ended], None]], int], on_progress: OnProgress = None) -> Ended:
        """Note what is asked for, and wait for its end. ``ask`` is called with a sink, under the lock, and returns its id."""
        answers: queue.SimpleQueue[Ended | ProgressMade] = queue.SimpleQueue()
        with self._lock:
            request_id = ask(answers.put)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        try:
            while not isinstance(news := self._wait(answers), Ended):
                if on_progress is not None:
                    on_progress(progress_of(news))
            return news
        except BaseException:  # Ctrl-C: nobody waits for it any more
            self._cancel([request_id])
            raise

    def _wait_no_more(self) -> None:
        """Note that one less needs a thread to read the socket."""
        with self._lock:
            self._waiting -= 1

    def _submit_all(
        self,
        service: str,
        bodies: list[bytes],
        timeout: Timeout,
        priority: int,
        sink: Callable[[Ended], None],
        **options: Any,
    ) -> range:
        with self._lock:
            request_ids = self._session.submit(service, bodies, timeout, sink, priority, **options)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        return request_ids

    def _ask_stream(
        self, sink: Callable[[Any], None], service: str, body: bytes, timeout: Timeout, priority: int, **options: Any
    ) -> int:
        """Ask for an answer in parts, which ``sink`` is given; returns the number of the request."""
        with self._lock:
            request_id = self._session.stream(service, body, timeout, sink, priority, **options)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        return request_id

    def _cancel(self, request_ids: list[int]) -> None:
        with self._lock:
            self._session.cancel(request_ids)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        else:
            self._push()

    def _took(self, request_id: int, parts: int) -> None:
        """The program has taken so many parts more of that answer."""
        with self._lock:
            self._session.took(request_id, parts)
            is_sleeping = self._is_sleeping
        if is_sleeping:
            self._waker.wake()
        else:
            self._push()

    def _wait(self, answers: queue.SimpleQueue[T]) -> T:
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
                        self._background = threading.Thread(
                            target=self._run, name=f"{self._session.core.name} socket", daemon=True
                        )
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
                try:
                    if session.news:
                        session.deliver_news()
                finally:
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
