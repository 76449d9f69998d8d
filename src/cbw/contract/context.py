"""What a handler can know of the request that it serves, beside its arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from cbw.core import messages
from cbw.core.parts import PROGRESS_CHARS_MAX
from cbw.current import request_context
from cbw.visible import writable

PROGRESS_S = 0.05
"""Shortest time in seconds between two progresses of a handler that are told."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Context(msgspec.Struct, eq=False):
    """The request that a handler serves. A handler gets it through a parameter annotated ``cbw.Context``, which takes nothing
    from the body; it should be the first parameter, so that type checkers know that callers do not give it.

    ``is_cancelled`` becomes true when the client has given the request up. ``state`` is what the lifespan of the handler's
    service has yielded in this process; None: the service has no lifespan.
    """

    _task: messages.Task
    _received_at: float
    _tell: Callable[[messages.ProgressMade], None] | None = None
    _clock: Callable[[], float] = time.monotonic
    is_cancelled: bool = False
    state: Any = None
    _progress_at: float | None = None

    __repr__ = object.__repr__  # not what the request and the lifespan hold

    @staticmethod
    def current() -> Context | None:
        """The context of the request that this thread or coroutine serves, for code that is not given it; None: there is none."""
        context: Context | None = request_context.get()
        return context

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tell how far the handler is: the broker shows it in its status, and passes it on to a caller that has ``on_progress``.

        Call it as often as you like: at most 20 times a second are told, and ``done == total`` always. ``text`` is cut after 200
        characters; what UTF-8 cannot hold of it is sent as an escape.
        """
        now = self._clock()
        is_due = self._progress_at is None or now - self._progress_at >= PROGRESS_S or done == total
        if self._tell is not None and is_due:
            self._progress_at = now
            whole = None if total is None else float(total)
            self._tell(
                messages.ProgressMade(self._task.id, float(done), whole, writable(str(text))[:PROGRESS_CHARS_MAX])
            )

    @property
    def request(self) -> str:
        """The request's name in the log, as ``cbw logs story`` takes it: the client's id and a number, or ``ticket/`` and the
        ticket. Empty: the broker is of an earlier version.
        """
        return self._task.request

    @property
    def client(self) -> str:
        """The id of the client that waits for the answer; empty: the request has a ticket, and nobody needs to wait."""
        client, _, number = self._task.request.rpartition("/")
        return client if number.isdecimal() else ""

    @property
    def service(self) -> str:
        """The service that the request is for, such as ``shop.price``."""
        return self._task.service

    @property
    def attempt(self) -> int:
        """Counts the attempts at the request from 1. Above 1, earlier ones ended with the loss of their workers, and may have
        done part of the work.
        """
        return self._task.attempt

    @property
    def retries(self) -> int:
        """How often the handler was called for the request before, and has asked for another try by its exception."""
        return self._task.retries

    @property
    def task(self) -> int:
        """The number of this attempt, which no other attempt at the broker has."""
        return self._task.id

    @property
    def headers(self) -> Mapping[str, str]:
        """The texts that the caller has sent with the request, by their names, such as ``traceparent``."""
        return NO_HEADERS if self._task.headers is None else MappingProxyType(self._task.headers)

    @property
    def deadline_at(self) -> float | None:
        """When nobody waits for the answer any more, as ``time.monotonic()`` counts; None: there is no deadline."""
        return None if self._task.ttl is None else self._received_at + self._task.ttl

    @property
    def time_left(self) -> float | None:
        """Seconds until the deadline; None: there is no deadline."""
        deadline_at = self.deadline_at
        return None if deadline_at is None else deadline_at - self._clock()
