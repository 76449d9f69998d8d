"""Majordomo 0.1 (RFC 7, ``MDP/0.1``): clients on REQ sockets, workers on DEALER sockets.

A client's message is ``"" MDPC01 service body…``, and so is its reply. A ROUTER on the way may put ids in front of it. A
worker's message is ``"" MDPW01 command …``. A task carries a reply address, which comes back with the answer: we send the
number of the task as that address, so it is always known which task an answer is for.
"""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.messages import (
    Answer,
    Beat,
    Goodbye,
    HelloAgain,
    Message,
    Refused,
    Status,
    Task,
    WorkerHello,
)
from cbw.core.plain_messages import PlainReply, PlainRequest
from cbw.core.port import Frames, printable
from cbw.errors import BadMessage
from cbw.wire.envelope import ENVELOPE_FRAMES_MAX, body_of, frames_of, split_envelope, write_reply

CLIENT_MARK = b"MDPC01"
WORKER_MARK = b"MDPW01"
READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = (bytes([number]) for number in range(1, 6))
TASK_DIGITS_MAX = 19
"""Digits of a task's number: the broker begins to count below 2**60, and a trace holds integers of 64 bits."""


class MajordomoClient(ClientDialect):
    """``[id…] "" MDPC01 service body…``; all but the body goes in front of the reply."""

    name = "mdp-0.1"

    def recognises(self, frames: Frames) -> bool:
        for position, frame in enumerate(frames[: ENVELOPE_FRAMES_MAX + 1]):
            if not frame:
                return position + 1 < len(frames) and frames[position + 1] == CLIENT_MARK
        return False

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        envelope, (mark, *rest) = split_envelope(frames)
        if len(rest) < 2:
            raise BadMessage("a Majordomo request without a service or a body")
        service, *body = rest
        return [PlainRequest((*envelope, mark, service), service_name(service), body_of(body))]

    def write_one(self, message: Message) -> Frames:
        return write_reply(message) if isinstance(message, PlainReply) else ()


class MajordomoWorker(WorkerDialect):
    """``"" MDPW01 command …``."""

    name = "mdp-0.1"
    beats_at_work = False
    returns_tasks = False
    registers_once = True

    def recognises(self, frames: Frames) -> bool:
        return len(frames) > 1 and not frames[0] and frames[1] == WORKER_MARK

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        command, *rest = map(bytes, frames[2:]) if len(frames) > 2 else (b"",)
        if command == READY and len(rest) == 1:
            return [hello_of(peer, service_name(rest[0]))]
        if command == REPLY and len(rest) > 2 and not rest[1]:
            return [Answer(task_of(rest[0]), Status.OK, body_of(rest[2:]))]
        if command == HEARTBEAT and not rest:
            return [Beat()]
        if command == DISCONNECT and not rest:
            return [Goodbye()]
        raise BadMessage(f"no {self.name} message of a worker: command {command!r} with {len(rest)} frames")

    def write_one(self, message: Message) -> Frames:
        if isinstance(message, Task):
            return [b"", WORKER_MARK, REQUEST, b"%d" % message.id, b"", *frames_of(message.body)]
        if isinstance(message, Beat):
            return [b"", WORKER_MARK, HEARTBEAT]
        if isinstance(message, HelloAgain | Goodbye | Refused):
            return [b"", WORKER_MARK, DISCONNECT]
        return ()

    def refusal(self, frames: Frames, why: str) -> list[Message]:
        return [Goodbye()]


def hello_of(peer: bytes, service: str) -> WorkerHello:
    """A registration as a hello: the peer's identity is its id, and its start is not told apart from another."""
    name = printable(peer)
    return WorkerHello(name, name, [service], 1, 1)


def service_name(service: bytes) -> str:
    """The name of a service.

    Raises:
        BadMessage: it is not UTF-8.
    """
    try:
        return service.decode()
    except UnicodeDecodeError:
        raise BadMessage(f"a service's name that is not UTF-8: {service[:32]!r}") from None


def task_of(address: bytes) -> int:
    """The task that a worker answers, from the reply address that it sent back; 0, which is no task, if it is not ours."""
    return int(address) if address.isdigit() and len(address) <= TASK_DIGITS_MAX else 0


CLIENT = MajordomoClient()
WORKER = MajordomoWorker()
