"""Envelopes and bodies of dialects without ids: what REQ sockets put in front of a message, and frames as one body."""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.messages import Answer, Parts, Status, error_parts
from cbw.core.plain_messages import Envelope, PlainPartial, PlainReply
from cbw.core.port import Frames
from cbw.errors import BadMessage

ENVELOPE_FRAMES_MAX = 8
"""Frames in front of the empty one. DEALER programs send one; each ROUTER on the way would add one."""
ENVELOPE_BYTES_MAX = 4096
"""Bytes of an envelope. A ROUTER adds at most 255 per hop (ZMTP); it is kept with its request."""


def split_envelope(frames: Frames) -> tuple[Envelope, list[bytes]]:
    """``(envelope with its empty frame, what lies behind it)``.

    Raises:
        BadMessage: no empty frame near the front, too much before it, or nothing behind it.
    """
    for position, frame in enumerate(frames[: ENVELOPE_FRAMES_MAX + 1]):
        if not frame:
            if position + 1 == len(frames):
                raise BadMessage("an envelope without a body")
            envelope = tuple(map(bytes, frames[: position + 1]))
            if sum(map(len, envelope)) > ENVELOPE_BYTES_MAX:
                raise BadMessage(f"an envelope of more than {ENVELOPE_BYTES_MAX} bytes")
            return envelope, list(map(bytes, frames[position + 1 :]))
    raise BadMessage(f"of no known dialect: neither CBW/1 nor an envelope; it begins {beginning(frames)}")


def beginning(frames: Frames) -> str:
    """The first bytes of ``frames``, for error messages."""
    return repr(b" ".join(map(bytes, frames[:3]))[:32])


def is_majordomo(frame: bytes) -> bool:
    """Whether ``frame`` is the mark of a Majordomo message, of any version: ``MDPC`` or ``MDPW`` and two digits."""
    return len(frame) == 6 and frame[:4] in (b"MDPC", b"MDPW") and frame[4:].isdigit()


def body_of(frames: Sequence[bytes]) -> bytes:
    """``frames`` as one body, which remembers its frames if there are several."""
    return frames[0] if len(frames) == 1 else Parts(tuple(frames))


def frames_of(body: bytes) -> tuple[bytes, ...]:
    """The frames that ``body`` came in."""
    return body.parts if isinstance(body, Parts) else (body,)


def reply_body(answer: Answer) -> bytes:
    """The body of a reply. These dialects have no status, so an error is a text that says what it is."""
    if answer.status is Status.OK:
        return answer.body
    return f"ERROR {answer.status.name} {error_parts(answer.body).line}".encode()


def write_reply(reply: PlainReply | PlainPartial) -> Frames:
    """A reply behind its envelope."""
    body = reply_body(reply.answer) if isinstance(reply, PlainReply) else reply.body
    return [*reply.envelope, *frames_of(body)]
