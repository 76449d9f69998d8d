"""Clients and workers of the lab's dialect, as the verification of somebody else's broker has them.

Time and frames come in, frames go out: the sockets are elsewhere. What happens is recorded as it is for clients and workers of
cbw, so that the same checks judge it. A request's text is ``<request> <seconds>``, and its answer ends with the worker's id.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from cbw.core import catalogue
from cbw.core.port import Frames
from cbw.core.record import Record
from cbw.verify.caller import client_record

LAB_SERVICE = "lab"
"""The name for the records of a service that has none in the lab."""

REGISTRATION: Frames = [b"", b"", b""]
"""A worker's first message: for no client, and no answer."""


class LabClient:
    """Asks, as a REQ client does: one request at a time."""

    def __init__(self, id: str, record: Callable[[Record], None]) -> None:
        self.id = id
        self.request = ""  #: what it waits for; empty: nothing
        self.asked_at = 0.0
        self.answered_by = ""  #: the worker that answered last; empty: the last request was not answered
        self.odd_frames = ""
        self._record = record
        self._text = ""
        self._count = 0

    def ask(self, work_s: float, now: float) -> Frames:
        """The frames of a new request, for which a worker is to take ``work_s``."""
        self._count += 1
        self.request, self.asked_at, self.answered_by = f"{self.id}/{self._count}", now, ""
        self._text = f"{self.request} {work_s:g}"
        self._tell(now, catalogue.SENT, self.request, self._text)
        return [b"", self._text.encode()]

    def take(self, frames: Frames, now: float) -> None:
        """A message has come."""
        if len(frames) != 2 or frames[0]:
            self.odd_frames = shown(frames)
            self._tell(now, catalogue.BAD_MESSAGE, self.request, f"no reply of the lab: {self.odd_frames}")
            return
        text = frames[1].decode(errors="replace")
        if not self.request:
            self._tell(now, catalogue.UNASKED, "", text, count=1)
            return
        request, self.request = self.request, ""
        self.answered_by = text.rpartition(" ")[2]
        self._tell(now, catalogue.GOT, request, text)

    def give_up(self, now: float, why: str) -> None:
        """Stop waiting for the answer. A REQ client could not ask anything else: do not use it again."""
        if self.request:
            self._tell(now, catalogue.FAILED, self.request, why)
            self.request = ""

    def _tell(self, at: float, event: catalogue.EventName, request: str, text: str, *, count: int = 0) -> None:
        self._record(client_record(at, event, self.id, LAB_SERVICE, request, text, count))


class LabWorker:
    """Works, as a REQ worker does: it registers, and then has one task at a time. It can be frozen."""

    def __init__(self, id: str, record: Callable[[Record], None]) -> None:
        self.id = id
        self.is_frozen = False
        self.odd_frames = ""
        self._record = record
        self._tasks: deque[tuple[bytes, bytes, str, float]] = deque()  # client, message, request, seconds
        self._done_at: float | None = None

    @property
    def request(self) -> str:
        """What it works on; empty: nothing."""
        return self._tasks[0][2] if self._tasks else ""

    @property
    def wakes_at(self) -> float | None:
        """When it has something to do by itself, if nothing comes; None: not at all."""
        return None if self.is_frozen else self._done_at

    def take(self, frames: Frames, now: float) -> None:
        """A message has come."""
        if len(frames) != 3 or frames[0] or not frames[1]:
            self.odd_frames = shown(frames)
            self._tell(now, catalogue.BAD_MESSAGE, self.request, f"no task of the lab: {self.odd_frames}")
            return
        request, _, seconds = frames[2].decode(errors="replace").partition(" ")
        self._tasks.append((frames[1], frames[2], request, _seconds(seconds)))
        if len(self._tasks) > 1:
            self._tell(now, catalogue.SECOND_TASK, request, self.request)
        else:
            self._begin(now)

    def work(self, now: float) -> list[Frames]:
        """The answers that are due."""
        answers: list[Frames] = []
        while self.wakes_at is not None and now >= self.wakes_at:
            client, message, request, _ = self._tasks.popleft()
            self._tell(now, catalogue.DONE, request, "")
            answers.append([b"", client, message + b" " + self.id.encode()])
            self._done_at = None
            if self._tasks:
                self._begin(now)
        return answers

    def _begin(self, now: float) -> None:
        _, _, request, seconds = self._tasks[0]
        self._done_at = now + seconds
        self._tell(now, catalogue.BEGUN, request, "")

    def _tell(self, at: float, event: catalogue.EventName, request: str, text: str) -> None:
        self._record(
            Record(
                at,
                event,
                role="worker",
                sender=self.id,
                request=request,
                service=LAB_SERVICE,
                worker=self.id,
                text=text,
            )
        )


def shown(frames: Frames) -> str:
    """The frames of a message, for people."""
    return f"[{', '.join(repr(frame[:40].decode(errors='backslashreplace')) for frame in frames[:6])}]"


def _seconds(text: str) -> float:
    """A stranger's request may reach a worker of the verification: that one takes no time."""
    try:
        return min(10.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
