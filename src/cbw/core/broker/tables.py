"""The rows of the broker's tables: clients, workers, services, and the requests between acceptance and end."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from enum import Enum

import msgspec

from cbw.core.broker.fair_queue import FairQueue
from cbw.core.broker.pulse import Pulse
from cbw.core.broker.states import RequestState
from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.histogram import RecentLatencies
from cbw.core.identities import ticket_name
from cbw.core.journal_records import Asker, FailedAttempt
from cbw.core.key import ANYBODY
from cbw.core.messages import Answer, Request
from cbw.core.plain_messages import Envelope
from cbw.core.port import printable


class ParkedReply(msgspec.Struct, eq=False, gc=False):
    """A reply that its ``client`` may still need, parked ``since`` then; it takes about ``size`` bytes.

    ``number`` is that of the request in the journal, 0 without one. ``is_sent``: it is only not acknowledged. (``gc=False``: its
    client drops it in the end, so no cycle stays.)
    """

    client: ClientRow
    envelope: Envelope
    answer: Answer
    since: float
    size: int
    number: int = 0
    is_sent: bool = False


class ClientRow:
    """A client as the broker sees it. ``absent_since`` is None while it is connected.

    A client with sessions gets a new ``peer`` with each connection; any other keeps the identity that it has set.
    """

    is_ticket = False
    fingerprint = b""
    """Of the request, if this is a ticket."""
    __slots__ = (
        "absent_since",
        "asker",
        "boot",
        "dialect",
        "entries",
        "heard_at",
        "is_uncertain",
        "key",
        "missed_at",
        "name",
        "parked",
        "peer",
        "proof",
        "tried_since",
    )

    def __init__(self, name: str, boot: str, peer: bytes, dialect: ClientDialect, proof: bytes | None = b"") -> None:
        self.name = name
        self.boot = boot
        self.proof = proof  # of its session, shown to nobody; None: not known
        self.peer = peer
        self.dialect = dialect
        self.key = ANYBODY  # what it may do
        self.entries: dict[int, Entry] = {}  # its requests, by their ids
        self.parked: dict[int, ParkedReply] = {}  # answers that came while it was away, or that it may still need
        self.asker: Asker | None = None  # what the journal calls it
        self.absent_since: float | None = None
        self.tried_since: float | None = None  # when it was lost that has been tried again, and has not spoken since
        self.heard_at = 0.0  # only of clients without sessions
        self.missed_at = -math.inf  # when something was sent to it, and nobody was there
        self.is_uncertain = False  # another program may have its identity now; only of clients without sessions

    @property
    def is_away(self) -> bool:
        """Whether nothing can be sent to it at the moment."""
        return self.absent_since is not None or self.is_uncertain

    @property
    def is_only_tried(self) -> bool:
        """Whether it was lost, and has not spoken since something was sent over the connection that has its identity now."""
        return self.tried_since is not None and self.heard_at <= self.tried_since

    def request_name(self, request: int) -> str:
        """What the trace calls its request of this id."""
        return f"{self.name}/{request}"


class TicketRow(ClientRow):
    """Stands in the place of a client for a request that outlives its own: nobody, and always away. It has the name of the
    client that started the request.

    ``answer`` is None until the request has ended and its end is stored. ``waiting`` are the clients that want to know of it,
    by the numbers of their messages, and whether that is only that the request is stored.
    """

    is_ticket = True
    __slots__ = ("answer", "ended_at", "fingerprint", "is_stored", "number", "ticket", "waiting")

    def __init__(self, ticket: str, starter: str, dialect: ClientDialect, fingerprint: bytes) -> None:
        super().__init__(starter, "", b"", dialect)
        self.asker = Asker(ticket, starter, b"", dialect.name)
        self.absent_since = 0.0
        self.ticket = ticket
        self.fingerprint = fingerprint
        self.is_stored = False  # the request is accepted, and in the journal if there is one
        self.answer: Answer | None = None
        self.ended_at = 0.0
        self.number = 0  # of the answer in the journal
        self.waiting: dict[tuple[ClientRow, int], bool] = {}

    def request_name(self, request: int) -> str:
        return ticket_name(self.ticket)


class WorkerRow:
    """A worker as the broker sees it. ``in_hand`` is keyed by task id, oldest first."""

    __slots__ = (
        "answered",
        "answered_at",
        "boot",
        "busy_s",
        "concurrency",
        "credit",
        "dialect",
        "failed",
        "heard_at",
        "in_hand",
        "is_drained",
        "is_overloaded",
        "is_shared",
        "key",
        "name",
        "peer",
        "proof",
        "pulse",
        "rate_marks",
        "recalled_at",
        "services",
        "signatures",
        "since",
        "suspect",
        "takes_streams",
        "took",
        "wants_names",
    )

    def __init__(
        self,
        name: str,
        boot: str,
        peer: bytes,
        services: list[ServiceRow],
        dialect: WorkerDialect,
        proof: bytes | None = b"",
    ) -> None:
        self.name = name
        self.boot = boot
        self.proof = proof  # of its session, shown to nobody; None: not known
        self.peer = peer
        self.services = services
        self.dialect = dialect
        self.key = ANYBODY
        self.concurrency = 1
        self.credit = 1
        self.in_hand: dict[int, Entry] = {}
        self.heard_at = 0.0
        self.pulse: Pulse | None = None  # only if it beats at a rate of its own
        self.is_overloaded = False  # has more in hand than it can run
        self.recalled_at: float | None = None
        self.wants_names = False
        self.takes_streams = False
        self.signatures: dict[str, str] | None = None
        self.suspect: Entry | None = None
        self.since = 0.0  # when it registered
        self.answered = self.failed = 0  # attempts
        self.busy_s = 0.0  # that it has had something in hand, up to its last answer
        self.answered_at = 0.0
        self.rate_marks: tuple[tuple[float, int], ...] = ()  # times, and how much was answered by then; oldest first
        self.took: RecentLatencies | None = None  # from when it was given a request to its answer
        self.is_drained = False  # gets nothing more, as somebody has asked for that
        self.is_shared = False  # serves other brokers too, as it has said with its last credit


class Presence(Enum):
    """What the broker knows of a worker whose connections come and go without a word."""

    HEARD = "heard"  #: it has spoken over the connection that it has
    PROBED = "probed"  #: given its place back because somebody has connected, and silent since
    LATE = "late"  #: its time to answer is over: it keeps its place, gets nothing, and what it says next is thrown away
    ABSENT = "absent"  #: without connection and place; remembered for a while


class ReqWorkerRow(WorkerRow):
    """A REQ worker: one task at a time, and no word but its answers.

    It lost its last connection at ``absent_since``. If it ``owes_since`` a time, it may still answer what it was given then,
    or until then.
    """

    __slots__ = ("absent_since", "owes_since", "presence")

    def __init__(self, peer: bytes, service: ServiceRow, dialect: WorkerDialect, presence: Presence) -> None:
        super().__init__(printable(peer), "", peer, [service], dialect)
        self.presence = presence
        self.absent_since = -math.inf
        self.owes_since: float | None = None


class Delay(msgspec.Struct, gc=False, frozen=True):
    """Until when a request is not to be handed out, and why: ``retries`` is how often a handler has asked for another try, and
    ``kind`` and ``text`` are the exception of the last one. Without retries its client has asked for the delay.
    """

    until: float
    retries: int = 0
    kind: str = ""
    text: str = ""


class StreamRow(msgspec.Struct, eq=False):
    """What the broker knows of an answer in parts. ``wanted`` is the number of the last part for which its client has room,
    ``granted`` that of the last one which its worker may send, and ``sent`` that of the last one that came in this attempt.

    ``first`` is what is ``wanted`` at the beginning of each attempt. All that is wanted is granted at once, unless the stream
    ``is_narrow``. The ``largest`` part so far had so many bytes. ``restarts``: another attempt may begin although parts were
    sent. ``is_unheard``: it comes from a journal, which does not know whether parts were sent before, and its client, which is
    to say it, gets none until then.
    ``wants_one``: its client wants one answer, and only the progress before.
    """

    first: int
    wanted: int
    granted: int
    restarts: bool = False
    wants_progress: bool = False
    wants_one: bool = False
    sent: int = 0
    is_unheard: bool = False
    is_narrow: bool = False
    largest: int = 0

    @property
    def is_full(self) -> bool:
        """Whether its client has to say that it has room before another part may come."""
        return self.sent >= self.wanted and not self.wants_one


class Entry(msgspec.Struct, gc=False, eq=False):
    """A request between its acceptance and its end. (``gc=False``: the tables drop it when it ends, so no cycle stays.)"""

    request: Request
    client: ClientRow
    state: RequestState
    accepted_at: float
    deadline_at: float | None = None
    envelope: Envelope = ()
    size: int = 0  # what it takes beyond what each takes: see memory_of
    attempt: int = 1  # the one that runs, or is next
    task: int = 0
    worker: WorkerRow | None = None
    handed_out_at: float = 0.0
    answered_at: float = 0.0
    has_timer: bool = False  # for its deadline
    name: str = ""  # what the trace calls it, once somebody has asked
    number: int = 0  # in the journal
    failures: list[FailedAttempt] | None = None  # its attempts that failed, once there are any
    delay: Delay | None = None  # the last one, also when it is over
    stream: StreamRow | None = None  # if its client takes parts of the answer, or wants to know its progress

    @property
    def waits_since(self) -> float:
        """Since when it could be handed out."""
        return self.accepted_at if self.delay is None else self.delay.until


class DeadLetter(msgspec.Struct, eq=False, gc=False):
    """A request that was given up, as it is kept. ``id`` names it to people, ``number`` in the journal."""

    id: str
    client: str
    request: int
    service: str
    body: bytes
    accepted_at: float
    died_at: float
    kind: str
    error: str
    attempts: list[FailedAttempt]
    requeued: int  # times that it has been sent again from here
    priority: int
    number: int = 0
    ticket: str = ""  # of a request that outlives its client
    headers: dict[str, str] | None = None

    @property
    def request_name(self) -> str:
        """What the trace calls the request that was given up."""
        return ticket_name(self.ticket) if self.ticket else f"{self.client}/{self.request}"


def give(worker: WorkerRow, entry: Entry, task: int, now: float) -> None:
    """Put ``entry`` into the hand of ``worker`` as ``task``, which it was given by an earlier broker."""
    entry.state = RequestState.ALONE if entry.attempt > 1 else RequestState.RUNNING
    entry.worker = worker
    entry.task = task
    entry.handed_out_at = now
    worker.in_hand[task] = entry
    if entry.attempt > 1:
        worker.suspect = entry


class ServiceRow:
    """A queue of requests and the workers for them."""

    __slots__ = (
        "dead_suspects",
        "delayed",
        "free",
        "name",
        "overloaded",
        "prefetching",
        "since",
        "suspects",
        "unserved_at",
        "waiting",
        "workers",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: FairQueue[Entry] = FairQueue()
        self.suspects: deque[Entry] = deque()
        self.dead_suspects = 0  # those of them that have ended there
        self.delayed = 0  # requests that are not to be handed out yet
        self.workers: dict[bytes, WorkerRow] = {}
        self.free: OrderedDict[WorkerRow, None] = OrderedDict()  # can begin at once; least recently used first
        self.prefetching: OrderedDict[WorkerRow, None] = OrderedDict()  # can take more to begin later
        self.overloaded = 0  # workers that have more in hand than they can run
        self.since = 0.0  # when it was made: it has had a worker or a request ever since
        self.unserved_at = math.inf  # when it is recorded that it has requests and no worker

    @property
    def waiting_count(self) -> int:
        """Requests that wait here."""
        return self.waiting.count + len(self.suspects) - self.dead_suspects

    @property
    def oldest_since(self) -> float:
        """Since when the request has waited here that has waited longest; infinity: none waits."""
        suspects = (entry.waits_since for entry in self.suspects if entry.state is not RequestState.ENDED)
        return min(self.waiting.oldest_since, min(suspects, default=math.inf))


def running_of(workers: Iterable[WorkerRow]) -> Counter[str]:
    """How many requests workers have in hand, by service."""
    running: Counter[str] = Counter()
    for worker in workers:
        if len(worker.services) == 1:
            running[worker.services[0].name] += len(worker.in_hand)
        else:
            running.update(entry.request.service for entry in worker.in_hand.values())
    return running


def request_name(entry: Entry) -> str:
    """What the trace calls a request."""
    name = entry.name
    if not name:
        name = entry.name = entry.client.request_name(entry.request.id)
    return name
