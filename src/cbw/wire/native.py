"""CBW/1, the native protocol: batches of typed messages (specification: ``docs/reference/wire.md``).

A message on the wire is ``[magic, batch, body…]``. The magic frame tells it from every other dialect; the batch is a
msgpack array of messages; bodies of :data:`FRAME_BYTES` or more travel in frames of their own behind it, uncopied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from cbw.core import messages
from cbw.core.dialect import ClientDialect, Dialect, WorkerDialect
from cbw.core.port import Frames
from cbw.errors import BadMessage
from cbw.wire import log

MAGIC = b"CBW%d" % messages.VERSION
MAGIC_PREFIX = b"CBW"
FRAME_BYTES = 32 * 1024
"""From this size on a body travels in a frame of its own: below it one copy is cheaper than one more frame."""
BATCH_BYTES = 512 * 1024
"""A batch frame is closed when it holds this much, so that one slow peer never makes us build a giant message."""
BATCH_MESSAGES = 1024
"""Messages of a batch that we send: the other end can begin with them while we go on."""
BATCH_MESSAGES_MAX = 16 * 1024
"""Most messages of a batch that we take: a beat is two bytes, so a frame could hold millions."""

_LONG = (b"\xdc", b"\xdd")
"""With these msgpack begins an array of 16 or more, and its length follows in two or four bytes."""
_encode = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # Parts: msgspec takes no subclasses of bytes
T = TypeVar("T", bound=messages.Message)


class Decoder(Generic[T]):
    """Decodes batches of one direction, so that a peer can only say what its side may say."""

    def __init__(self, vocabulary: Any, *, is_from_broker: bool = False) -> None:
        self._is_from_broker = is_from_broker
        self._decode = msgspec.msgpack.Decoder(list[vocabulary]).decode

    def __call__(self, frames: Sequence[Any]) -> list[T]:
        """The messages of ``frames`` (the magic frame first).

        Raises:
            BadMessage: another version, no batch, not msgpack, an unknown message, bodies that do not add up.
        """
        if frames[0] != MAGIC:
            if self._is_from_broker and frames[0] == log.MAGIC:
                told = "this port is a logger's, for records; give the broker's port"
                return [messages.Refused(messages.Refusal.BAD_HELLO, told)]  # type: ignore[list-item]
            text = f"speaks {bytes(frames[0][:16])!r}, this is CBW/{messages.VERSION}"
            if self._is_from_broker and frames[0][: len(MAGIC_PREFIX)] == MAGIC_PREFIX:
                # Whatever it says in a language that we do not know, in all of them it comes to this.
                return [messages.Refused(messages.Refusal.VERSION, f"the broker {text}")]  # type: ignore[list-item]
            raise BadMessage(text)
        if len(frames) < 2:
            raise BadMessage("no batch behind the magic frame")
        if frames[1][:1] in _LONG and _count(frames[1]) > BATCH_MESSAGES_MAX:
            raise BadMessage(f"a batch of more than {BATCH_MESSAGES_MAX} messages")
        try:
            batch: list[T] = self._decode(frames[1])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadMessage(f"not a batch: {error}") from None
        if len(frames) > 2 or (batch and type(batch[-1]) is messages.Attached):
            _attach(batch, frames[2:])
        return batch


def _count(batch: Any) -> int:
    """How many messages a long batch claims to have: a beat takes two bytes, so it could be millions."""
    return int.from_bytes(batch[1 : 3 if batch[:1] == _LONG[0] else 5], "big")


def _attach(batch: list[Any], bodies: Sequence[Any]) -> None:
    attached = batch.pop() if batch else None
    if type(attached) is not messages.Attached or not len(set(attached.positions)) == len(attached.positions) == len(
        bodies
    ):
        raise BadMessage(f"{len(bodies)} body frames that no message claims")
    for position, body in zip(attached.positions, bodies, strict=True):
        if not 0 <= position < len(batch) or not hasattr(batch[position], "body"):
            raise BadMessage(f"a body frame for message {position}, which has no body")
        # A small one keeps more than itself: libzmq receives many into one piece of memory, which lives as long as any of them.
        batch[position].body = body if len(body) >= FRAME_BYTES else bytes(body)


def encode(batch: Sequence[messages.Message]) -> Iterable[tuple[list[Any], int]]:
    """``(frames, how many messages)`` for each wire message that ``batch`` needs. Leaves ``batch`` as it is."""
    if not batch:
        return []
    if len(batch) <= BATCH_MESSAGES and not _is_big(batch[0]):
        encoded = _encode(batch)
        # The usual case: so small that no body in it can be big; or larger, but there is none.
        if len(encoded) < FRAME_BYTES or (len(encoded) < BATCH_BYTES and not any(map(_is_big, batch))):
            return [([MAGIC, encoded], len(batch))]
    return _split(batch)


def _split(batch: Sequence[messages.Message]) -> Iterator[tuple[list[Any], int]]:
    batched: list[messages.Message] = []
    bodies: list[bytes] = []
    positions: list[int] = []
    size = 0
    for message in batch:
        body = getattr(message, "body", b"")
        length = len(body)
        if _is_big(message):
            message = msgspec.structs.replace(message, body=b"")
            positions.append(len(batched))
            bodies.append(body)
        size += length
        batched.append(message)
        if size >= BATCH_BYTES or len(batched) >= BATCH_MESSAGES:
            yield _frames(batched, bodies, positions), len(batched)
            batched, bodies, positions, size = [], [], [], 0
    if batched:
        yield _frames(batched, bodies, positions), len(batched)


def _is_big(message: messages.Message) -> bool:
    return len(getattr(message, "body", b"")) >= FRAME_BYTES


def _frames(batch: list[messages.Message], bodies: list[bytes], positions: list[int]) -> list[Any]:
    if not bodies:
        return [MAGIC, _encode(batch)]
    return [MAGIC, _encode([*batch, messages.Attached(positions)]), *bodies]


from_client: Decoder[Any] = Decoder(messages.FromClient)
from_worker: Decoder[Any] = Decoder(messages.FromWorker)
to_client: Decoder[Any] = Decoder(messages.ToClient, is_from_broker=True)
to_worker: Decoder[Any] = Decoder(messages.ToWorker, is_from_broker=True)


class Native(Dialect):
    """CBW/1 on either port of the broker."""

    name = "cbw"
    has_sessions = True

    def recognises(self, frames: Frames) -> bool:
        return bool(frames[0][:3] == MAGIC_PREFIX)

    write = staticmethod(encode)

    def refusal(self, frames: Frames, why: str) -> list[messages.Message]:
        reason = messages.Refusal.BAD_MESSAGE if frames[0] == MAGIC else messages.Refusal.VERSION
        return [messages.Refused(reason, why)]


class NativeClient(Native, ClientDialect):
    """CBW/1 on the client port."""

    def read(self, peer: bytes, frames: Frames) -> Sequence[messages.Message]:
        return from_client(frames)


class NativeWorker(Native, WorkerDialect):
    """CBW/1 on the worker port."""

    def read(self, peer: bytes, frames: Frames) -> Sequence[messages.Message]:
        return from_worker(frames)


CLIENT = NativeClient()
WORKER = NativeWorker()
