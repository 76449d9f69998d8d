"""What the messages of a journal's JetStream stream are, without a server: batches, parts of a batch that is too large for one,
and marks of who owns the journal.

A message is a mark (4 bytes), the version of the format (1 byte) and msgpack. Batches carry checksums of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from cbw.errors import JournalDamaged, JournalTooNew

MESSAGE_MARK = b"CBWN"
MESSAGE_FORMAT = 1
OVERHEAD_BYTES = 1024
"""Room in a message for its headers and for what stands around the batches."""
_BATCH_OVERHEAD_BYTES = 5  # of msgpack, for each


class Ownership(msgspec.Struct, array_like=True, tag="owner"):
    """From here on the journal belongs to ``name``; empty: it was given back. Batches below ``first`` are dropped, and the next
    one has the position ``next``. ``token`` is random: two brokers may have one name, and do not take each other's message for
    their own."""

    name: str
    first: int
    next: int
    token: bytes


class Batches(msgspec.Struct, array_like=True, tag="batches"):
    """Consecutive batches. The owner who appended them is known by ``epoch``, the sequence of its :class:`Ownership` message."""

    epoch: int
    position: int
    batches: list[bytes]


class BatchPart(msgspec.Struct, array_like=True, tag="part"):
    """Part ``number`` of ``count`` (from 0) of the batch at ``position``. Without the last part there is no such batch."""

    epoch: int
    position: int
    number: int
    count: int
    data: bytes


StreamMessage = Ownership | Batches | BatchPart
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StreamMessage).decode


def encode_message(message: StreamMessage) -> bytes:
    """The bytes of ``message``."""
    return MESSAGE_MARK + bytes((MESSAGE_FORMAT,)) + _encode(message)


def decode_message(sequence: int, data: bytes) -> StreamMessage:
    """The message that the stream has at ``sequence``.

    Raises:
        JournalTooNew: a later version of cbw wrote it.
        JournalDamaged: it is none of a journal.
    """
    if data[: len(MESSAGE_MARK)] != MESSAGE_MARK or len(data) == len(MESSAGE_MARK):
        raise JournalDamaged(f"message {sequence} of the stream is none of a journal: it begins {data[:8]!r}")
    if data[len(MESSAGE_MARK)] > MESSAGE_FORMAT:
        raise JournalTooNew(
            f"message {sequence} of the stream has format {data[len(MESSAGE_MARK)]}; this version reads up to {MESSAGE_FORMAT}"
        )
    try:
        return _decode(memoryview(data)[len(MESSAGE_MARK) + 1 :])
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"message {sequence} of the stream cannot be read: {error}") from None


def next_after(message: StreamMessage) -> int:
    """The position of the batch that comes after ``message``, if it is the last one of a stream."""
    if isinstance(message, Ownership):
        return message.next
    if isinstance(message, BatchPart):
        return message.position + (message.number == message.count - 1)
    return message.position + len(message.batches)


def position_behind(message: StreamMessage) -> int:
    """The position behind the last batch that ``message`` belongs to: it may be dropped with what is below that."""
    return message.position + 1 if isinstance(message, BatchPart) else next_after(message)


def cut(epoch: int, position: int, batches: Sequence[bytes], bytes_max: int) -> Iterator[StreamMessage]:
    """The fewest messages of at most ``bytes_max`` that hold ``batches``, of which the first has ``position``."""
    room = bytes_max - OVERHEAD_BYTES
    gathered: list[bytes] = []
    size = 0
    for batch in batches:
        cost = len(batch) + _BATCH_OVERHEAD_BYTES
        if gathered and size + cost > room:
            yield Batches(epoch, position, gathered)
            position += len(gathered)
            gathered, size = [], 0
        if cost > room:
            count = -(-len(batch) // room)
            for number in range(count):
                yield BatchPart(epoch, position, number, count, batch[number * room : (number + 1) * room])
            position += 1
        else:
            gathered.append(batch)
            size += cost
    if gathered:
        yield Batches(epoch, position, gathered)


class Assembler:
    """Makes batches of messages that are read in order. Those below ``first`` are left out: they are needed no longer, and may
    be dropped while they are read.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._next = 0  # unknown until the first batch
        self._parts: list[bytes] = []

    @property
    def may_miss_some(self) -> bool:
        """Whether the next message need not be the one that came next when it was written: no batch that is needed was read."""
        return self._next <= self._first

    def batches(self, sequence: int, message: StreamMessage) -> Iterator[tuple[int, bytes]]:
        """The batches that end with this message, and their positions.

        Raises:
            JournalDamaged: a batch is missing.
        """
        if isinstance(message, Ownership):
            self._parts = []
            return
        is_behind_dropped = self.may_miss_some and self._next < message.position <= self._first
        if self._next and message.position != self._next and not is_behind_dropped:
            raise JournalDamaged(
                f"message {sequence} of the stream has batch {message.position} where {self._next} comes next"
            )
        self._next = next_after(message)
        if isinstance(message, BatchPart):
            if message.number == 0:  # whoever wrote an earlier beginning did not come to the end
                self._parts = []
            elif message.number != len(self._parts):
                if self._first <= message.position and self._parts:
                    raise JournalDamaged(f"a part of batch {message.position} is missing before message {sequence}")
                return  # of a batch that was dropped, as far as the end of a message
            self._parts.append(message.data)
            if message.number < message.count - 1:
                return
            found, self._parts = [b"".join(self._parts)], []
        else:
            found, self._parts = message.batches, []
        for position, batch in enumerate(found, message.position):
            if position >= self._first:
                yield position, batch
