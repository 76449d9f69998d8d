"""Sizes, rates and limits of one run: its programs, what they ask, its brokers and the faults that befall them."""

from __future__ import annotations

from dataclasses import dataclass, field

from cbw.core.broker.limits import Limits
from cbw.core.messages import PRIORITY

RETRIES_ALLOWED = 3
"""As every service says."""
BOOTS_MAX = 1000
"""More than any broker has in a run: each counts its tasks in ranges of its own, one for each boot."""


def first_task(broker: int, boot: int) -> int:
    """The number of the first task of the broker of that number in that boot."""
    return (broker * BOOTS_MAX + boot) << 32


def broker_of(task: int) -> int:
    """The number of the broker whose task it is."""
    return (task >> 32) // BOOTS_MAX


def retries_wanted(kind: str) -> int:
    """How often a handler asks to be called again."""
    return int(kind.removeprefix("retry")) if kind.startswith("retry") else 0


def limit_of(kind: str) -> float | None:
    """How long a handler may take; None: as long as it wants."""
    return float(kind.removeprefix("limit")) if kind.startswith("limit") else None


@dataclass
class Job:
    """One request of a client's program."""

    token: str
    service: str
    work_s: float
    kind: str = ""
    """What the handler does: ``""`` answers, ``raise``, ``die`` (its process), ``hang`` (holds the GIL), ``retry2`` (asks
    twice to be called again), ``stream9`` (makes nine parts), ``limit0.1`` (may take so many seconds); ``own``: the broker
    answers it itself"""
    ttl_s: float | None = None
    cancel_after_s: float | None = None
    pad: int = 0
    priority: int = PRIORITY
    delay_s: float = 0.0
    restarts: bool = False
    """A stream that begins anew if its worker is lost."""
    wants_progress: bool = False
    requires_worker: bool = False
    """It ends at once if nobody serves it."""
    headers: dict[str, str] | None = None

    @property
    def body(self) -> bytes:
        return f"{self.token};{self.work_s:.6f};{self.kind};".encode() + b"x" * self.pad


@dataclass(eq=False)
class Wish:
    """What a program wants of a ticket: that ``job`` is started, or its answer."""

    ticket: str
    job: Job
    is_start: bool
    ttl_s: float | None = None
    """Seconds for which it wants to wait for the answer."""

    @property
    def token(self) -> str:
        """As that of a job."""
        return f"{self.job.token} ({'start' if self.is_start else 'collect'})"


@dataclass
class ClientPlan:
    name: str
    bursts: list[tuple[float, list[Job]]]
    queue_max: int = 1000  #: messages to the broker that its connection has room for
    wishes: list[tuple[float, Wish]] = field(default_factory=list)  #: what it wants of tickets


@dataclass
class WorkerPlan:
    name: str
    services: list[str]
    concurrency: int
    speed: float
    is_async: bool = False
    is_sheltered: bool = False  #: handlers in child processes
    restart_s: float = 0.5
    grace_s: float = 1.0


@dataclass
class PlainClientPlan:
    name: str
    is_anonymous: bool
    is_dealer: bool
    patience_s: float | None  #: a lazy pirate throws its socket away after so long, and tries again
    bursts: list[tuple[float, list[Job]]]


@dataclass
class PlainWorkerPlan:
    name: str
    is_anonymous: bool
    speed: float
    restart_s: float = 0.5


@dataclass
class JournalPlan:
    """A broker that has one. It is compacted when it holds ``slack_bytes`` too many, if ``compact_bytes`` can be dropped."""

    append_s: tuple[float, float]
    slack_bytes: int
    compact_bytes: int
    rewrite_bytes: int

    def __str__(self) -> str:
        return f"journal: {self.append_s[1] * 1e3:.2f} ms, slack of {self.slack_bytes}, rewrites {self.rewrite_bytes}"


@dataclass
class ServersPlan:
    """NATS servers that keep the journal of all brokers, of which one at a time is the owner."""

    delay_s: tuple[float, float]
    bytes_max: int
    """Of one message."""


@dataclass
class Plan:
    """One run."""

    seed: int
    faults_s: float
    delay_s: tuple[float, float]
    batch_messages: int
    queue_max: int
    turn_messages: int
    monitor_lag_s: float  #: a ROUTER's monitor tells of an ended connection so much later
    limits: Limits
    clients: list[ClientPlan] = field(default_factory=list)
    workers: list[WorkerPlan] = field(default_factory=list)
    plain_clients: list[PlainClientPlan] = field(default_factory=list)
    plain_workers: list[PlainWorkerPlan] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)  #: fault → how many a second
    journal: JournalPlan | None = None
    brokers: int = 1
    servers: ServersPlan | None = None  #: the brokers share ``journal`` there

    def __str__(self) -> str:
        limits = self.limits
        rates = " ".join(f"{name} {rate:.2f}" for name, rate in self.rates.items()) or "none"
        bursts = [burst for client in self.clients for burst in client.bursts]
        bursts += [burst for client in self.plain_clients for burst in client.bursts]
        requests = sum(len(jobs) for _, jobs in bursts)
        brokers = f"{self.brokers} brokers, " if self.brokers > 1 else ""
        if self.servers is not None:
            brokers += f"one journal in messages of {self.servers.bytes_max}, "
        return (
            f"seed {self.seed}: {brokers}{len(self.clients)}+{len(self.plain_clients)} clients, "
            f"{len(self.workers)}+{len(self.plain_workers)} workers, {requests} requests, {self.faults_s:.1f} s; "
            f"delay {self.delay_s[0] * 1e3:.2f}-{self.delay_s[1] * 1e3:.2f} ms, "
            f"batches of {self.batch_messages}, queues of {self.queue_max}, turns of {self.turn_messages}, "
            f"monitor lag {self.monitor_lag_s} s; "
            f"requests_max {limits.requests_max}, parked_bytes_max {limits.parked_bytes_max}, "
            f"attempts_max {limits.attempts_max}, dead_max {limits.dead_max}, dead_bytes_max {limits.dead_bytes_max}, "
            f"answer_timeout {limits.answer_timeout_s:.1f}, absence {limits.absence_s:.0f}; "
            f"{f'{self.journal}; ' if self.journal else ''}faults a second: {rates}"
        )
