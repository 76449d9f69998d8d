"""What all programs have asked for and been given, whichever broker has it: what the checkers of several brokers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .account import SeenAttempt
from .plan import Job, Wish
from .streams import Streams
from .tickets import Tickets
from .world import ViolationError

if TYPE_CHECKING:
    from .checker import Checker
    from .clients import SimClient


@dataclass
class Programs:
    """Tokens of requests, ids of native ones and numbers of tasks mean one thing at all brokers."""

    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: dict[int, SeenAttempt] = field(default_factory=dict)
    asked: dict[int, tuple[str, float | None, SimClient]] = field(default_factory=dict)  # by native request id
    cancelled: dict[str, None] = field(default_factory=dict)
    cancelled_by_operators: dict[str, None] = field(default_factory=dict)
    retries_wanted: dict[int, float] = field(default_factory=dict)
    """By task: in how many seconds its handler wants to be called again."""
    streams: Streams = field(default_factory=Streams)
    wishes: dict[int, Wish] = field(default_factory=dict)
    """Of tickets, by the ids of the messages that say them."""
    tickets: Tickets = field(kw_only=True)
    checkers: list[Checker] = field(default_factory=list)
    refused_by_fenced: dict[int, None] = field(default_factory=dict)
    """Native request ids: a broker whose journal another one has stored nothing, and has said so before it knew why."""

    def wished(self, key: str, wish: Wish, client: SimClient, now: float) -> None:
        """``client`` wants something of a ticket, by a message that is called ``key``."""
        message = int(key.rpartition("/")[2])
        self.jobs[wish.job.token] = wish.job
        self.wishes[message] = wish
        self.asked[message] = (wish.token, now, client)
        self.tickets.asked(wish)

    def has_headers(self, token: str, headers: dict[str, str] | None) -> None:
        """A handler is called with these."""
        job = self.jobs[token]
        if headers != job.headers:
            raise ViolationError(f"G1: {token} has the headers {headers}, not {job.headers}")

    def died(self, task: int) -> None:
        """The process that ran ``task`` died of it or with it."""
        if (attempt := self.attempts.get(task)) is not None and attempt.void != "returned":
            attempt.has_died = True

    def may_be_refused(self, request: int) -> bool:
        """Whether some broker may have refused this native request because it could store nothing."""
        return request in self.refused_by_fenced or any(each.durability.was_troubled for each in self.checkers)
