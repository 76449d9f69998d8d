"""REQ programs: those of the lab, and the LRU worker of the ZeroMQ guide (table: ``docs/reference/wire.md``).

Frames here are what a ROUTER hands up, without the identity frame in front. Clients all look alike: an envelope of zero or
more request ids, an empty frame, the body. A worker shows by its registration which of three dialects it speaks.
"""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.messages import DEFAULT_SERVICE, Message
from cbw.core.plain_messages import PlainAnswer, PlainReady, PlainReply, PlainRequest, PlainTask
from cbw.core.port import Frames
from cbw.errors import BadMessage
from cbw.wire.envelope import beginning, body_of, frames_of, is_majordomo, split_envelope, write_reply


class ReqClient(ClientDialect):
    """``[id…, ""] body…``: every client that is not of another dialect. The same envelope comes back, then the reply."""

    name = "req"
    is_self_describing = False

    def recognises(self, frames: Frames) -> bool:
        return True

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        envelope, body = split_envelope(frames)
        if any(map(is_majordomo, (*envelope, next(filter(None, body), b"")))):
            # Its frames must never reach a handler as if they were a body. Programs put empty frames in front of the mark,
            # and a ROUTER on the way puts ids there.
            raise BadMessage(f"a Majordomo message that no known client sends; it begins {beginning(frames)}")
        return [PlainRequest(envelope, DEFAULT_SERVICE, body_of(body))]

    def write_one(self, message: Message) -> Frames:
        return write_reply(message) if isinstance(message, PlainReply) else ()


class ReqWorker(WorkerDialect):
    """A REQ worker: ``"", client, [""], body``, and a registration of its own."""

    is_self_describing = False
    beats_at_work = False
    returns_tasks = False
    returns_silently = True

    def __init__(
        self, name: str, registrations: Sequence[list[bytes]], separator: Sequence[bytes], *, is_one: bool
    ) -> None:
        self.name = name
        self._registrations = registrations
        self._separator = separator  # between the client's frame and the body
        self._is_one = is_one  # bodies have one frame

    def recognises(self, frames: Frames) -> bool:
        return len(frames) <= 4 and [*frames] in self._registrations

    def is_answer(self, frames: Frames) -> bool:
        """Whether ``frames``, which are no registration, may well be an answer in this dialect. Some are in two."""
        head = [b"", *self._separator]
        if len(frames) < 3 or not frames[1] or [frames[0], *frames[2 : len(head) + 1]] != head:
            return False
        return len(frames) == len(head) + 2 or (len(frames) > len(head) + 2 and not self._is_one)

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        if self.recognises(frames):
            return [PlainReady()]
        first, client, *rest = map(bytes, frames) if len(frames) > 2 else (b"-", b"")
        separator, body = rest[: len(self._separator)], rest[len(self._separator) :]
        is_answer = not first and separator == self._separator and bool(body)
        if is_answer and (len(body) == 1 if self._is_one else bool(client)):
            return [PlainAnswer(client or None, body_of(body))]
        raise BadMessage(f"not an answer in the {self.name} dialect: {len(frames)} frames")

    def can_name(self, client: bytes) -> bool:
        return not is_majordomo(client)  # or its answer could be read as a command of a Majordomo worker

    def write_one(self, message: Message) -> Frames:
        if not isinstance(message, PlainTask):
            return ()
        body = frames_of(message.body)
        return [b"", message.client, *self._separator, *([b"".join(body)] if self._is_one else body)]


CLIENT = ReqClient()
LAB = ReqWorker("lab", [[b"", b"", b""]], [], is_one=True)
EARLIER_LAB = ReqWorker("earlier-lab", [[b"", b"", b"", b""]], [b""], is_one=True)
GUIDE = ReqWorker("guide", [[b"", b"READY"], [b"", b"\x01"]], [b""], is_one=False)
WORKERS = (LAB, EARLIER_LAB, GUIDE)
