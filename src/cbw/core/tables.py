"""The rows of the broker's tables: clients, workers, services, and the requests between acceptance and end."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from enum import Enum
from typing import ClassVar

import msgspec

from cbw.core.messages import Answer, Request
from cbw.core.request import State

LAB_SERVICE = ""
"""The service of plain peers, whose dialects have no word for one. It is also the default of ours."""


class Client:
    """A client as the broker sees it. ``absent_since`` is None while it is connected.

    A CBW/1 client gets a new ``peer`` with each connection; a plain one keeps the identity that it has set.
    """

    __slots__ = ("absent_since", "boot", "entries", "heard_at", "is_doubted", "is_plain", "kept", "name", "peer")

    def __init__(self, name: str, boot: str, peer: bytes, *, is_plain: bool) -> None:
        self.name = name
        self.boot = boot
        self.peer = peer
        self.is_plain = is_plain
        self.entries: dict[int, Entry] = {}
        self.kept: dict[int, tuple[tuple[bytes, ...], Answer]] = {}  # what came for it while it was away
        self.absent_since: float | None = None
        self.heard_at = 0.0  # plain only
        self.is_doubted = False  # plain only: another program may have its identity now


class Worker:
    """A worker as the broker sees it. ``in_hand`` is keyed by task id, oldest first."""

    __slots__ = (
        "answered",
        "boot",
        "concurrency",
        "credit",
        "failed",
        "heard_at",
        "in_hand",
        "is_surplus",
        "name",
        "peer",
        "recalled_at",
        "services",
        "since",
        "suspect",
    )
    is_plain: ClassVar[bool] = False

    def __init__(self, name: str, boot: str, peer: bytes, services: list[Service]) -> None:
        self.name = name
        self.boot = boot
        self.peer = peer
        self.services = services
        self.concurrency = 1
        self.credit = 1
        self.in_hand: dict[int, Entry] = {}
        self.heard_at = 0.0
        self.is_surplus = False  # has more in hand than it can run
        self.recalled_at: float | None = None
        self.suspect: Entry | None = None
        self.since = 0.0  # it has been registered
        self.answered = self.failed = 0  # attempts


class Presence(Enum):
    """What the broker knows of a plain worker, whose connections come and go without a word."""

    HEARD = "heard"  #: it has spoken over the connection that it has
    PROBED = "probed"  #: given its place back because somebody has connected, and silent since
    LATE = "late"  #: its time to answer is over: it keeps its place, gets nothing, and what it says next is thrown away
    ABSENT = "absent"  #: without connection and place; remembered for a while


class PlainWorker(Worker):
    """One that speaks a dialect of the lab: one task at a time, and no word but its answers.

    It lost its last connection at ``absent_since``. If it ``owes_since`` a time, it may still answer what it was given then,
    or until then.
    """

    __slots__ = ("absent_since", "owes_since", "presence")
    is_plain = True

    def __init__(self, peer: bytes, service: Service, presence: Presence) -> None:
        super().__init__(printable(peer), "", peer, [service])
        self.presence = presence
        self.absent_since = -math.inf
        self.owes_since: float | None = None


class Entry(msgspec.Struct, gc=False, eq=False):
    """A request between its acceptance and its end. (``gc=False``: the tables drop it when it ends, so no cycle stays.)"""

    request: Request
    client: Client
    state: State
    accepted_at: float
    deadline_at: float | None = None
    envelope: tuple[bytes, ...] = ()
    attempt: int = 1  # the one that runs, or is next
    task: int = 0
    worker: Worker | None = None
    handed_out_at: float = 0.0
    has_timer: bool = False  # for its deadline
    name: str = ""  # what the trace calls it, once somebody has asked


class Service:
    """A queue of requests and the workers for them."""

    __slots__ = ("ahead", "dead", "free", "name", "surplus", "suspects", "waiting", "workers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Entry] = deque()
        self.suspects: deque[Entry] = deque()
        self.dead = 0  # entries in the two queues that have ended there
        self.workers: dict[bytes, Worker] = {}
        self.free: OrderedDict[Worker, None] = OrderedDict()  # can begin at once; least recently used first
        self.ahead: OrderedDict[Worker, None] = OrderedDict()  # can take more to begin later
        self.surplus = 0  # workers that have more in hand than they can run

    @property
    def waiting_count(self) -> int:
        """Requests that wait here."""
        return len(self.waiting) + len(self.suspects) - self.dead


def request_name(entry: Entry) -> str:
    """What the trace calls a request."""
    name = entry.name
    if not name:
        name = entry.name = f"{entry.client.name}/{entry.request.id}"
    return name


def is_anonymous(peer: bytes) -> bool:
    """Whether the ROUTER made this routing id up (libzmq: a zero byte and four more); such a peer never returns."""
    return peer[:1] == b"\0"


def printable(peer: bytes) -> str:
    """A routing id as the name of a plain peer."""
    try:
        name = peer.decode()
    except UnicodeDecodeError:
        return peer.hex()
    return name if name and name.isprintable() else peer.hex()
