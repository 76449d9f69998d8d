"""The future of a request, and what it does not hold on to.

An exception holds the frames that it has passed through, and with them their variables, among which are futures. A future that
held the exception that was raised would be part of a circle, which only the garbage collector frees: slowly, or never in a
program that has turned it off.
"""

from __future__ import annotations

import copy
from concurrent.futures import Future

from cbw.client.result import exception_for
from cbw.core.client.events import Ended
from cbw.core.messages import Status
from cbw.errors import CbwError


class AnswerFuture(Future[bytes]):
    """A future that is told how its request has ended."""

    def result(self, timeout: float | None = None) -> bytes:
        """As that of any future, but each call raises an exception of its own."""
        try:
            return super().result(timeout)
        except CbwError as error:
            error.__traceback__ = None
            raise copy.copy(error) from None

    def settle(self, ended: Ended) -> None:
        """The request has ended: take its answer, or the exception that says why there is none."""
        answer = ended.answer
        if answer.status is Status.CANCELLED and not ended.is_closed:
            super().cancel()
        if not self.set_running_or_notify_cancel():
            return  # it was cancelled
        if answer.status is Status.OK:
            self.set_result(answer.body if type(answer.body) is bytes else bytes(answer.body))
        else:
            self.set_exception(exception_for(ended))
