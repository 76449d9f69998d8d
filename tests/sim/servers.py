"""The NATS servers that keep a journal of several brokers: what is in their stream, and how badly they tell of it.

A message is stored if the stream ends where its sender says, as JetStream does it; everything else may go wrong. The answer may
be lost, of a message that is stored, is not, or will be in some seconds. Reads may show the stream as it was. While the servers
elect a leader, nothing is stored and nothing told. A broker may be cut off from all of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from cbw.core.journal_records import AnyRecord
from cbw.errors import JournalError, JournalFull, JournalUnreachable
from cbw.journal.stream_journal import PublishReply, Room, StreamEnd
from cbw.journal.stream_messages import Assembler, Ownership, decode_message
from cbw.wire.journal import decode_batch

from .coroutine import pause
from .ledger import Ledger
from .plan import ServersPlan
from .world import Process, ViolationError, World

REPLY_S = 2.0
"""Seconds for which a broker waits for an answer; for that to an append twice as long."""
STALE_S = 3.0
"""Age of the oldest reads, in seconds."""
LATE_S = 6.0
"""Seconds for which a message that was given up may be under way."""
NOTICED_S = 4.0
"""A connection that is silent for so long is ended, at both ends."""


class Fate(Enum):
    """What becomes of an append."""

    ANSWERED = auto()
    LOST = auto()
    STORED = auto()  #: without an answer
    LATE = auto()  #: stored in a while, or then refused


class Written(NamedTuple):
    """A batch that a broker has given to its journal."""

    at: float
    journal_at: float
    """By the journal's clock."""
    records: list[AnyRecord]


class Inheritance(NamedTuple):
    """What stands in the stream when somebody takes it over."""

    ledger: Ledger
    first_position: int
    """All batches before are dropped."""
    next_position: int
    journal_at: float


@dataclass
class _Kept:
    """A message of the stream."""

    subject: str
    data: bytes
    stored_at: float
    dropped_at: float = math.inf


