"""What the checker notes of a request and of each attempt at it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from functools import lru_cache

from cbw.core.broker.core import BrokerCore
from cbw.core.broker.tables import Entry, request_name

from .network import Connection

NAMES_MAX = 10_000
"""Names that are remembered with their numbers: more than a run has requests."""


@dataclass(eq=False)
class SeenAttempt:
    """One handing out."""

    task: int
    request: int
    token: str
    handed_at: float
    worker: str = ""
    connection: Connection | None = None  # it was sent over
    is_acquainted: bool = True  # the broker had heard something over that connection
    is_in_pool: bool = False
    began_at: float | None = None
    has_run: bool = False
    has_died: bool = False  # its worker, while it ran
    void: str = ""
    """``returned``, ``restarted``, ``failed`` or ``retried``: the broker counts on it no more.
    ``lost``: it died before it knew for sure."""
    is_excused: bool = False
    is_accepted: bool = False  # its answer ended the request
    recovered_at: float | None = None  # the broker knows of it from its journal, and has not heard of its worker since


@dataclass(eq=False)
class Accepted:
    """A request in the broker."""

    token: str
    deadline_at: float | None
    at: float
    attempts: list[SeenAttempt] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many attempts have failed."""
        return sum([attempt.void == "failed" for attempt in self.attempts])

    def died(self, lab: Container[str], *, is_stream: bool) -> int:
        """How many workers died of it; ``lab`` are the REQ workers.

        A task that crosses the registration of a REQ worker is taken for one that was not begun, and may be. One whose parts were
        lost on their way to the client is given back though it was begun, and its worker may die later.
        """
        begun = [a for a in self.attempts if a.void != "restarted"]  # whatever became of its worker
        return sum([a.has_died and not (a.void == "returned" and (is_stream or a.worker in lab)) for a in begun])


def entries_of(core: BrokerCore) -> list[Entry]:
    """The requests that have not ended, or whose ends are just being stored: of clients, and of tickets."""
    return [entry for row in (*core.clients.all, *core.tickets.rows.values()) for entry in row.entries.values()]


def number_of(entry: Entry) -> int:
    """By what the checker knows a request."""
    return number_in(request_name(entry))


@lru_cache(NAMES_MAX)
def number_in(name: str) -> int:
    """The number at the end of the name that the trace gives a request."""
    return int(name.rpartition("/")[2])
