"""What peers say whose dialect has no ids for requests or tasks: the messages between such dialects and the broker's core.

They never travel in this form. A client of such a dialect is known by the identity of its connection, and its requests by
their envelopes; a REQ worker says which client it answers, and nothing more.
"""

from __future__ import annotations

from cbw.core.messages import Answer, Message

Envelope = tuple[bytes, ...]
"""The frames that go in front of a reply, and lead it back to who asked."""


class PlainRequest(Message):
    """A client asks; the reply goes back behind ``envelope``."""

    envelope: Envelope
    service: str
    body: bytes


class PlainReply(Message):
    """The end of a request. ``answer`` keeps its status; the dialect writes an error as a text."""

    envelope: Envelope
    answer: Answer


class PlainPartial(Message):
    """A part of the answer, before its end. Sent only to clients whose dialect takes it."""

    envelope: Envelope
    body: bytes


class PlainReady(Message):
    """A REQ worker registers: it has nothing to do."""


class PlainTask(Message):
    """A task for a REQ worker. ``client`` comes back with its answer, and is all that says what it answers."""

    client: bytes
    body: bytes


class PlainAnswer(Message):
    """A registered REQ worker answered for ``client``; None: it only said again that it is ready."""

    client: bytes | None
    body: bytes


class Partial(Message):
    """A worker sent a part of its answer to the task ``id``; the task goes on."""

    id: int
    body: bytes