class Servers:
    """They outlive all brokers. ``on_taken`` is told the token of each new owner, ``on_stored`` that of an owner whose batch of
    that position is stored.
    """

    def __init__(self, world: World, plan: ServersPlan) -> None:
        self.world = world
        self.plan = plan
        self.rng = random.Random(f"servers {world.seed}")
        self.last = 0
        self.troubled_at = -1e9
        """When they last could not do what they were asked for."""
        self.on_taken: Callable[[bytes], None] = lambda token: None
        self.on_stored: Callable[[bytes, int], None] = lambda token, position: None
        self.inheritances: dict[int, Inheritance] = {}
        """By the sequence of the message of the new owner."""
        self.listening: dict[SimStream, str] = {}
        """Brokers that say that they own it, and their names."""
        self._kept: dict[int, _Kept] = {}
        self._ledger = Ledger()
        self._assembler = Assembler(1)
        self._written: dict[tuple[int, bytes], Written] = {}
        self._next_position = 1
        self._journal_at = 0.0
        self._token = b""
        self._tokens: dict[int, bytes] = {}  # of owners, by the sequences of their messages
        self._electing_until = self._lossy_until = self._stale_until = self._full_until = -1.0

    # --- what goes wrong

    def elect(self, seconds: float) -> None:
        """They have no leader for so long."""
        self._electing_until = self.world.now + seconds
        self._stale_until = max(self._stale_until, self._electing_until + STALE_S)
        self.troubled_at = self._electing_until

    def lose_answers(self, seconds: float) -> None:
        """Every other append gets none, for so long."""
        self._lossy_until = self.troubled_at = self.world.now + seconds

    def tell_old_news(self, seconds: float) -> None:
        """Reads show what was once there, for so long."""
        self._stale_until = self.world.now + seconds

    def fill(self, seconds: float) -> None:
        """There is no room for so long."""
        self._full_until = self.troubled_at = self.world.now + seconds

    def heal(self) -> None:
        """All is well from now on."""
        self._electing_until = self._lossy_until = self._stale_until = self._full_until = -1.0

    def is_owner(self, token: bytes) -> bool:
        """Whether whoever has this token was the last to take the journal."""
        return token == self._token

    @property
    def have_leader(self) -> bool:
        return self.world.now >= self._electing_until

    def draw_fate(self) -> Fate:
        """Of the next append, or of a part of it."""
        if self.world.now < self._lossy_until and self.rng.random() < 0.5:
            self.world.counts["appends without an answer"] += 1
            return self.rng.choice([Fate.LOST, Fate.STORED, Fate.STORED, Fate.LATE])
        return Fate.ANSWERED

    def draw_view_at(self) -> float:
        """Up to when a read sees what has happened."""
        if self.world.now < self._stale_until and self.rng.random() < 0.5:
            self.world.counts["old reads"] += 1
            return self.world.now - self.rng.uniform(0, STALE_S)
        return self.world.now

    def delay_s(self) -> float:
        """There, or back."""
        return self.rng.uniform(*self.plan.delay_s)

    # --- the stream

    def write(self, position: int, data: bytes, written: Written) -> None:
        """A broker is going to append this batch."""
        self._written[position, data] = written

    def store(self, subject: str, data: bytes, last: int) -> PublishReply | JournalFull:
        """Store a message if the stream ends at ``last``."""
        if not self.have_leader:
            return PublishReply.NONE
        if self.world.now < self._full_until:
            return JournalFull("the stream has no room", advice="Wait.")
        if last != self.last:
            return PublishReply.NOT_NEXT
        self.last += 1
        self._kept[self.last] = _Kept(subject, data, self.world.now)
        self._is_stored(data)
        return PublishReply.STORED

    def _is_stored(self, data: bytes) -> None:
        message = decode_message(self.last, data)
        if isinstance(message, Ownership):
            if message.name and message.token != self._token:
                self._token = message.token
                inherited = Inheritance(self._ledger.copy(), message.first, self._next_position, self._journal_at)
                self.world.say("servers", f"{message.name} has the journal, from message {self.last} on")
                self.world.counts["journal taken"] += 1
                self.inheritances[self.last] = inherited
                self.on_taken(message.token)
            elif message.name:  # it did not know that it had it, or drops something
                self.inheritances[self.last] = next(reversed(self.inheritances.values()))
            self._tokens[self.last] = message.token
            list(self._assembler.batches(self.last, message))
            return
        if self._tokens[message.epoch] != self._token:
            raise ViolationError(f"G8: message {self.last} of the journal is from an owner that was fenced")
        try:
            found = list(self._assembler.batches(self.last, message))
        except JournalError as error:
            raise ViolationError(f"G8: the journal is spoilt: {error}") from None
        for position, batch in found:
            written = self._written.pop((position, batch), None)
            if written is None:  # the same batch once more, or one that nobody has written
                raise ViolationError(
                    f"G8: batch {position} is stored twice, or is none: {decode_batch(position, batch)}"
                )
            self._ledger.apply(written.at, written.records)
            self._next_position, self._journal_at = position + 1, written.journal_at
            self.on_stored(self._token, position)

    def seen(self, at: float) -> dict[int, tuple[str, bytes]]:
        """What somebody sees who sees the stream as it was then."""
        return {
            sequence: (kept.subject, kept.data)
            for sequence, kept in self._kept.items()
            if kept.stored_at <= at < kept.dropped_at
        }

    def drop(self, before: int, subject: str | None) -> None:
        """Drop the messages with a sequence below ``before``, of one subject or all of them."""
        now = self.world.now
        for sequence, kept in self._kept.items():
            if sequence < before and subject in (None, kept.subject):
                kept.dropped_at = min(kept.dropped_at, now)
        for sequence in [n for n, kept in self._kept.items() if kept.dropped_at < now - STALE_S - REPLY_S]:
            del self._kept[sequence]


