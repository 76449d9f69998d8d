"""The future of a request, and what it does not hold on to.

An exception holds the frames that it has passed through, and with them their variables, among which are futures. A future that
held the exception that was raised would be part of a circle, which only the garbage collector frees: slowly, or never in a
program that has turned it off.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from cbw.client.result import settle
from cbw.core.client.events import Ended
from cbw.errors import CbwError

_log = logging.getLogger("concurrent.futures")


class AnswerFuture(Future[Any]):
    """A future that is told how its request has ended. Its result is the answer, read as ``returns``."""

    def __init__(self, returns: Any = bytes) -> None:
        super().__init__()
        self._returns = returns

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result, at most ``timeout`` seconds. Each call raises an exception of its own, with its own traceback."""
        try:
            return super().result(timeout)
        except CbwError as error:
            error.__traceback__ = None
            raise copy.copy(error) from None

    def settle(self, ended: Ended) -> None:
        """The request has ended: take its answer, or the exception that says why there is none."""
        if not self.set_running_or_notify_cancel():
            return  # it was cancelled
        settle(self, ended, self._returns)


class RequestFuture(AnswerFuture):
    """A future whose ``cancel`` cancels the request, also while it runs. ``on_end`` is called when the request has ended."""

    def __init__(self, cancel: Callable[[list[int]], None], on_end: Callable[[], None], returns: Any = bytes) -> None:
        super().__init__(returns)
        self._cancel_requests = cancel
        self._on_end = on_end
        self.request_id = 0

    def cancel(self) -> bool:
        if self.done():
            return self.cancelled()
        if not super().cancel():
            return False
        self._cancel_requests([self.request_id])
        return True

    def end(self, ended: Ended) -> None:
        """The request has ended. What callbacks raise is logged, as they run in a thread of another caller; not so Ctrl-C."""
        self._on_end()
        try:
            self.settle(ended)
        except KeyboardInterrupt:
            raise
        except BaseException:  # concurrent.futures itself logs each Exception
            _log.exception("exception calling callback for %r", self)
