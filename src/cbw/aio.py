"""The client library for asyncio: directly on the running event loop, without a thread and without ``zmq.asyncio``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Self, TypeVar, overload

from cbw import codec
from cbw.core.client import Ended
from cbw.core.messages import Status
from cbw.session import TIMEOUT_S, WINDOW, MapWindow, Session, Timeout, decode
from cbw.trace import Trace

T = TypeVar("T")


class AsyncClient:
    """A connection to a broker, shaped like :class:`cbw.Client`. Use it in ``async with``, or await :meth:`close`.

    ::

        async with cbw.AsyncClient("localhost:9998") as client:
            answers = await asyncio.gather(client.call(b"one"), client.call(b"two"))

    It may be made anywhere, but belongs to the event loop in which it is first used. What is submitted in one turn of
    the loop travels in one batch. To cancel whoever awaits an answer cancels the request. The broker's name is looked up
    when the client is made and, if it has several addresses, when a connection is lost: meanwhile the loop waits.

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
        self._session = Session(broker, id, timeout, trace)
        self.id = self._session.id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._attach()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- requests

    @overload
    async def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> bytes: ...
    @overload
    async def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: type[T]) -> T: ...
    async def call(self, body: Any = b"", service: str = "", *, timeout: Timeout = ..., returns: Any = bytes) -> Any:
        """One request, and wait for its answer. ``body`` and ``returns`` as in :meth:`cbw.Client.call`.

        Raises:
            RequestError: it ended without an answer, or with one that ``returns`` does not fit; the subclass says how.
            UsageError: ``service`` is not a valid name, or ``timeout`` not a number.
            Closed: the client is closed.
        """
        future = self._request(body, service, timeout)
        return decode(await future, returns, future.request_id, service)

    def submit(self, body: Any = b"", service: str = "", *, timeout: Timeout = ...) -> asyncio.Future[bytes]:
        """One request; its future. ``future.cancel()`` takes the request back. Call it in the event loop's thread."""
        return self._request(body, service, timeout)

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
    ) -> AsyncGenerator[Any, None]:
        """The answers to ``bodies``, with at most ``window`` requests in flight; see :meth:`cbw.Client.map`."""
        mapping = MapWindow(bodies, window, is_ordered=is_ordered)
        return self._map(mapping, service, timeout, returns, is_ordered, on_progress, return_errors)

    async def _map(
        self,
        mapping: MapWindow,
        service: str,
        timeout: Timeout,
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
                    mapping.sent(self._submit(service, batch, timeout, arrived))
                    self._flush()
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
                    result = self._session.result(ended, returns, return_errors)
                    yield result if is_ordered else (position, result)
        finally:
            for request_id in mapping.in_flight:
                self._cancel(request_id)

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    async def close(self) -> None:
        """End what is in flight with :class:`~cbw.errors.Closed`, say goodbye and close. Safe to call twice."""
        session = self._session
        if session.is_closed:
            return
        is_orphan = self._loop is not None and self._loop.is_closed()  # nobody is left who could be told
        for end in session.fail_all():
            if not is_orphan:
                end.sink(end)
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None and not is_orphan:
            self._loop.remove_reader(session.link.news)
            self._loop.remove_reader(session.link.monitor_news)
        session.close()
        await asyncio.to_thread(session.end)  # up to a second, which the loop should not stand still for

    # --- inside

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is None and not self._session.is_closed:
            self._loop = loop
            loop.add_reader(self._session.link.news, self._turn)
            loop.add_reader(self._session.link.monitor_news, self._connection_changed)
        elif self._loop is not loop and not self._session.is_closed:
            raise RuntimeError("this client belongs to another event loop")
        return loop

    def _request(self, body: Any, service: str, timeout: Timeout) -> _RequestFuture:
        future = _RequestFuture(self, self._attach())
        (future.request_id,) = self._submit(service, [codec.encode(body)], timeout, future.end)
        return future

    def _submit(self, service: str, bodies: list[bytes], timeout: Timeout, sink: Callable[[Ended], None]) -> list[int]:
        ids = self._session.submit(service, bodies, timeout, sink)
        self._take_turn_soon()
        return ids

    def _cancel(self, request_id: int) -> None:
        if self._session.cancel(request_id) is not None:
            self._take_turn_soon()

    def _take_turn_soon(self) -> None:
        """After everything that the program does in this turn of the loop, so that it travels in one batch."""
        if not self._is_turn_due and self._loop is not None and not self._loop.is_closed():
            self._is_turn_due = True
            self._loop.call_soon(self._turn)

    def _flush(self) -> None:
        if not self._session.is_closed:
            self._session.flush()

    def _connection_changed(self) -> None:
        self._turn(has_changes=True)

    def _turn(self, *, has_changes: bool = False) -> None:
        session, link = self._session, self._session.link
        self._is_turn_due = False
        if session.is_closed:
            return
        link.forget_input()
        for end in session.turn(has_changes=has_changes):
            end.sink(end)
        if not session.is_closed:
            if link.has_input:  # came while we sent; its descriptor has said so already and will not again
                self._take_turn_soon()
            self._set_timer()

    def _set_timer(self) -> None:
        """One timer, for the earliest time that was asked for; when it finds that it was too early, it is set anew."""
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


class _RequestFuture(asyncio.Future[bytes]):
    """A future whose ``cancel`` takes the request back, also when it runs already."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._client = client
        self.request_id = 0

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self._client._cancel(self.request_id)
        return super().cancel(msg)

    def end(self, ended: Ended) -> None:
        if self.done():
            return
        if ended.answer.status is Status.OK:
            self.set_result(ended.answer.body if type(ended.answer.body) is bytes else bytes(ended.answer.body))
        else:
            self.set_exception(self._client._session.error_of(ended))
