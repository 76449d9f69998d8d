"""What a broker decides about a journal that is a stream of messages: whose it is, what became of an append, what may be dropped.

Everything that can be wrong is here, without a server, a thread or a clock. The methods are coroutines: each waits for what
the :class:`JournalStream` answers, and for nothing else, so that the simulation runs them as the broker does.

**Who owns it stands in the stream itself.** Whoever takes the journal over appends a message that says so, on the condition that
the stream ends where he has read it; each append of the owner has the same condition. So one who was taken for dead is
stopped by his next append, and there is no lease that could run out unnoticed. To ask whether the owner lives is mere courtesy.

**An append without an answer is sent again, with the same condition.** If it was stored before, the servers refuse it, and what
they have in its place is read: our own message, or that of a new owner.

**The next message is sent when the one before it is known to be stored.** To send several at once, each on the condition that
follows from those before it, saves a round trip and is wrong: if a new owner has written just as many messages as come before
one of them, that one is stored behind those of the new owner, although all before it were refused.
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple, Protocol

from cbw.errors import JournalDamaged, JournalFenced, JournalFull, JournalInUse
from cbw.journal import stream_messages
from cbw.journal.backend import Append
from cbw.journal.standbys import question
from cbw.journal.stream_messages import Assembler, Ownership
from cbw.journal.takeover import ASK_S, Takeover


class PublishReply(Enum):
    """What the servers say to a message that was published on the condition that it comes next."""

    STORED = auto()
    NOT_NEXT = auto()  #: there is another message at its place already; it may be this one, from an earlier try
    NONE = auto()  #: no answer came, or none that tells


class Outcome(Enum):
    """What became of a message."""

    STORED = auto()
    OTHER = auto()  #: the stream has another message at that sequence
    UNKNOWN = auto()  #: stored or not


@dataclass(frozen=True, slots=True)
class Room:
    """What the servers allow, in bytes; 0: as much as they have."""

    size_bytes: int = 0
    """Of the stream."""
    stream_bytes_max: int = 0
    account_bytes: int = 0
    """Of all streams of the account together."""
    account_bytes_max: int = 0

    @property
    def filled(self) -> float:
        """How much of it is taken, from 0 to 1."""
        stream = self.size_bytes / self.stream_bytes_max if self.stream_bytes_max else 0.0
        account = self.account_bytes / self.account_bytes_max if self.account_bytes_max else 0.0
        return min(1.0, max(stream, account))

    def less(self, count: int) -> Room:
        """The room that is left when the stream has grown by ``count`` bytes."""
        return replace(self, size_bytes=self.size_bytes + count, account_bytes=self.account_bytes + count)


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of a stream: what is there, and its last message. Another may have been appended since."""

    first: int
    last: int
    size_bytes: int
    messages: int
    data: bytes | None = None
    owner: bytes | None = None
    """The last message about who owns it."""


class JournalStream(Protocol):
    """A stream of messages with sequences, of which each has one of two subjects. What it tells may be old, but was once so."""

    name: str
    batches: str
    """The subject of batches."""
    owners: str
    """The subject of messages on the owner."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to a server at present."""

    @property
    def bytes_max(self) -> int:
        """The most bytes of one message."""

    @property
    def room(self) -> Room:
        """The room that the stream had at the last look, less what was appended since."""

    async def last_sequence(self) -> int:
        """The sequence number of the last message.

        Raises:
            JournalUnreachable: the servers do not tell.
        """

    async def end(self) -> StreamEnd:
        """The end of the stream.

        Raises:
            JournalUnreachable: the servers do not tell.
        """

    async def ask_for_owner(self, timeout_s: float, question: bytes = b"") -> str | None:
        """The owner's name, who is told the ``question``; empty: nobody is there to be asked; None: no answer came."""

    async def answer_for(self, owner: str) -> None:
        """Tell whoever asks that ``owner`` lives."""

    async def look_at_room(self) -> Room:
        """Bring :attr:`room` up to date.

        Raises:
            JournalUnreachable: the servers do not tell.
        """

    async def watch_room(self) -> None:
        """Keep :attr:`room` up to date."""

    async def publish(self, subject: str, data: bytes, last: int) -> PublishReply:
        """Send a message, which is to be stored if the sequence of the last one is ``last``.

        Raises:
            JournalFull: there is no room; nothing was stored.
            JournalError: the stream cannot be written any more.
        """

    async def message_at(self, sequence: int) -> bytes | None:
        """The message at ``sequence``; None: the servers do not tell, or have none there."""

    async def last_owner(self) -> int | None:
        """The sequence of the last message on the owner; None: the servers do not tell."""

    async def read(self, first: int, until: int, average_bytes: int) -> list[tuple[int, bytes]]:
        """Some messages with their sequences, from ``first`` on and below ``until``; at least one.

        Raises:
            JournalUnreachable: the servers do not tell.
        """

    async def drop(self, before: int, subject: str | None = None) -> None:
        """Drop all messages with a sequence below ``before``, or those of them with this ``subject``.

        Raises:
            JournalUnreachable: it may not have been done.
        """


