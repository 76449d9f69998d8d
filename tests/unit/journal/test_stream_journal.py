"""What is decided about a journal in a stream, with a stream that does as it is told."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import pytest

from cbw.errors import JournalFull
from cbw.journal.backend import Append
from cbw.journal.stream_journal import PublishReply, Room, StreamEnd, StreamJournal
from cbw.journal.stream_messages import Ownership, decode_message
from tests.unit.journal.contract import batch

T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    """What comes of ``work``, which never has to wait."""
    try:
        work.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("it waits")


class MemoryStream:
    """A stream in memory, from which nothing is ever dropped. ``replies`` are given first, in place of what is so."""

    def __init__(self) -> None:
        self.name, self.batches, self.owners = "CBW_j", "batches", "owner"
        self.is_connected, self.bytes_max, self.room = True, 1 << 20, Room()
        self.messages: list[tuple[str, bytes]] = []
        self.replies: list[tuple[bool, PublishReply | JournalFull]] = []
        """Whether the message is stored, and what is said."""
        self.is_old = False
        """Whether reads do not show the last message."""

    @property
    def _seen(self) -> list[tuple[str, bytes]]:
        return self.messages[:-1] if self.is_old else self.messages

    async def last_sequence(self) -> int:
        return len(self._seen)

    async def end(self) -> StreamEnd:
        if not self._seen:
            return StreamEnd(0, 0, 0, 0)
        owner = next(data for subject, data in reversed(self._seen) if subject == self.owners)
        return StreamEnd(1, len(self._seen), 0, len(self._seen), self._seen[-1][1], owner)

    async def ask_for_owner(self, timeout_s: float, question: bytes = b"") -> str:
        return ""

    async def answer_for(self, owner: str) -> None:
        """Nobody asks."""

    async def look_at_room(self) -> Room:
        return self.room

    async def watch_room(self) -> None:
        """There is enough."""

    async def publish(self, subject: str, data: bytes, last: int) -> PublishReply:
        is_stored, reply = self.replies.pop(0) if self.replies else (True, PublishReply.STORED)
        if last != len(self.messages):
            return PublishReply.NOT_NEXT
        if is_stored:
            self.messages.append((subject, data))
        if isinstance(reply, JournalFull):
            raise reply
        return reply

    async def message_at(self, sequence: int) -> bytes | None:
        return self._seen[sequence - 1][1] if sequence <= len(self._seen) else None

    async def last_owner(self) -> int:
        return max(number for number, (subject, _) in enumerate(self._seen, 1) if subject == self.owners)

    async def read(self, first: int, until: int, average_bytes: int) -> list[tuple[int, bytes]]:
        return [(number, data) for number, (_, data) in enumerate(self._seen, 1) if number >= first]

    async def drop(self, before: int, subject: str | None = None) -> None:
        """It has room for all."""


def taken(stream: MemoryStream, token: bytes = b"token 1 ") -> StreamJournal:
    """The journal in ``stream``, not read yet."""
    journal = StreamJournal(stream, "j", "BRO", token)
    times = iter(range(100))
    while not done(journal.try_to_take(lambda: float(next(times)), lambda text: None)):
        pass
    return journal


def read(journal: StreamJournal) -> Generator[tuple[int, bytes], None, None]:
    while (found := done(journal.read_some())) is not None:
        yield from found


def contents(stream: MemoryStream) -> list[tuple[int, bytes]]:
    """What another broker reads."""
    return list(read(taken(stream, b"a reader")))


def opened(stream: MemoryStream) -> StreamJournal:
    journal = taken(stream)
    list(read(journal))
    return journal


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_append_without_an_answer_is_stored_once(is_stored: bool) -> None:
    stream = MemoryStream()
    journal = opened(stream)
    stream.replies = [(is_stored, PublishReply.NONE)]
    assert done(journal.append(1, [batch(1)])) is Append.UNKNOWN
    assert done(journal.append(1, [batch(1)])) is Append.DURABLE
    assert contents(stream) == [(1, batch(1))]


def test_it_stays_unknown_while_reads_do_not_show_what_is_there() -> None:
    stream = MemoryStream()
    journal = opened(stream)
    stream.replies = [(True, PublishReply.NONE)]
    assert done(journal.append(1, [batch(1)])) is Append.UNKNOWN
    stream.is_old = True
    assert done(journal.append(1, [batch(1)])) is Append.UNKNOWN
    stream.is_old = False
    assert done(journal.append(1, [batch(1)])) is Append.DURABLE


def test_an_old_read_of_the_end_takes_no_journal() -> None:
    """Another broker has taken it, and that is not seen."""
    stream = MemoryStream()
    former = opened(stream)
    assert done(former.append(1, [batch(1)])) is Append.DURABLE
    stream.is_old = True
    times = iter(range(100))
    late = StreamJournal(stream, "j", "BRO", b"token 2 ")
    assert not [True for _ in range(5) if done(late.try_to_take(lambda: float(next(times)), lambda text: None))]
    stream.is_old = False
    assert done(former.append(2, [batch(2)])) is Append.DURABLE, "it is still the owner"


def test_a_former_owner_is_fenced() -> None:
    stream = MemoryStream()
    former = opened(stream)
    assert done(former.append(1, [batch(1)])) is Append.DURABLE
    new = taken(stream, b"token 2 ")
    assert list(read(new)) == [(1, batch(1))]
    assert done(former.append(2, [batch(2)])) is Append.FENCED
    assert done(new.append(2, [batch(3)])) is Append.DURABLE


def test_a_compaction_without_an_answer_that_is_stored_fences_nobody() -> None:
    """What it finds there of an owner is its own."""
    stream = MemoryStream()
    journal = opened(stream)
    assert done(journal.append(1, [batch(1)])) is Append.DURABLE
    stream.replies = [(True, PublishReply.NONE)]
    assert done(journal.compact(2)), "it is not known yet"
    assert not done(journal.compact(2))
    assert done(journal.append(2, [batch(2)])) is Append.DURABLE


def test_after_there_was_no_room_fewer_batches_may_be_appended() -> None:
    """As a writer does that appends them one by one when little room is left."""
    stream = MemoryStream()
    journal = opened(stream)
    stream.replies = [(False, JournalFull("no room", advice="Wait."))]
    batches = [batch(position) for position in (1, 2, 3)]
    with pytest.raises(JournalFull):
        done(journal.append(1, batches))
    assert done(journal.append(1, batches[:1])) is Append.DURABLE
    assert journal.next_position == 2
    assert not done(journal.compact(2)), "it may say whose it is meanwhile"
    for position in (2, 3, 4):
        assert done(journal.append(position, [batch(position)])) is Append.DURABLE
    assert contents(stream) == [(position, batch(position)) for position in (2, 3, 4)]


def test_a_journal_that_could_not_be_taken_for_want_of_room_is_taken_later() -> None:
    stream = MemoryStream()
    stream.replies = [(False, JournalFull("no room", advice="Wait."))]
    journal = StreamJournal(stream, "j", "BRO", b"token 1 ")
    with pytest.raises(JournalFull):
        done(journal.try_to_take(lambda: 0.0, lambda text: None))
    assert done(journal.try_to_take(lambda: 0.0, lambda text: None))
    assert [type(decode_message(1, data)) for _, data in stream.messages] == [Ownership]