class SimStream:
    """A broker's connection to them: :class:`cbw.journal.stream_journal.JournalStream`."""

    def __init__(self, servers: Servers, process: Process) -> None:
        self.name = "CBW_shared"
        self.batches = "batches"
        self.owners = "owner"
        self.room = Room()
        self.bytes_max = servers.plan.bytes_max
        self.process = process
        self.is_alive = True
        self._servers = servers
        self._world = servers.world
        self._cut_at = self._cut_until = -1.0

    # --- the network

    def cut_off(self, seconds: float) -> None:
        """Nothing passes for so long."""
        if not self.is_cut_off:
            self._cut_at = self._world.now
        self._cut_until = max(self._cut_until, self._world.now + seconds)
        self._servers.troubled_at = max(self._servers.troubled_at, self._cut_until)

    def heal(self) -> None:
        """Everything passes."""
        self._cut_until = -1.0

    @property
    def is_cut_off(self) -> bool:
        """Whether nothing passes."""
        return self._world.now < self._cut_until

    @property
    def is_connected(self) -> bool:
        """As far as it is known here."""
        return not self.is_cut_off or self._world.now - self._cut_at < NOTICED_S

    def close(self, *, is_silent: bool = False) -> None:
        """The process is gone. The servers find that out at once, or (silent: its machine is gone too) after a while."""
        self.is_alive = False
        after_s = self._servers.rng.uniform(0, NOTICED_S) if is_silent else 0.0
        self._world.after(after_s, self._forget)

    def _forget(self) -> None:
        self._servers.listening.pop(self, None)

    # --- whose it is

    @property
    def answers(self) -> bool:
        """Whether it can be asked now."""
        return self.is_alive and not self.is_cut_off and self._world.now >= self.process.stopped_until

    async def ask_for_owner(self, timeout_s: float, question: bytes = b"") -> str | None:
        await pause(2 * self._servers.delay_s())
        if not self.is_cut_off:
            known = [one for one in self._servers.listening if one is not self and one.is_connected]
            if answering := [one for one in known if one.answers]:
                return self._servers.listening[answering[0]]
            if not known:
                return ""
        await pause(timeout_s)
        return None

    async def answer_for(self, owner: str) -> None:
        self._servers.listening[self] = owner

    # --- reading

    async def _ask(self) -> float:
        """Ask the servers something. When what they will tell was so."""
        await pause(self._servers.delay_s())
        if self.is_cut_off:
            await pause(REPLY_S)
        elif not self._servers.have_leader:
            await pause(self._servers.rng.choice([0.0, REPLY_S]))
        else:
            at = self._servers.draw_view_at()
            await pause(self._servers.delay_s())
            return at
        raise JournalUnreachable("the servers do not answer")

    async def last_sequence(self) -> int:
        return max(self._servers.seen(await self._ask()), default=0)

    async def end(self) -> StreamEnd:
        seen = self._servers.seen(await self._ask())
        if not seen:
            return StreamEnd(0, 0, 0, 0)
        last, size = max(seen), sum(len(data) for _, data in seen.values())
        owner = max((sequence for sequence, (subject, _) in seen.items() if subject == self.owners), default=0)
        return StreamEnd(min(seen), last, size, len(seen), seen[last][1], seen[owner][1] if owner else None)

    async def look_at_room(self) -> Room:
        await self._ask()
        return self.room

    async def watch_room(self) -> None:
        """Nobody looks."""

    async def message_at(self, sequence: int) -> bytes | None:
        try:
            return self._servers.seen(await self._ask()).get(sequence, (b"", None))[1]
        except JournalUnreachable:
            return None

    async def last_owner(self) -> int | None:
        try:
            seen = self._servers.seen(await self._ask())
        except JournalUnreachable:
            return None
        return max((sequence for sequence, (subject, _) in seen.items() if subject == self.owners), default=0)

    async def read(self, first: int, until: int, average_bytes: int) -> list[tuple[int, bytes]]:
        seen = self._servers.seen(await self._ask())
        found = [(sequence, data) for sequence, (_, data) in sorted(seen.items()) if sequence >= first]
        if not found:
            raise JournalUnreachable("the servers have nothing to read")
        return found[: self._servers.rng.randint(1, max(1, until - first))]

    # --- writing

    async def publish(self, subject: str, data: bytes, last: int) -> PublishReply:
        servers, world, rng = self._servers, self._world, self._servers.rng
        fate = servers.draw_fate()
        if self.is_cut_off:  # the client library may send it when it is connected again
            fate = rng.choice([Fate.LOST, Fate.LATE])
        replies: list[PublishReply | JournalFull] = []

        def arrive() -> None:
            replies.append(servers.store(subject, data, last))

        delay_s = servers.delay_s()
        if fate is Fate.LATE:
            world.at(max(self._cut_until, world.now) + delay_s + rng.uniform(0, LATE_S), arrive)
        elif fate is not Fate.LOST:
            world.after(delay_s, arrive)
        await pause(delay_s + servers.delay_s())
        if fate is not Fate.ANSWERED or self.is_cut_off:  # it may be since then
            await pause(rng.choice([rng.uniform(0, 0.1), 2 * REPLY_S]))
            return PublishReply.NONE
        if isinstance(replies[0], JournalFull):
            raise replies[0]
        return replies[0]

    async def drop(self, before: int, subject: str | None = None) -> None:
        await self._ask()
        self._world.after(self._servers.delay_s(), self._servers.drop, before, subject)
