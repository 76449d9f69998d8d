"""What a broker owes to clients that want an answer in parts.

Within an attempt the parts come in order, none is lost or comes twice; an attempt that was given up sends none, and nothing comes
behind the end. No more are on their way than there is room for. A stream that is not to begin anew does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.client.events import Ended
from cbw.core.messages import AnswerPart, ProgressMade, Status
from cbw.core.parts import PARTS_MAX, parts_of
from cbw.core.worker.events import AnswersWentOn

from .account import SeenAttempt
from .plan import Job
from .world import ViolationError

TELLS_EACH = 3
"""A handler tells how far it is with each part of so many."""


def write_part(token: str, task: int, number: int) -> bytes:
    """What a handler yields: enough to see whose part it is."""
    return f"{token};{task};{number}".encode()


def _read_part(part: AnswerPart) -> tuple[str, int, int]:
    token, task, number = bytes(part.body).decode().split(";")
    return token, int(task), int(number)


@dataclass
class StreamRun:
    """A handler that yields, at work."""

    task: messages.StreamTask
    wanted: int
    left: int
    sent: int = 0
    is_waiting: bool = False

    def make(self, token: str) -> AnswersWentOn:
        """Its next part, for which there is room."""
        self.sent += 1
        self.left -= 1
        part = AnswerPart(self.task.id, self.sent, write_part(token, self.task.id, self.sent))
        if self.sent % TELLS_EACH:
            return AnswersWentOn([part])
        return AnswersWentOn([ProgressMade(self.task.id, self.sent, self.sent + self.left, token), part])


@dataclass
class SeenStream:
    """The parts that a client has got of one answer."""

    job: Job
    task: int = 0
    received: int = 0
    taken: int = 0
    attempts: int = 0


class Streams:
    """Those that clients read, by their requests."""

    def __init__(self) -> None:
        self._seen: dict[str, SeenStream] = {}
        self._void: dict[int, None] = {}  # attempts that were given up before their last parts came
        self._lost: dict[int, None] = {}  # attempts that the client has got parts of, and that were followed by others

    def asked(self, key: str, job: Job) -> None:
        self._seen[key] = SeenStream(job)

    def came(self, key: str, part: AnswerPart, *, is_waited_for: bool) -> None:
        """A part has come to its client.

        Raises:
            ViolationError: it is not the one that is next.
        """
        seen = self._seen.get(key)
        if seen is None or not is_waited_for:
            raise ViolationError(f"G4: {key} got part {part.number} behind its end")
        token, task, number = _read_part(part)
        if token != seen.job.token or number != part.number:
            raise ViolationError(f"G1: {seen.job.token} got part {number} of {token} as part {part.number}")
        if task != seen.task:
            if task in self._lost:
                raise ViolationError(f"G4: {token} got a part of attempt {task}, which another had followed")
            if seen.task and not seen.job.restarts:
                raise ViolationError(f"G4: {token} begins anew, and was not to")
            if seen.task:
                self._lost[seen.task] = None
            seen.task, seen.received, seen.taken = task, 0, 0
            seen.attempts += 1
        if number != seen.received + 1:
            raise ViolationError(f"G4: {token} got part {number} of attempt {task} behind part {seen.received}")
        seen.received = number
        if seen.received - seen.taken > PARTS_MAX:
            raise ViolationError(f"G9: {seen.received - seen.taken} parts of {token} wait for its program")

    def progressed(self, key: str, made: ProgressMade, job: Job, *, is_waited_for: bool) -> None:
        """The program is told how far its handler is.

        Raises:
            ViolationError: it has not asked for that, or it is another's.
        """
        is_own = made.text == job.token and 0 <= made.done <= (made.total or 0.0)
        if not is_own or not job.wants_progress or not is_waited_for:
            raise ViolationError(f"G1: {job.token}, {key}, was told of the progress {made}")

    def took(self, key: str, task: int) -> None:
        """The program has taken one."""
        seen = self._seen.get(key)
        if seen is not None and seen.task == task:
            seen.taken += 1

    def ended(self, key: str, ended: Ended) -> bool:
        """Whether that is all about it.

        Raises:
            ViolationError: parts are missing, or it broke off although it was to begin anew.
        """
        seen = self._seen.pop(key, None)
        answer = ended.answer
        if seen is None:
            if answer.status in (Status.STREAMED, Status.BROKEN):
                raise ViolationError(f"G4: {key} ended with {answer.status.name}, and is no stream")
            return False
        if answer.status is Status.STREAMED:
            made = parts_of(answer.body)
            wanted = int(seen.job.kind.removeprefix("stream"))
            if made != wanted or seen.received > made:
                raise ViolationError(f"G4: {seen.job.token} made {made} of {wanted} parts, {seen.received} came")
        elif answer.status is Status.BROKEN and seen.job.restarts:
            raise ViolationError(f"G4: {seen.job.token} broke off, and was to begin anew")
        return answer.status in (Status.STREAMED, Status.BROKEN)

    def arrived(self, facts: list[events.Event], attempts: Mapping[int, SeenAttempt]) -> None:
        """The broker is about to hear this."""
        said = [message for fact in facts if isinstance(fact, events.WorkerSaid) for message in fact.messages]
        parts = [message.id for message in said if isinstance(message, AnswerPart)]
        self._void = {task: None for task in parts if task in attempts and attempts[task].void}

    def sent(self, order: events.SendToClient) -> None:
        """The broker sends this, because of what it has heard last.

        Raises:
            ViolationError: a part of an attempt that it has given up.
        """
        for message in order.messages:
            if isinstance(message, AnswerPart):
                token, task, _ = _read_part(message)
                if task in self._void:
                    raise ViolationError(f"G4: a part of attempt {task} at {token} was sent, which was void")
