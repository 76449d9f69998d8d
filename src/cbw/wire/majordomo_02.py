"""Majordomo 0.2 (RFC 18, ``MDP/0.2``): clients and workers on DEALER sockets, and answers in parts.

RFC 18 has no empty frame in front, but programs send one all the same: both are read, and each peer is answered as it spoke.
A worker's answer is any number of PARTIAL messages and one FINAL.

PyPI's ``majortomo`` also numbers a client's commands as if it were a worker, and leaves the service out of its replies (its
version 0.2.0; programs in other languages copy it). Its REQUEST is a command that no client of RFC 18 sends, so it is known by
that, and answered in kind: with the numbers of the RFC it would wait for ever for the end of an answer that it has.
"""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core.dialect import ClientDialect, WorkerDialect
from cbw.core.messages import Answer, Beat, Goodbye, HelloAgain, Message, Refused, Status, Task
from cbw.core.plain_messages import Partial, PlainPartial, PlainReply, PlainRequest
from cbw.core.port import Frames
from cbw.errors import BadMessage
from cbw.wire.envelope import body_of, frames_of, write_reply
from cbw.wire.majordomo_01 import hello_of, service_name, task_of

CLIENT_MARK = b"MDPC02"
WORKER_MARK = b"MDPW02"
REQUEST_OF_CLIENT, PARTIAL_TO_CLIENT, FINAL_TO_CLIENT = (bytes([number]) for number in range(1, 4))
READY, REQUEST, PARTIAL, FINAL, HEARTBEAT, DISCONNECT = (bytes([number]) for number in range(1, 7))


def _head(frames: Frames, mark: bytes) -> int:
    """How many frames ``mark`` takes, with an empty one in front of it or without; 0: it is not there."""
    if frames[0] == mark:
        return 1
    return 2 if len(frames) > 1 and not frames[0] and frames[1] == mark else 0


class MajordomoClient(ClientDialect):
    """``[""] MDPC02 request service body…``. The envelope is all that goes in front of the body of a FINAL reply."""

    takes_partials = True

    def __init__(self, name: str, request: bytes, partial: bytes, final: bytes, *, has_service: bool) -> None:
        self.name = name
        self._request = request
        self._partial = partial
        self._final = final
        self._has_service = has_service  # in a reply

    def recognises(self, frames: Frames) -> bool:
        head = _head(frames, CLIENT_MARK)
        if self._request == REQUEST_OF_CLIENT:  # that of the RFC also reads, and refuses, whatever else has the mark
            return head > 0
        return 0 < head < len(frames) and bool(frames[head] == self._request)

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        head = _head(frames, CLIENT_MARK)
        command, *rest = map(bytes, frames[head:]) if len(frames) > head else (b"",)
        if command != self._request or len(rest) < 2:
            raise BadMessage(f"no {self.name} request: command {command!r} with {len(rest)} frames")
        service, *body = rest
        envelope = (*map(bytes, frames[:head]), self._final, *([service] if self._has_service else []))
        return [PlainRequest(envelope, service_name(service), body_of(body))]

    def write_one(self, message: Message) -> Frames:
        if isinstance(message, PlainPartial):
            head = _head(message.envelope, CLIENT_MARK)
            return [*message.envelope[:head], self._partial, *message.envelope[head + 1 :], *frames_of(message.body)]
        return write_reply(message) if isinstance(message, PlainReply) else ()


class MajordomoWorker(WorkerDialect):
    """``[""] MDPW02 command …``. There are two of them: one with the empty frame, one without."""

    name = "mdp-0.2"
    beats_at_work = False
    returns_tasks = False
    registers_once = True

    def __init__(self, *mark: bytes) -> None:
        self._mark = mark

    def recognises(self, frames: Frames) -> bool:
        return _head(frames, WORKER_MARK) == len(self._mark)

    def read(self, peer: bytes, frames: Frames) -> Sequence[Message]:
        head = len(self._mark)
        command, *rest = map(bytes, frames[head:]) if len(frames) > head else (b"",)
        if command == READY and len(rest) == 1:
            return [hello_of(peer, service_name(rest[0]))]
        if command in (PARTIAL, FINAL) and len(rest) > 2 and not rest[1]:
            task, body = task_of(rest[0]), body_of(rest[2:])
            return [Answer(task, Status.OK, body) if command == FINAL else Partial(task, body)]
        if command == HEARTBEAT and not rest:
            return [Beat()]
        if command == DISCONNECT and not rest:
            return [Goodbye()]
        raise BadMessage(f"no {self.name} message of a worker: command {command!r} with {len(rest)} frames")

    def write_one(self, message: Message) -> Frames:
        if isinstance(message, Task):
            return [*self._mark, REQUEST, b"%d" % message.id, b"", *frames_of(message.body)]
        if isinstance(message, Beat):
            return [*self._mark, HEARTBEAT]
        if isinstance(message, HelloAgain | Goodbye | Refused):
            return [*self._mark, DISCONNECT]
        return ()

    def refusal(self, frames: Frames, why: str) -> list[Message]:
        return [Goodbye()]


CLIENT = MajordomoClient("mdp-0.2", REQUEST_OF_CLIENT, PARTIAL_TO_CLIENT, FINAL_TO_CLIENT, has_service=True)
MAJORTOMO_CLIENT = MajordomoClient("majortomo", REQUEST, PARTIAL, FINAL, has_service=False)
WORKER = MajordomoWorker(WORKER_MARK)
WORKER_WITH_EMPTY_FRAME = MajordomoWorker(b"", WORKER_MARK)
