"""Facts that the broker's core is told (past tense) and orders that it gives (imperative).

``peer`` is the routing id that the ROUTER gave a connection: opaque, and unique among living connections of a port.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import msgspec

from cbw.core.dialect import ClientDialect, Dialect, WorkerDialect
from cbw.core.journal_records import Batch
from cbw.core.messages import Answer, Message


class Side(Enum):
    """Which port of the broker."""

    CLIENT = "client"
    WORKER = "worker"


class Event(msgspec.Struct, gc=False):
    """Base of facts and orders."""


# --- facts


class ClientSaid(Event):
    """A client sent messages. ``is_replaced``: its last ones came over another connection of the same identity."""

    peer: bytes
    messages: Sequence[Message]
    dialect: ClientDialect
    is_replaced: bool = False


class WorkerSaid(Event):
    """A worker sent messages. ``is_replaced`` as in :class:`ClientSaid`."""

    peer: bytes
    messages: Sequence[Message]
    dialect: WorkerDialect
    is_replaced: bool = False


class PeerLost(Event):
    """The connection of a peer is gone."""

    side: Side
    peer: bytes


class PeersConnected(Event):
    """Somebody has connected. Peers without sessions come back without a word, so those that were lost are tried again."""

    side: Side


class IdentityUncertain(Event):
    """A connection that has said nothing yet may have taken the identity of ``peer``; False: that is ruled out again.

    It can happen only if two living programs use one identity.
    """

    peer: bytes
    is_uncertain: bool


class Undelivered(Event):
    """The peer could not be reached; these messages were not sent."""

    side: Side
    peer: bytes
    messages: Sequence[Message]


class PeerUnread(Event):
    """The peer has not read for so long that it counts as lost. ``messages``, which waited for it, are dropped."""

    side: Side
    peer: bytes
    messages: Sequence[Message]
    dialect: Dialect


class BadMessageArrived(Event):
    """Bytes that are no message. ``peer`` is known to the broker or not.

    ``told`` is what ``dialect`` has to say about it. ``ends_conversation``: nothing else that the peer says can be relied on.
    """

    side: Side
    peer: bytes
    why: str
    dialect: Dialect | None = None
    told: Sequence[Message] = ()
    ends_conversation: bool = False


class StopRequested(Event):
    """SIGTERM: take no new work, finish what runs until ``by`` (monotonic seconds), then stop."""

    by: float


class JournalStored(Event):
    """All batches up to ``position`` are stored."""

    position: int


class JournalStalled(Event):
    """Nothing can be stored at the moment, because of ``problem``; empty: it can again."""

    problem: str


class JournalFilled(Event):
    """Which part of the room that the journal may take is ``filled``, from 0 to 1."""

    filled: float


class OperatorAsked(Event):
    """An operator, called ``name``, who has shown the token of the status pages, asks one of the broker's own services. The
    answer has the same ``number``.
    """

    number: int
    name: str
    service: str
    body: bytes


# --- orders


class SendToClient(Event):
    """Send a batch to a client, in its dialect."""

    peer: bytes
    messages: list[Message]
    dialect: ClientDialect


class TellDisplaced(Event):
    """Send a batch to programs that have lost the identity ``peer`` to another one, now and whenever they say something."""

    peer: bytes
    messages: list[Message]
    dialect: ClientDialect


class SendToWorker(Event):
    """Send a batch to a worker, in its dialect."""

    peer: bytes
    messages: list[Message]
    dialect: WorkerDialect


class AnswerOperator(Event):
    """What the operator who has asked ``number`` gets."""

    number: int
    answer: Answer


class PauseClients(Event):
    """Stop reading the client port: the queue is far over its limit, so let TCP push back."""


class ResumeClients(Event):
    """Read the client port again."""


class AppendToJournal(Event):
    """Store this batch, behind all earlier ones."""

    position: int
    batch: Batch


class CompactJournal(Event):
    """Drop all batches before this position, once everything that was appended so far is stored."""

    before: int


class Stop(Event):
    """Nothing is left to do: close the sockets and end."""
