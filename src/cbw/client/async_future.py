"""The futures of the client for asyncio: to cancel one tells the broker that nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from cbw.client.result import settle
from cbw.core.client.events import Ended

T = TypeVar("T")


class _CancellingFuture(asyncio.Future[T]):
    """A future whose ``cancel`` tells the broker that nobody waits any more. ``returns`` is as what an answer is read."""

    __slots__ = ("_cancel_requests", "_returns", "request_id")

    def __init__(
        self, cancel: Callable[[list[int]], None], loop: asyncio.AbstractEventLoop, returns: Any = bytes
    ) -> None:
        super().__init__(loop=loop)
        self._cancel_requests = cancel
        self._returns = returns
        self.request_id = 0

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self._cancel_requests([self.request_id])
        return super().cancel(msg)


class WaitingFuture(_CancellingFuture[Ended]):
    """Waits for what was asked for under a ticket. The request goes on when it is cancelled."""

    __slots__ = ()

    def set_ended(self, ended: Ended) -> None:
        """It has ended."""
        if not self.done():
            ended.sink = None  # a method of this future, which would hold itself
            self.set_result(ended)


class PendingAnswer(_CancellingFuture[Any]):
    """A future whose ``cancel`` cancels the request, also while it runs. Its result is the answer, read as ``returns``."""

    __slots__ = ()

    def end(self, ended: Ended) -> None:
        """The request has ended."""
        if self.done():
            return
        settle(self, ended, self._returns)