class _Unsent(NamedTuple):
    """A message that is not known to be stored, and the position behind its batches."""

    subject: str
    data: bytes
    end: int


class StreamJournal:
    """The journal ``name`` in ``stream``, for the broker ``owner``, whose random ``token`` tells it from others of its name.

    :meth:`try_to_take` until it is true, then :meth:`read_some` until it is None, then :meth:`append` and :meth:`compact`.
    """

    def __init__(self, stream: JournalStream, name: str, owner: str, token: bytes) -> None:
        self._stream = stream
        self._name = name
        self._owner = owner
        self._token = token
        self.owner_told: str | None = None
        """The owner's name, as the servers told when they were asked last."""
        self._takeover = Takeover()
        self._epoch = 0  # the sequence of the message that made it ours; 0: it is not
        self._last_owner = 0  # the sequence of our last message on the owner
        self._first = self._next = 1
        self._cut = 1  # position after the batches that were made into messages
        self._reading = 1  # the sequence that is read next
        self._reader = Assembler(1)
        self._own_end = 0  # position behind the batches of the message that made it ours
        self._last = 0  # the sequence of the stream's last message
        self._size = 0
        self._dropped = 0  # batches in messages with a sequence below this are dropped
        self._average = 1
        self._sequences = array("Q")  # of the messages
        self._ends = array("Q")  # position after the batches of each
        self._unsent: deque[_Unsent] = deque()

    @property
    def epoch(self) -> int:
        """The sequence of the message that made it ours; 0: it was not taken. Another may have it by now."""
        return self._epoch

    @property
    def next_position(self) -> int:
        """The position that the next batch will have."""
        return self._next

    @property
    def size_bytes(self) -> int:
        """What the journal takes in the stream."""
        return self._size

    # --- whose it is

    async def try_to_take(self, clock: Callable[[], float], tell: Callable[[str], None], *, waits: bool = True) -> bool:
        """Make it ours if its owner is gone; whether it is. If not, try again after :data:`~cbw.journal.takeover.ASK_S`.

        Raises:
            JournalInUse: its owner lives, and ``waits`` is false.
            JournalFull: there is no room to say whose it is; the same may be tried again.
            JournalUnreachable: the servers do not answer; likewise.
            JournalError: it cannot be used.
        """
        end = await self._takeable_end(clock, tell, waits=waits)
        return end is not None and await self._take(end)

    async def _takeable_end(
        self, clock: Callable[[], float], tell: Callable[[str], None], *, waits: bool
    ) -> StreamEnd | None:
        """The end of the stream if the journal may be taken: where it was before the owner was asked, so that whoever has taken
        it since is not overlooked."""
        stream, takeover = self._stream, self._takeover
        last = await stream.last_sequence()
        asked_at = clock()
        self.owner_told = owner = await stream.ask_for_owner(
            ASK_S, question(self._token, self._owner) if waits else b""
        )
        now = clock()
        if owner:
            if not waits:
                raise JournalInUse(
                    f"the broker {owner} has the journal {self._name}",
                    advice="Stop that broker first. A second one with the same --journal stands by until the first has ended.",
                )
            tell(f"stands by: {owner} has the journal {self._name}")
            takeover.answered()
            return None
        end = await stream.end()
        if end.last != last:  # somebody has written
            takeover.answered()
            return None
        if owner is None:
            may_take = takeover.silent(now, asked_at, is_connected=stream.is_connected)
        else:
            may_take = takeover.nobody(now, is_given_back=not end.messages or not _owner_of(end.owner, end.last).name)
        return end if may_take else None

    async def _take(self, end: StreamEnd) -> bool:
        """Try to make it ours. False: another message came behind ``end``."""
        stream = self._stream
        if end.messages:
            assert end.data is not None
            self._first = _owner_of(end.owner, end.last).first
            self._next = stream_messages.next_after(stream_messages.decode_message(end.last, end.data))
        await stream.look_at_room()
        self._last = end.last
        self._size, self._average = end.size_bytes, end.size_bytes // max(1, end.messages)
        self._cut = self._next
        self._unsent.clear()  # of an earlier try
        self._say_owner(self._owner)
        if await self._send() is not Append.DURABLE:
            return False
        self._epoch, self._own_end, self.owner_told = self._last, self._ends[-1], self._owner
        self._reading, self._reader = (end.first or 1), Assembler(self._first)
        self._sequences, self._ends = array("Q"), array("Q")
        await stream.answer_for(self._owner)
        await stream.watch_room()
        return True

    def _say_owner(self, owner: str) -> None:
        data = stream_messages.encode_message(Ownership(owner, self._first, self._cut, self._token))
        self._unsent.append(_Unsent(self._stream.owners, data, self._cut))

    async def give_back(self) -> None:
        """Say in the stream that it has no owner, if it is ours, everything is known to be stored, and there is room to say so.

        Raises:
            JournalError: it cannot be written.
        """
        if self._epoch and not self._unsent:
            self._say_owner("")
            with contextlib.suppress(JournalFull):  # a standby finds out a second later
                await self._send()

    # --- reading

    async def read_some(self) -> list[tuple[int, bytes]] | None:
        """The next batches with their positions, maybe none; None: there are no more.

        Raises:
            JournalUnreachable: the servers do not tell; the same may be tried again.
            JournalDamaged: some are missing.
        """
        if self._reading >= self._epoch:
            self._note(self._epoch, self._own_end, 0)
            return None
        found: list[tuple[int, bytes]] = []
        for sequence, data in await self._stream.read(self._reading, self._epoch, self._average):
            if sequence >= self._epoch:
                self._reading = self._epoch
                break
            if sequence != self._reading and not self._reader.may_miss_some:
                raise JournalDamaged(f"message {self._reading} of the stream {self._stream.name} is missing")
            message = stream_messages.decode_message(sequence, data)
            found += self._reader.batches(sequence, message)
            self._note(sequence, stream_messages.position_behind(message), 0)
            self._reading = sequence + 1
        return found

    def _note(self, sequence: int, end: int, size: int) -> None:
        self._sequences.append(sequence)
        self._ends.append(max(end, self._ends[-1] if self._ends else 0))
        self._size += size

    # --- writing

    async def append(self, position: int, batches: Sequence[bytes]) -> Append:
        """Store ``batches`` at ``position``, all of them or none; what became of them.

        Raises:
            JournalError: as :class:`.Backend` has it.
        """
        if position != self._next:
            return Append.FENCED
        assert self._epoch, "this journal is not open"
        self._gather(position, batches)
        outcome = await self._send()
        if outcome is Append.DURABLE:
            self._next = position + len(batches)
        return outcome

    def _gather(self, position: int, batches: Sequence[bytes]) -> None:
        """Make messages of those batches of an append of which an earlier try has made none. That may have had more batches: who
        finds no room tries again with fewer.
        """
        new = batches[self._cut - position :]
        for message in stream_messages.cut(self._epoch, self._cut, new, self._stream.bytes_max):
            data, end = stream_messages.encode_message(message), stream_messages.position_behind(message)
            self._unsent.append(_Unsent(self._stream.batches, data, end))
        self._cut += len(new)

    async def _send(self) -> Append:
        """Append what is not sent, or not known to be stored."""
        while self._unsent:
            one = self._unsent[0]
            outcome = await self._outcome(await self._stream.publish(one.subject, one.data, self._last), one.data)
            if outcome is Outcome.OTHER:
                return Append.FENCED
            if outcome is Outcome.UNKNOWN:
                return Append.FENCED if await self._is_fenced() else Append.UNKNOWN
            self._unsent.popleft()
            self._last += 1
            if one.subject == self._stream.owners:
                self._last_owner = self._last
            self._note(self._last, one.end, len(one.data))
        return Append.DURABLE

    async def _outcome(self, reply: PublishReply, data: bytes) -> Outcome:
        """What became of ``data``, which should be the next message."""
        if reply is PublishReply.NOT_NEXT:
            found = await self._stream.message_at(self._last + 1)
            if found is None:
                return Outcome.UNKNOWN
            return Outcome.STORED if found == data else Outcome.OTHER
        return Outcome.STORED if reply is PublishReply.STORED else Outcome.UNKNOWN

    async def _is_fenced(self) -> bool:
        """Whether another broker owns it by now, which may have dropped the message that would say so."""
        found = await self._stream.last_owner()
        is_own = self._unsent[0].subject == self._stream.owners  # it may be what is found, where it should be
        return found is not None and found > (self._last + 1 if is_own else self._last_owner)

    # --- making room

    async def compact(self, before: int) -> bool:
        """Drop batches with a position below ``before``; whether there is more to do.

        Raises:
            JournalError: as :class:`.Backend` has it.
        """
        assert self._epoch, "this journal is not open"
        before = min(before, self._next)
        if before > self._first and not self._unsent:  # else it is not known yet where the batches in there are
            self._first = before
            self._say_owner(self._owner)
        try:
            outcome = await self._send()
        except JournalFull:
            if not await self._make_room(before):
                raise
            return True
        if outcome is Append.FENCED:
            raise JournalFenced(f"another broker has the journal {self._name}")
        if outcome is Append.UNKNOWN:
            return True
        if count := self._droppable(self._first):
            await self._stream.drop(self._sequences[count])
            del self._sequences[:count], self._ends[:count]
            self._size = (await self._stream.look_at_room()).size_bytes
        return before > self._first

    def _droppable(self, before: int) -> int:
        """How many of the oldest messages hold nothing but batches below ``before``."""
        return bisect_right(self._ends, before, hi=len(self._ends) - 1)

    async def _make_room(self, before: int) -> bool:
        """Drop batches below ``before`` although there is no room to say so first. The messages on the owner stay, as the last of
        them must. Returns whether there were any.
        """
        below = self._sequences[self._droppable(before)]
        if below <= max(self._dropped, self._sequences[0]):
            return False
        await self._stream.drop(below, self._stream.batches)
        self._dropped = below
        return True


def _owner_of(data: bytes | None, sequence: int) -> Ownership:
    message = stream_messages.decode_message(sequence, data or b"")
    if not isinstance(message, Ownership):
        raise JournalDamaged("the stream's last message on its owner is another one")
    return message
