"""A request between its submission and its end, as its client knows it."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages
from cbw.core.client.events import StartRequested, StreamRequested
from cbw.core.client.reader import Reader
from cbw.core.service_latencies import ServiceLatencies


class Pending(msgspec.Struct, eq=False):
    """A request in flight since ``submitted_at``. ``ends_at`` is the deadline of one that is to be started, which it has beside
    that for starting it.

    ``is_overdue``: the deadline has passed, and the broker is asked where the request is, until ``deadline_at``. It was sent
    ``sendings`` times.
    """

    request: messages.Request | messages.Start | messages.Collect
    sink: Any
    deadline_at: float | None
    may_retry: bool
    submitted_at: float
    ends_at: float | None = None
    due_at: float | None = None
    is_overdue: bool = False
    sendings: int = 0
    reader: Reader | None = None  # of an answer in parts

    def renew(self, now: float) -> None:
        """Set the times of a request that is about to be sent: they count from now."""
        self.sendings += 1
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

    def tell_time(self, latencies: ServiceLatencies, now: float) -> None:
        """Add the time of a request that has ended to ``latencies``. One about a ticket has none: what that names goes on."""
        if isinstance(self.request, messages.Request):
            latencies.remembered[self.request.service].append(now - self.submitted_at)

    @property
    def is_stream(self) -> bool:
        """Whether its answer is wanted in parts."""
        return self.reader is not None

    @property
    def may_run_again(self) -> bool:
        """Whether parts of another answer may come after its end: a broker that had ended it already has got it once more."""
        return self.is_stream and self.sendings > 1

    def came(self, message: messages.AnswerPart | messages.ProgressMade) -> bool:
        """Take in a part of the answer, or word of how far it is; whether the program is to get it."""
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


def pending_start(asked: StartRequested, now: float) -> Pending:
    """What was ``asked``, of which the core is told ``now``: that a request is started."""
    return Pending(
        asked.start,
        asked.sink,
        asked.deadline_at,
        may_retry=True,
        submitted_at=now,
        ends_at=asked.ends_at,
        due_at=asked.due_at,
    )


def pending_stream(asked: StreamRequested, now: float) -> Pending:
    """What was ``asked``, of which the core is told ``now``: a request whose answer is wanted in parts, or whose progress is."""
    reader = None if asked.request.parts is None else Reader()
    return Pending(
        asked.request,
        asked.sink,
        asked.deadline_at,
        may_retry=True,
        submitted_at=now if asked.submitted_at is None else asked.submitted_at,
        due_at=asked.due_at,
        reader=reader,
    )


def why_expired(request: messages.Message, broker: messages.Welcome | None, refused: str) -> tuple[str, str]:
    """Why there was no answer in time, of which the ``broker`` has told nothing, and the kind of that. ``refused`` says why it
    does not let this client in.
    """
    if broker is None and refused:
        return f"no answer in time, as the broker does not let this client in: {refused}", messages.REFUSED
    if broker is None:
        return "the broker was not reached in time", messages.NOT_REACHED
    if type(request) is messages.Start:
        text = f"the broker did not confirm the request in time, and may have it; start it again as {request.ticket!r}"
        return text, messages.NOT_REACHED
    return "no answer in time, and the broker does not say where the request is", messages.NOT_REACHED
