"""The journal as a JetStream stream: it survives the machine that a broker was on, and another broker goes on with it.

**Who owns it stands in the stream itself.** Whoever takes the journal over appends a message that says so, on the condition that
the stream ends where he has read it; each append of the owner has the same condition. So one who was taken for dead is
stopped by his next append, and there is no lease that could run out unnoticed. To ask whether the owner lives is mere courtesy.

**An append without an answer is sent again, with the same condition.** If it was stored before, the servers refuse it, and what
they have in its place is read: our own message, or that of a new owner.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from cbw.errors import (
    JournalDamaged,
    JournalError,
    JournalFenced,
    JournalFull,
    JournalInUse,
    JournalUnreachable,
)
from cbw.journal import stream_messages
from cbw.journal.backend import Append
from cbw.journal.nats_place import NatsPlace
from cbw.journal.nats_stream import IN_FLIGHT, Outcome, Stream, StreamEnd
from cbw.journal.standbys import STANDBY_TOKEN_BYTES, question
from cbw.journal.stream_messages import Assembler, Ownership
from cbw.journal.takeover import ASK_S, Takeover

T = TypeVar("T")
READ_S = 30.0
"""How long a stream may not be readable before its reader gives up: elections take 4 to 9 s (measured)."""


class _Loop:
    """An event loop in a thread of its own: nats-py has to answer its servers at all times."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self.run(_settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _settle() -> None:
    """End what still runs in this loop. nats-py leaves the transports of lost connections to the collector, and those want a
    loop that runs."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)


class _Unsent(NamedTuple):
    """A message that is not known to be stored, and the position behind its batches."""

    subject: str
    data: bytes
    end: int


class Health(NamedTuple):
    """What can be told of a journal from outside."""

    version: str
    """Of the server that answers."""
    replicas: int
    """How many servers keep it; 0: there is no such journal yet."""
    current: int
    """How many of these have all of it."""
    owner: str | None
    """The broker that has it; empty: none; None: it does not answer."""


def health_of(place: NatsPlace) -> Health:
    """Ask the servers at ``place``, and the owner of the journal.

    Raises:
        JournalUnreachable: they do not answer.
        JournalTooOldServer: they may not keep what they promise.
    """

    async def ask() -> Health:
        stream = await Stream.connect(place, "cbw doctor", makes=False)
        try:
            replicas, current = await stream.replicas() or (0, 0)
            return Health(stream.version, replicas, current, await stream.ask_for_owner(ASK_S))
        finally:
            await stream.close()

    loop = _Loop()
    try:
        return loop.run(ask())
    finally:
        loop.close()


class NatsJournal:
    """The journal at ``place``, for the broker ``owner``. See :class:`~cbw.journal.backend.Backend`.

    :meth:`open` refuses a journal whose owner lives; a standby calls :meth:`acquire` before, which waits for its end.
    """

    def __init__(self, place: NatsPlace, owner: str = "cbw") -> None:
        self.place = place
        self._owner = owner
        self._token = os.urandom(STANDBY_TOKEN_BYTES)
        self._owner_told: str | None = None  # by the servers, when they were asked last
        self._loop: _Loop | None = None
        self._stream: Stream | None = None
        self._epoch = 0  # the sequence of the message that made it ours; 0: it is not
        self._last_owner = 0  # the sequence of our last message on the owner
        self._first = self._next = 1
        self._begin = 1  # sequences of what is to be read by open
        self._last = 0  # the sequence of the stream's last message
        self._size = 0
        self._dropped = 0  # batches in messages with a sequence below this are dropped
        self._average = 1
        self._sequences = array("Q")  # of the messages
        self._ends = array("Q")  # position after the batches of each
        self._unsent: deque[_Unsent] = deque()
        self._cut = 0  # position after the batches that were made into messages

    # --- whose it is

    def acquire(self, is_stopped: Callable[[], bool], tell: Callable[[str], None], *, waits: bool = True) -> bool:
        """Wait until the journal is ours. False: ``is_stopped`` said so before. ``tell`` is told what is waited for.

        Raises:
            JournalInUse: its owner lives, and ``waits`` is false.
            JournalError: it cannot be used.
        """
        takeover = Takeover()
        while not is_stopped():
            try:
                stream = self._connected()
                asked_at = time.monotonic()
                end = self._takeable_end(stream, takeover, tell, waits=waits)
                if end is not None and self._take(stream, end):
                    return True
            except JournalUnreachable as error:
                if not waits:
                    raise
                asked_at = time.monotonic()
                tell(f"waits for its journal: {error}")
            time.sleep(max(0.0, ASK_S - (time.monotonic() - asked_at)))
        return False

    def _connected(self) -> Stream:
        if self._loop is None:
            self._loop = _Loop()
        if self._stream is None:
            self._stream = self._loop.run(Stream.connect(self.place, self._owner))
        return self._stream

    def _takeable_end(
        self, stream: Stream, takeover: Takeover, tell: Callable[[str], None], *, waits: bool
    ) -> StreamEnd | None:
        """The end of the stream if the journal may be taken: where it was before the owner was asked, so that whoever has taken
        it since is not overlooked."""
        last = self._run(stream.state()).last_seq
        asked_at = time.monotonic()
        who = question(self._token, self._owner) if waits else b""
        self._owner_told = owner = self._run(stream.ask_for_owner(ASK_S, who))
        now = time.monotonic()
        if owner:
            if not waits:
                raise JournalInUse(
                    f"the broker {owner} has the journal {self.place.name}",
                    advice="Stop that broker first. A second one with the same --journal stands by until the first has ended.",
                )
            tell(f"stands by: {owner} has the journal {self.place.name}")
            takeover.answered()
            return None
        end = self._run(stream.end())
        if end.last != last:  # somebody has written
            takeover.answered()
            return None
        if owner is None:
            may_take = takeover.silent(now, asked_at, is_connected=stream.is_connected)
        else:
            may_take = takeover.nobody(now, is_given_back=not end.messages or not _owner_of(end.owner, end.last).name)
        return end if may_take else None

    def _take(self, stream: Stream, end: StreamEnd) -> bool:
        """Try to make it ours. False: another message came behind ``end``."""
        if end.messages:
            assert end.data is not None
            self._first = _owner_of(end.owner, end.last).first
            self._next = stream_messages.next_after(stream_messages.decode_message(end.last, end.data))
        self._run(stream.look_at_room())
        self._begin, self._last = (end.first or 1), end.last
        self._size, self._average = end.size_bytes, end.size_bytes // max(1, end.messages)
        self._say_owner(stream, self._owner)
        if self._send(stream) is not Append.DURABLE:
            self._unsent.clear()
            return False
        self._epoch, self._cut, self._owner_told = self._last, self._next, self._owner
        self._run(stream.answer_for(self._owner))
        self._run(stream.watch_room())
        return True

    def _say_owner(self, stream: Stream, owner: str) -> None:
        data = stream_messages.encode_message(Ownership(owner, self._first, self._next, self._token))
        self._unsent.append(_Unsent(stream.owners, data, self._next))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return self._loop.run(work)

    # --- of Backend

    def open(self) -> Generator[tuple[int, bytes], None, None]:
        if not self._epoch:
            try:
                self.acquire(lambda: False, lambda _: None, waits=False)
            except JournalError:
                self.close()
                raise
        return self._read()

    def _read(self) -> Generator[tuple[int, bytes], None, None]:
        stream, assembler = self._stream, Assembler(self._first)
        assert stream is not None
        own, self._sequences, self._ends = self._ends[-1], array("Q"), array("Q")
        sequence = self._begin
        tried_until = time.monotonic() + READ_S
        while sequence < self._epoch:
            try:
                messages = self._run(stream.read(sequence, self._epoch, self._average))
            except JournalUnreachable:
                if time.monotonic() > tried_until:
                    raise
                time.sleep(ASK_S)
                continue
            for found, data in messages:
                if found >= self._epoch:
                    sequence = self._epoch
                    break
                if found != sequence and not assembler.may_miss_some:
                    raise JournalDamaged(f"message {sequence} of the stream {stream.name} is missing")
                message = stream_messages.decode_message(found, data)
                yield from assembler.batches(found, message)
                self._note(found, stream_messages.position_behind(message), 0)
                sequence = found + 1
            tried_until = time.monotonic() + READ_S
        self._note(self._epoch, own, 0)

    def _note(self, sequence: int, end: int, size: int) -> None:
        self._sequences.append(sequence)
        self._ends.append(max(end, self._ends[-1] if self._ends else 0))
        self._size += size

    @property
    def next_position(self) -> int:
        return self._next

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def filled(self) -> float:
        return self._stream.room.filled if self._stream is not None else 0.0

    def describe(self) -> dict[str, Any]:
        stream, place = self._stream, self.place
        return {
            "kind": "nats",
            "place": place.hosts,
            "name": place.name,
            "owner": self._owner_told or None,
            "epoch": self._epoch or None,
            "standbys": stream.standbys.present(time.monotonic()) if self._epoch and stream is not None else [],
        }

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        if position != self._next:
            return Append.FENCED
        assert self._stream is not None and self._epoch, "this journal is not open"
        self._gather(self._stream, position, batches)
        outcome = self._send(self._stream)
        if outcome is Append.DURABLE:
            self._next = self._cut
        return outcome

    def _gather(self, stream: Stream, position: int, batches: Sequence[bytes]) -> None:
        """Make messages of those batches of an append that an earlier try has not left here."""
        new = batches[self._cut - position :]
        for message in stream_messages.cut(self._epoch, self._cut, new, stream.bytes_max):
            data, end = stream_messages.encode_message(message), stream_messages.position_behind(message)
            self._unsent.append(_Unsent(stream.batches, data, end))
        self._cut += len(new)

    def _send(self, stream: Stream) -> Append:
        """Append what is not sent, or not known to be stored."""
        while self._unsent:
            sent = list(islice(self._unsent, IN_FLIGHT))
            outcomes = self._run(stream.append([(one.subject, one.data) for one in sent], self._last))
            for outcome in outcomes:
                if outcome is Outcome.OTHER:
                    return Append.FENCED
                if outcome is Outcome.UNKNOWN:
                    return Append.FENCED if self._is_fenced(stream) else Append.UNKNOWN
                one = self._unsent.popleft()
                self._last += 1
                if one.subject == stream.owners:
                    self._last_owner = self._last
                self._note(self._last, one.end, len(one.data))
        return Append.DURABLE

    def _is_fenced(self, stream: Stream) -> bool:
        """Whether another broker owns it by now, which may have dropped the message that would say so."""
        found = self._run(stream.last_owner())
        return found is not None and found > self._last_owner

    def compact(self, before: int) -> bool:
        assert self._stream is not None and self._epoch, "this journal is not open"
        before = min(before, self._next)
        if before > self._first and not self._unsent:  # else it is not known yet where the batches in there are
            self._first = before
            self._say_owner(self._stream, self._owner)
        try:
            outcome = self._send(self._stream)
        except JournalFull:
            if not self._make_room(self._stream, before):
                raise
            return True
        if outcome is Append.FENCED:
            raise JournalFenced(f"another broker has the journal {self.place.name}")
        if outcome is Append.UNKNOWN:
            return True
        if count := self._droppable(self._first):
            self._run(self._stream.drop(self._sequences[count]))
            del self._sequences[:count], self._ends[:count]
            self._size = self._run(self._stream.look_at_room()).size_bytes
        return before > self._first

    def _droppable(self, before: int) -> int:
        """How many of the oldest messages hold nothing but batches below ``before``."""
        return bisect_right(self._ends, before, hi=len(self._ends) - 1)

    def _make_room(self, stream: Stream, before: int) -> bool:
        """Drop batches below ``before`` although there is no room to say so first. The messages on the owner stay, as the last of
        them must. Returns whether there were any.
        """
        below = self._sequences[self._droppable(before)]
        if below <= max(self._dropped, self._sequences[0]):
            return False
        self._run(stream.drop(below, stream.batches))
        self._dropped = below
        return True

    def close(self) -> None:
        if self._loop is None:
            return
        if self._stream is not None:
            if self._epoch and not self._unsent:
                self._say_owner(self._stream, "")
                self._send(self._stream)
            self._run(self._stream.close())
        self._stream = None
        self._loop.close()
        self._loop = None
        self._epoch = 0


def _owner_of(data: bytes | None, sequence: int) -> Ownership:
    message = stream_messages.decode_message(sequence, data or b"")
    if not isinstance(message, Ownership):
        raise JournalDamaged("the stream's last message on its owner is another one")
    return message
