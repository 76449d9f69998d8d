"""A request between its submission and its end, as its client knows it."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages
from cbw.core.client.reader import Reader


class Pending(msgspec.Struct, eq=False):
    """A request in flight. ``ends_at`` is the deadline of one that is to be started, which it has beside that for starting it.

    ``is_overdue``: the deadline has passed, and the broker is asked where the request is, until ``deadline_at``.
    """

    request: messages.Request | messages.Start | messages.Collect
    sink: Any
    deadline_at: float | None
    may_retry: bool
    ends_at: float | None = None
    due_at: float | None = None
    is_overdue: bool = False
    reader: Reader | None = None  # of an answer in parts

    def renew(self, now: float) -> None:
        """It is about to be sent: its times count from now."""
        request = self.request
        if isinstance(request, messages.Collect):
            return
        ends_at = self.deadline_at if isinstance(request, messages.Request) else self.ends_at
        if ends_at is not None:
            request.ttl = ends_at - now
        if self.reader is not None and isinstance(request, messages.StreamRequest):
            self.reader.ask_again(request)
        if self.due_at is not None:
            request.delay_s = max(0.0, self.due_at - now)

    @property
    def is_stream(self) -> bool:
        """Whether its answer is wanted in parts."""
        return self.reader is not None

    def came(self, message: messages.AnswerPart | messages.ProgressMade) -> bool:
        """That has come of the answer; whether its program is to get it."""
        if isinstance(message, messages.AnswerPart):
            return self.reader is not None and self.reader.came(message)
        return isinstance(self.request, messages.StreamRequest)

    def took(self, count: int) -> bool:
        """Its program has taken so many parts more; whether the broker is to be told how many are wanted."""
        return self.reader is not None and self.reader.took(count)

    @property
    def parts_wanted(self) -> messages.PartsWanted:
        """For how many parts the program has room."""
        assert self.reader is not None
        return messages.PartsWanted(self.request.id, self.reader.wanted, self.reader.task)


def pending_stream(
    request: messages.StreamRequest, sink: Any, deadline_at: float | None, due_at: float | None
) -> Pending:
    """A request whose answer is wanted in parts, or whose progress is."""
    reader = None if request.parts is None else Reader()
    return Pending(request, sink, deadline_at, may_retry=True, due_at=due_at, reader=reader)
