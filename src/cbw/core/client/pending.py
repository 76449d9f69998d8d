"""A request between its submission and its end, as its client knows it."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages


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

    def renew(self, now: float) -> None:
        """It is about to be sent: its times count from now."""
        request = self.request
        if isinstance(request, messages.Collect):
            return
        ends_at = self.deadline_at if isinstance(request, messages.Request) else self.ends_at
        if ends_at is not None:
            request.ttl = ends_at - now
        if self.due_at is not None:
            request.delay_s = max(0.0, self.due_at - now)
