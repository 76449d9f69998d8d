"""Which requests are not accepted, why, and when their clients should come back."""

from __future__ import annotations

from typing import Protocol

from cbw.core import catalogue
from cbw.core.broker import delays
from cbw.core.broker.journal import Journal
from cbw.core.broker.limits import Limits
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.pace import Pace
from cbw.core.broker.stopping import Stopping
from cbw.core.broker.tables import ClientRow
from cbw.core.headers import why_bad_headers
from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import NOT_REACHED, PRIORITY_MAX, Answer, Request, Status, error_body

_ENDS = (
    catalogue.ANSWERED,
    catalogue.FAILED,
    catalogue.GAVE_UP,
    catalogue.EXPIRED,
    catalogue.CANCELLED,
    catalogue.STOPPED,
)

RequestRefused = tuple[Status, str] | tuple[Status, str, str]
"""The status and the text of an error, and its kind if that is not the name of the status."""


class Accepted(Protocol):
    """The requests that were accepted and have not ended."""

    count: int
    bytes: int
    stopping: Stopping
    journal: Journal | None


class Refusals:
    """Refuses what there is no room for beside what was ``accepted``, and what makes no sense."""

    def __init__(self, accepted: Accepted, outbox: Outbox, limits: Limits) -> None:
        self.pace = Pace()
        self._accepted = accepted
        self._outbox = outbox
        self._limits = limits

    def why(self, client: ClientRow, request: Request, size: int) -> RequestRefused | None:
        """Why ``request``, which takes ``size`` bytes of memory, is not accepted; None: it is."""
        limits, accepted = self._limits, self._accepted
        if accepted.stopping.is_on and client.dialect.has_sessions:
            return Status.STOPPING, "the broker is stopping"
        if size > limits.body_bytes_max and len(request.body) > limits.body_bytes_max:
            text = f"{len(request.body)} bytes; the broker allows {limits.body_bytes_max} (--body-bytes-max)"
            return Status.TOO_BIG, text
        if len(request.service) > NAME_CHARS_MAX:
            return Status.BAD_REQUEST, f"a service has at most {NAME_CHARS_MAX} characters"
        if not 0 <= request.priority <= PRIORITY_MAX:
            return Status.BAD_REQUEST, f"the priority is {request.priority}; it must be from 0 to {PRIORITY_MAX}"
        is_full = accepted.count >= limits.requests_max or accepted.bytes + size > limits.requests_bytes_max
        if client.dialect.has_sessions:  # other dialects have no word for it: see BackPressure
            if is_full:
                return Status.BUSY, limits.why_full(accepted.count, accepted.bytes)
            if accepted.journal is not None and (problem := accepted.journal.refusal):
                return Status.BUSY, problem
        if request.ttl is not None and not request.ttl > 0:  # NaN too
            return Status.EXPIRED, "the deadline had passed when it arrived", NOT_REACHED
        if request.delay_s and (why := delays.why_bad(request)):
            return Status.BAD_REQUEST, why
        if request.headers is not None and (why := why_bad_headers(request.headers)):
            return Status.BAD_REQUEST, why
        return None

    def answer(self, client: ClientRow, request: Request, status: Status, text: str, kind: str = "") -> Answer:
        """What ``client`` is told of its ``request`` that was refused, which is counted and recorded."""
        outbox, accepted, name = self._outbox, self._accepted, status.name.lower()
        outbox.counts["requests_refused"] += 1
        outbox.counts[f"refused_{name}"] += 1
        outbox.trace(catalogue.REFUSED, request=client.request_name(request.id), client=client.name, text=text)
        after_s = None
        if status is Status.BUSY:
            excess = self._limits.excess(accepted.count, accepted.bytes, len(request.body))
            after_s = self.pace.retry_after_s(self._ended, excess, outbox.now)
        return Answer(request.id, status, error_body(kind or name, text), after_s)

    def sample_pace(self) -> None:
        """Note how fast requests end: wanted whenever requests arrive and ``pace.sample_at`` has come."""
        self.pace.sample(self._ended, self._outbox.now)

    @property
    def _ended(self) -> int:
        """How many requests have ended."""
        counts = self._outbox.counts
        return sum(counts[name] for name in _ENDS)
