"""The lab's dialects: REQ envelopes without any header (table: ``docs/reference/wire.md``).

Frames here are what a ROUTER hands up, without the identity frame in front. Clients all look alike: an envelope of
zero or more request ids, an empty frame, the body. A worker shows which of three dialects it speaks by its first word.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from cbw.core.messages import Answer, Parts, Status, error_of
from cbw.errors import BadMessage

ENVELOPE_FRAMES_MAX = 8
"""Request ids in front of the empty frame. DEALER programs use one; each ROUTER hop on the way would add one."""
ENVELOPE_BYTES_MAX = 4096
"""And so many bytes: what a ROUTER adds has 255 at most (ZMTP). They lie here with the request, and nobody counts them."""


class Dialect(Enum):
    """How a plain worker frames its tasks and answers."""

    LAB = "lab"  #: ``"", client, message``
    EARLIER_LAB = "earlier-lab"  #: ``"", client, "", message``, registering with four empty frames
    GUIDE = "guide"  #: ``"", client, "", message…``, registering with READY, as the LRU worker of the ZeroMQ guide


class WorkerWord(NamedTuple):
    """What a plain worker said: an answer for ``client``, or only that it is ready (``client`` is None)."""

    client: bytes | None
    body: bytes


def _body(frames: Sequence[bytes]) -> bytes:
    return frames[0] if len(frames) == 1 else Parts(tuple(frames))


def _head(frames: Sequence[bytes]) -> str:
    return repr(b" ".join(frames[:3])[:32])


def _frames(body: bytes) -> tuple[bytes, ...]:
    return body.parts if isinstance(body, Parts) else (body,)


def read_request(frames: Sequence[bytes]) -> tuple[tuple[bytes, ...], bytes]:
    """``(envelope, body)`` of a client's message; the envelope goes back in front of its reply.

    Raises:
        BadMessage: no empty frame near the front, too much before it, or nothing behind it.
    """
    for position, frame in enumerate(frames[: ENVELOPE_FRAMES_MAX + 1]):
        if not frame:
            if position + 1 == len(frames):
                raise BadMessage("an envelope without a body")
            envelope = tuple(frames[: position + 1])
            if sum(map(len, envelope)) > ENVELOPE_BYTES_MAX:
                raise BadMessage(f"an envelope of more than {ENVELOPE_BYTES_MAX} bytes")
            return envelope, _body(frames[position + 1 :])
    raise BadMessage(f"neither CBW/1 nor an envelope: it begins {_head(frames)}")


def write_reply(envelope: tuple[bytes, ...], body: bytes) -> list[bytes]:
    """The frames of a reply to the client that sent ``envelope``."""
    return [*envelope, *_frames(body)]


def reply_body(answer: Answer) -> bytes:
    """The body of the reply for ``answer``. These dialects have no status, so an error is a text that says what it is."""
    if answer.status is Status.OK:
        return answer.body
    kind, text = error_of(answer.body)
    return f"ERROR {answer.status.name} {kind}: {text}".encode()


def read_registration(frames: Sequence[bytes]) -> Dialect:
    """The dialect of a worker, from its first message.

    Raises:
        BadMessage: the first message is none of the three registrations.
    """
    match [bytes(frame) for frame in frames]:
        case [b"", b"", b""]:
            return Dialect.LAB
        case [b"", b"", b"", b""]:
            return Dialect.EARLIER_LAB
        case [b"", b"READY"]:
            return Dialect.GUIDE
    raise BadMessage(f"no registration of a worker: {len(frames)} frames, it begins {_head(frames)}")


def read_worker(dialect: Dialect, frames: Sequence[bytes]) -> WorkerWord:
    """What a registered worker said.

    Raises:
        BadMessage: not an answer in the worker's own dialect.
    """
    match dialect, [bytes(frame) for frame in frames]:
        case (Dialect.LAB, [b"", client, message]):
            return WorkerWord(client or None, message)
        case (Dialect.EARLIER_LAB, [b"", client, b"", message]):
            return WorkerWord(client or None, message)
        case (Dialect.GUIDE, [b"", client, b"", *message]) if client and message:
            return WorkerWord(client, _body(message))
    raise BadMessage(f"not an answer in the {dialect.value} dialect: {len(frames)} frames")


def write_task(dialect: Dialect, client: bytes, body: bytes) -> list[bytes]:
    """The frames of a task for a worker of ``dialect``; ``client`` comes back with its answer."""
    if dialect is Dialect.LAB:
        return [b"", client, b"".join(_frames(body))]
    if dialect is Dialect.EARLIER_LAB:
        return [b"", client, b"", b"".join(_frames(body))]
    return [b"", client, b"", *_frames(body)]
