"""Requests that outlive their clients: what was started under a ticket can be collected by anybody, and is the same each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cbw.core import catalogue
from cbw.core.broker.limits import Limits
from cbw.core.client.events import Ended
from cbw.core.identities import ticket_name
from cbw.core.messages import Status
from cbw.core.record import Record

from .plan import Wish
from .workers import read_answer
from .world import ViolationError, World

if TYPE_CHECKING:
    from .system import SimSystem

NAMES = ticket_name("")
AMPLE_BYTES = 1 << 20
"""With less room than this, answers may be dropped and clients refused."""
SLOW_S = 1.5
"""Seconds after its time in which an answer may still be kept: a broker sweeps in steps."""


@dataclass(eq=False)
class SeenTicket:
    """A ticket, as the programs know it."""

    tokens: dict[str, None] = field(default_factory=dict)
    """Of the jobs that were to be started under it."""
    asked_at: float = 0.0
    is_confirmed: bool = False
    """Some program was told that the broker has it."""
    answer: tuple[Status, bytes] | None = None
    ended_at: float | None = None
    lost_at: float = -1.0
    """When its request was lost with a broker: what was told of it before may arrive later."""


class Tickets:
    """All of them. Those of a broker that has died are gone with it, and so are those whose requests a broker ends because it
    stops: no run with tickets has a journal.
    """

    def __init__(self, world: World, limits: Limits) -> None:
        self._world = world
        self._limits = limits
        self._seen: dict[str, SeenTicket] = {}
        self._unknown: dict[int, None] = {}  # questions after tickets that the broker did not know

    def need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(f"tickets: {text}")

    @property
    def has_ample_room(self) -> bool:
        """Whether nothing has to be dropped."""
        return self._limits.results_bytes_max >= AMPLE_BYTES and self._limits.requests_max >= 1000

    def asked(self, wish: Wish) -> None:
        """A program wants that."""
        seen = self._seen.setdefault(wish.ticket, SeenTicket(asked_at=self._world.now))
        if wish.is_start:
            seen.tokens[wish.job.token] = None

    def broker_died(self) -> None:
        """It has forgotten them."""
        for seen in self._seen.values():
            self._lose(seen)

    def _lose(self, seen: SeenTicket) -> None:
        self._forget(seen)
        seen.lost_at = self._world.now

    def _forget(self, seen: SeenTicket) -> None:
        seen.is_confirmed, seen.answer, seen.ended_at = False, None, None

    def told(self, record: Record) -> bool:
        """The broker's trace; whether that is all about it."""
        if not record.request.startswith(NAMES):
            return False
        seen = self._seen[record.request.removeprefix(NAMES)]
        if record.event == "result_dropped":
            self.need(not self.has_ample_room, f"{record.request} is dropped, and there is room: {record.text}")
        elif record.event == catalogue.STOPPED:
            self._lose(seen)
            return False
        elif record.event == "result_expired":
            kept_s = self._world.now - (seen.ended_at if seen.ended_at is not None else self._world.now)
            self.need(kept_s >= self._limits.results_keep_s - 1e-6, f"{record.request} was kept for {kept_s:.3f} s")
        else:
            if record.event in ("answered", "failed", "gave_up", "cancelled", "expired"):
                seen.ended_at = self._world.now
            return record.event == "refused"
        self._forget(seen)
        return True

    def is_unknown(self, number: int, wish: Wish) -> None:
        """The broker says so to the question of that number. It reaches its program later, when the ticket may be known.

        Raises:
            ViolationError: a program was told that the broker has it.
        """
        is_gone = not self._seen[wish.ticket].is_confirmed or not self.has_ample_room
        self.need(is_gone, f"{wish.ticket} is unknown, and was started")
        self._unknown[number] = None

    def ended(self, wish: Wish, ended: Ended, *, was_cancelled: bool) -> bool:
        """A program has heard what became of its wish; whether it has got an answer of a handler, to be looked at.

        Raises:
            ViolationError: it was told something that is not so.
        """
        status, name = ended.answer.status, ended.request
        seen, ticket = self._seen[wish.ticket], wish.ticket
        self.need((ended.ticket, ended.is_start) == (ticket, wish.is_start), f"{name} is told of another: {ended}")
        if ended.refused is not None or was_cancelled or status is Status.STOPPING:
            return False
        if status is Status.BUSY:
            self.need(not self.has_ample_room, f"{name} is refused, and there is room")
        elif wish.is_start:
            self._started(wish, ended, seen)
        elif status is Status.UNKNOWN_TICKET:
            self.need(ended.answer.id in self._unknown, f"{name} is unknown, and no broker has said so")
        elif status is Status.EXPIRED and wish.ttl_s is not None:
            pass
        else:
            body = bytes(ended.answer.body)
            is_asked_for = status is not Status.OK or read_answer(body)[0] in seen.tokens
            self.need(is_asked_for, f"G1: {name} has the answer {body!r}, and is {[*seen.tokens]}")
            is_same = seen.answer in (None, (status, body))
            self.need(is_same, f"{name} has the answer {status.name} {body!r}, and had {seen.answer}")
            if seen.lost_at < seen.asked_at and self.has_ample_room:
                seen.answer = status, body
            return True
        return False

    def _started(self, wish: Wish, ended: Ended, seen: SeenTicket) -> None:
        status = ended.answer.status
        if status is Status.TICKET_TAKEN:
            self.need(len(seen.tokens) > 1, f"{ended.request} is another's, and nobody else has it")
            return
        self.need(status is Status.OK and not ended.answer.body, f"{ended.request} is not started: {ended.answer}")
        self.need(not ended.is_durable, f"{ended.request} is durable, and there is no journal")
        seen.is_confirmed = seen.lost_at < seen.asked_at

    def check(self, system: SimSystem) -> None:
        """
        Raises:
            ViolationError: the broker keeps an answer for too long.
        """
        now, keep_s = self._world.now, self._limits.results_keep_s
        for broker in system.living_brokers:
            rows = broker.core.tickets.rows
            kept_s = max((now - row.ended_at for row in rows.values() if row.answer is not None), default=0.0)
            is_late = kept_s > keep_s + SLOW_S and now - broker.settled_at > SLOW_S
            self.need(not is_late, f"an answer is kept for {kept_s:.3f} s")
