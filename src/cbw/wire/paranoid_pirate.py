"""Paranoid Pirate (RFC 6, ``PPP``): workers on DEALER sockets that beat. They serve the service without a name.

READY is the one frame ``01``, HEARTBEAT the one frame ``02``; a task and its answer are an address, an empty frame and a body.
We send the task's number as the address. The dialect has no word for the end of a conversation: a worker that the broker has
forgotten hears nothing, and registers again.
"""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.dialect import WorkerDialect
from cbw.core.messages import DEFAULT_SERVICE, Answer, Beat, Message, Status, Task
from cbw.core.port import Frames
from cbw.errors import BadMessage
from cbw.wire.envelope import body_of, frames_of
from cbw.wire.majordomo_01 import hello_of, task_of

READY, HEARTBEAT = b"\x01", b"\x02"


class ParanoidPirate(WorkerDialect):
    """``01`` · ``02`` · ``address "" body…``."""

    name = "ppp"
    is_self_describing = False
    beats_at_work = False
    returns_tasks = False

    def recognises(self, frames: Frames) -> bool:
        return len(frames) == 1 and frames[0] in (READY, HEARTBEAT)

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        address, *rest = map(bytes, frames) if frames else (b"",)
        if not rest and address == READY:
            return [hello_of(peer, DEFAULT_SERVICE)]
        if not rest and address == HEARTBEAT:
            return [Beat()]
        if len(rest) > 1 and not rest[0]:
            return [Answer(task_of(address), Status.OK, body_of(rest[1:]))]
        raise BadMessage(f"not an answer in the {self.name} dialect: {len(frames)} frames")

    def write_one(self, message: Message) -> Frames:
        if isinstance(message, Task):
            return [b"%d" % message.id, b"", *frames_of(message.body)]
        return [HEARTBEAT] if isinstance(message, Beat) else ()


WORKER = ParanoidPirate()
