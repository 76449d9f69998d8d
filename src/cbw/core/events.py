"""Facts that the cores are told (past tense) and orders that they give (imperative).

``peer`` is the routing id that the ROUTER gave a connection: opaque, and unique among living connections of a port.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec

from cbw.core.messages import Answer, Message


class Side(Enum):
    """Which port of the broker."""

    CLIENT = "client"
    WORKER = "worker"


class Event(msgspec.Struct, gc=False):
    """Base of facts and orders."""


# --- facts for the broker


class ClientSaid(Event):
    """A CBW/1 client sent a batch."""

    peer: bytes
    messages: list[Message]


class WorkerSaid(Event):
    """A CBW/1 worker sent a batch."""

    peer: bytes
    messages: list[Message]


class PlainClientSaid(Event):
    """A lab client sent one request. ``is_replaced``: its last one came over another connection of the same identity."""

    peer: bytes
    envelope: tuple[bytes, ...]
    body: bytes
    is_replaced: bool = False


class PlainWorkerRegistered(Event):
    """A lab worker said that it is there."""

    peer: bytes


class PlainWorkerSaid(Event):
    """A registered lab worker answered for ``client``, or said again that it is ready (None)."""

    peer: bytes
    client: bytes | None
    body: bytes


class PeerLost(Event):
    """The connection of a peer is gone."""

    side: Side
    peer: bytes


class PeersConnected(Event):
    """Somebody has connected. Plain peers come back without a word, so those that were lost are tried again."""

    side: Side


class PeerDoubted(Event):
    """A new connection that has said nothing yet may have taken the identity of a plain client, or (False) has not.

    That can be only if two living programs call themselves the same.
    """

    peer: bytes
    is_doubted: bool


class Undelivered(Event):
    """The peer could not be reached; these messages were not sent."""

    side: Side
    peer: bytes
    messages: list[Message]


class ReplyUndelivered(Event):
    """The plain client could not be reached; its reply was not sent."""

    peer: bytes
    envelope: tuple[bytes, ...]
    answer: Answer


class PeerUnread(Event):
    """The peer has not read for long: it is as good as lost, and ``orders``, what was to be sent to it, is thrown away."""

    side: Side
    peer: bytes
    orders: list[Any]


class BadMessageArrived(Event):
    """Bytes that are no message. ``peer`` is known to the broker or not."""

    side: Side
    peer: bytes
    why: str


class StopRequested(Event):
    """SIGTERM: take no new work, finish what runs until ``by`` (monotonic seconds), then stop."""

    by: float


# --- orders of the broker


class SendToClient(Event):
    """Send a batch to a CBW/1 client."""

    peer: bytes
    messages: list[Message]


class SendToWorker(Event):
    """Send a batch to a CBW/1 worker."""

    peer: bytes
    messages: list[Message]


class SendPlainReply(Event):
    """Send one reply to a lab client. ``answer`` keeps its status: the dialect has no word for it, the wire finds one."""

    peer: bytes
    envelope: tuple[bytes, ...]
    answer: Answer


class SendPlainTask(Event):
    """Send one task to a lab worker; ``client`` comes back with its answer."""

    peer: bytes
    client: bytes
    body: bytes


class PauseClients(Event):
    """Stop reading the client port: the queue is far over its limit, so let TCP push back."""


class ResumeClients(Event):
    """Read the client port again."""


class Stop(Event):
    """Nothing is left to do: close the sockets and end."""


class Record(msgspec.Struct, gc=False, omit_defaults=True):
    """One line of the trace. ``at`` is monotonic in the cores; whoever writes it turns it into seconds since 1970.

    ``boot`` and ``seq`` are set by whoever sends it to the logger: which start of the sender, and its how-manieth record
    since then, from 1. They stay last, where the logger finds them again without decoding the line.
    """

    at: float
    event: str
    role: str = ""
    sender: str = ""
    request: str = ""  #: ``<client>/<request id>``
    client: str = ""
    service: str = ""
    worker: str = ""
    task: int = 0
    attempt: int = 0
    text: str = ""
    level: str = ""  #: of records that are no trace: ``debug`` ``info`` ``warning`` ``error`` ``critical``
    count: int = 0  #: of what ``text`` says: lines lost, duplicates, bytes repaired
    fields: dict[str, Any] | None = None  #: what a program of the user's adds to a record of its own
    boot: str = ""
    seq: int = 0
