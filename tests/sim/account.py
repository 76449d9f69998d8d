"""What the checker notes of a request and of each attempt at it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .network import Connection


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
        return sum(attempt.void == "failed" for attempt in self.attempts)
