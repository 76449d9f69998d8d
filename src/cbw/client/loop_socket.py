"""One socket on the event loop of a program: who reads it when, without a thread."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from typing import Any, Self

from cbw.client.options import Timeout
from cbw.client.session import DRAIN_LOOK_S, KeysPath, open_session
from cbw.core.client.events import Ended
from cbw.observe.trace import Trace

SEND_AT = 128
"""Number of requests that are sent together, while the program goes on to make more. Otherwise the broker would wait until the
program has made all, and the program then for the answers to all: each would do nothing half of the time."""


class LoopSocket:
    """The conversation of :class:`cbw.AsyncClient`, which belongs to the loop in which it is first used."""

    def __init__(
        self, broker: str | None, id: str | None, timeout: float | None, trace: Trace | None, keys: KeysPath
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # in which the loop was seen to run
        self._session, self._connection = open_session(broker, id, timeout, trace, self._resolved, keys)
        self._is_turn_due = False
        self._unsent = 0  # how often the program has asked for something since anything was sent
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._attach()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.close(wait=kind is None)

    @property
    def has_met_broker(self) -> bool:
        """Whether a broker has ever welcomed this client."""
        return self._session.core.has_met_broker

    async def close(self, *, wait: bool = False) -> None:
        """End the requests in flight with :class:`~cbw.errors.Closed`, and close the connection. Safe to call twice.

        ``wait``: first wait until they have ended by themselves, with an answer or an error; each does so within its timeout. A
        stream that the caller itself has left, for instance in a variable, is given up.
        """
        try:
            while wait and self._session.is_owed(asyncio.current_task()):
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
        own = self._loop
        if own is not None and self._thread == threading.get_ident() and own.is_running():  # the usual case
            return own  # a thread runs one loop; to ask which one is a system call
        loop = asyncio.get_running_loop()
        if own is loop:
            self._thread = threading.get_ident()
        elif own is None and not self._session.is_closed:
            self._loop, self._thread = loop, threading.get_ident()
            link = self._connection.link
            loop.add_reader(link.news, self._turn)
            loop.add_reader(link.monitor_news, self._connection_changed)
            loop.call_soon(self._connection_changed)  # perhaps the name was looked up before there was a loop
        elif not self._session.is_closed:
            raise RuntimeError("this client belongs to another event loop")
        return loop

    def _ask_stream(self, sink: Any, service: str, body: bytes, timeout: Timeout, priority: int, **options: Any) -> int:
        """Ask for an answer in parts, which ``sink`` is given; returns the number of the request."""
        request_id = self._session.stream(service, body, timeout, sink, priority, **options)
        self._take_turn_soon()
        return request_id

    def _took(self, request_id: int, parts: int) -> None:
        """The program has taken so many parts more of that answer."""
        self._session.took(request_id, parts)
        self._take_turn_soon()

    def _cancel(self, request_ids: list[int]) -> None:
        self._session.cancel(request_ids)
        self._take_turn_soon()

    def _take_turn_soon(self) -> None:
        """Take a turn after what the program does in this turn of the loop, so that its requests travel in few batches."""
        self._unsent += 1
        if self._unsent >= SEND_AT and not self._session.is_closed:
            self._unsent = 0
            self._deliver(self._session.flush())
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
        if self._session.news:
            self._session.deliver_news()
        for end in ended:
            end.sink(end)

    def _turn(self, *, has_changes: bool = False) -> None:
        session, link = self._session, self._connection.link
        self._is_turn_due = False
        self._unsent = 0
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
