"""Facts that the client's core is told (past tense) and orders that it gives (imperative)."""

from __future__ import annotations

from typing import Any

import msgspec

from cbw.core import messages
from cbw.core.identities import name_of_request


class Event(msgspec.Struct, gc=False):
    """Base of facts and orders."""


class Ended(msgspec.Struct):  # with a sink, which may refer to whatever has this: the garbage collector must see both
    """The end of one request of ``client``, for the one who waits for it: ``sink`` is what came with its submission.

    ``answer`` is the broker's, or one made here with the reason why there is none. ``refused`` is given if that reason
    is the broker's refusal of this client, or of this request; ``is_closed`` if it is the end of this client.

    Of what was asked for under a ``ticket``: ``answer`` is that of the request; or it is empty, if the request was to be started
    (``is_start``), and ``is_durable`` says whether it is in the broker's journal.
    """

    sink: Any
    answer: messages.Answer
    service: str
    client: str
    refused: messages.Refused | None = None
    is_closed: bool = False
    ticket: str = ""
    is_start: bool = False
    is_durable: bool = False

    @property
    def request(self) -> str:
        """What traces call the request."""
        return name_of_request(self.client, self.answer.id, self.ticket)


# --- facts about the connection


class Connected(Event):
    """A connection to the broker was made."""


class Disconnected(Event):
    """The connection was lost, and what had been sent over it may be lost too."""


class BatchArrived(Event):
    """The broker sent these messages."""

    messages: list[messages.Message]


class Unsent(Event):
    """The connection had no room for these messages, the last ones of the last :class:`Send`."""

    messages: list[messages.Message]


# --- facts about the program that uses the client


class Submitted(Event, gc=True):
    """The program wants these bodies answered by ``service``. The requests have the ids from ``first_id`` on.

    ``deadline_at`` is in monotonic seconds, None for never. ``sink`` comes back with the end of each of them. What has a
    deadline and ``may_retry`` is sent again as long as the broker is too busy for it. They are not handed out before ``due_at``,
    None: there is no such time. ``requires_worker``: they end at once if nobody serves them. How long they take counts from
    ``submitted_at``, None: from when the core is told.
    """

    first_id: int
    service: str
    bodies: list[bytes]
    deadline_at: float | None
    sink: Any
    priority: int = messages.PRIORITY
    may_retry: bool = False
    due_at: float | None = None
    requires_worker: bool = False
    headers: dict[str, str] | None = None
    submitted_at: float | None = None


class StartRequested(Event, gc=True):
    """The program wants a request to be started that outlives it. It has ended here when the broker has it.

    ``start`` is to be sent. ``deadline_at`` is until when the broker has to have it, ``ends_at`` until when the request may take;
    both in monotonic seconds, None for ever. ``due_at`` is that of :class:`Submitted`.
    """

    start: messages.Start
    deadline_at: float | None
    ends_at: float | None
    sink: Any
    due_at: float | None = None


class CollectRequested(Event, gc=True):
    """The program wants the answer of the request that was started under ``ticket``. ``deadline_at`` as above."""

    id: int
    ticket: str
    deadline_at: float | None
    sink: Any


class StreamRequested(Event, gc=True):
    """The program wants an answer in parts, or the progress beside the answer. ``sink`` is told of each, and of the end.

    ``request`` is to be sent. The rest is as in :class:`Submitted`.
    """

    request: messages.StreamRequest
    deadline_at: float | None
    sink: Any
    due_at: float | None = None
    submitted_at: float | None = None


class PartsTaken(Event):
    """The program has taken so many parts more of the answer to ``request_id``."""

    request_id: int
    count: int


class CancelRequested(Event):
    """The program does not want these requests any more. Those that have ended already are ignored."""

    request_ids: list[int]


class CloseRequested(Event):
    """The program closes the client."""


Fact = (
    Connected
    | Disconnected
    | BatchArrived
    | Unsent
    | Submitted
    | StartRequested
    | CollectRequested
    | StreamRequested
    | PartsTaken
    | CancelRequested
    | CloseRequested
)


# --- orders


class Send(Event):
    """Send these messages to the broker. Those that there is no room for come back as :class:`Unsent`, before any other fact."""

    messages: list[messages.Message]


class End(Event):
    """Tell those who wait for these requests how they ended."""

    requests: list[Ended]


class Deliver(Event, gc=True):
    """Give what has come of running requests to their sinks: pairs of a sink, and a part or a progress."""

    news: list[tuple[Any, messages.AnswerPart | messages.ProgressMade]]


class ReportResent(Event):
    """Write to the trace that these requests are sent once more: after a new connection, to a broker that lost them, or to one
    that was too busy for them.
    """

    request_ids: list[int]


Order = Send | End | Deliver | ReportResent
