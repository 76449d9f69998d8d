"""The futures of the client for asyncio: to cancel one tells the broker that nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from cbw.client.result import settle
from cbw.core.client.events import Ended

T = TypeVar("T")


class _CancellingFuture(asyncio.Future[T]):
    """A future whose ``cancel`` tells the broker that nobody waits any more.

    It is made without a call of its own in Python, which would take as long as all the rest: who makes it sets its attributes.
    """

    __slots__ = ("cancel_requests", "request_id", "returns")

    cancel_requests: Callable[[list[int]], None]
    request_id: int
    returns: Any

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self.cancel_requests([self.request_id])
        return super().cancel(msg)


class WaitingFuture(_CancellingFuture[Ended]):
    """Waits for what was asked for under a ticket. The request goes on when it is cancelled."""

    __slots__ = ()

    def set_ended(self, ended: Ended) -> None:
        """Settle this future with how its request ended."""
        if not self.done():
            ended.sink = None  # a method of this future, which would hold itself
            self.set_result(ended)


class PendingAnswer(_CancellingFuture[Any]):
    """A future whose ``cancel`` cancels the request, also while it runs. Its result is the answer, read as ``returns``."""

    __slots__ = ()

    def end(self, ended: Ended) -> None:
        """The request has ended."""
        if not self.done():
            settle(self, ended, self.returns)
