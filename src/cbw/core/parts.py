"""Answers in parts: what all roles must agree on beside the messages themselves."""

from __future__ import annotations

import msgspec

from cbw.core.messages import Status

BROKEN_STREAM = "stream_broken"
"""Kind of the error whose status is ``BROKEN``."""
PROGRESS_CHARS_MAX = 200
"""Longest text of a progress that a worker sends and a broker keeps, in characters: it is one line for people."""
PARTS_FIRST = 8
"""Parts for which a client has room before it has seen how large they are."""
PARTS_MAX = 64
"""Most parts that are on their way to a client that has not taken them."""
PARTS_ROOM_BYTES = 1 << 20
"""Bytes of parts that are on their way to a client, as far as the largest one so far tells: of large parts fewer are wanted."""

SUCCEEDED = (Status.OK, Status.STREAMED)
"""The statuses of answers that are no errors."""


def streamed_body(parts: int) -> bytes:
    """The body of an answer with the status ``STREAMED``, which was sent in so many ``parts``."""
    return msgspec.msgpack.encode(parts)


def parts_of(body: bytes) -> int:
    """How many parts an answer with the status ``STREAMED`` has; -1: its body does not say."""
    try:
        return msgspec.msgpack.decode(body, type=int)
    except msgspec.DecodeError:
        return -1
