"""What a request takes of the broker's memory beyond what every request takes, as peers may choose it.

What every request takes is bounded by their number (``--requests-max``), so the size of a usual one is that of its body alone.
"""

from __future__ import annotations

from cbw.core.headers import memory_of_headers
from cbw.core.messages import Parts, Request
from cbw.core.plain_messages import Envelope

PER_FRAME_BYTES = 50
"""What each frame of a body or an envelope takes beside its bytes: an object, its place in a tuple, and the allocator's rounding
(measured: 45 to 55)."""
PARTS_BYTES = 150
"""What a body that remembers its frames takes beside them (measured: 150)."""
VIEW_BYTES = 500
"""What a body takes beside its bytes that is still in ZeroMQ's frame (measured: 320, and the allocator's rounding)."""


def memory_of_body(body: bytes) -> int:
    """The memory, in bytes, of a body of a request or an answer. A body of several frames is kept whole and in frames."""
    if type(body) is bytes:
        return len(body)
    if isinstance(body, Parts):
        return 2 * len(body) + PER_FRAME_BYTES * len(body.parts) + PARTS_BYTES
    return len(body) + VIEW_BYTES


def memory_of(request: Request, envelope: Envelope) -> int:
    """The memory, in bytes, of a request and the envelope that leads its reply back.

    Where it is wanted for each request, it is not called for a usual one: a body of type ``bytes``, no headers, and an envelope
    of one frame at most, which is the empty one. Then it is the length of the body.
    """
    size = memory_of_body(request.body)
    if request.headers is not None:
        size += memory_of_headers(request.headers)
    return size if len(envelope) < 2 else size + sum(map(len, envelope)) + PER_FRAME_BYTES * len(envelope)
