"""The tasks of one pool whose handlers have a time limit, and what a handler does that has exceeded it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from cbw.core import catalogue, messages
from cbw.core.catalogue import EventName
from cbw.core.messages import TRACEBACK_CHARS_MAX
from cbw.core.worker.events import HandlerCalled, PoolFact
from cbw.worker import handler as handler_module
from cbw.worker.handler import Handler

STUCK_TOLD_MAX = 10
"""Most stuck handlers whose stacks stand in the status: a worker may have thousands of coroutines."""


class RecordEvent(Protocol):
    """Records an event of a worker, with a text. ``task`` is the one that it is about, if it is about any."""

    def __call__(self, event: EventName, text: str, task: messages.Task | None = None, traceback: str = "") -> None: ...


class Reporter(Protocol):
    """What is needed of the owner of a pool."""

    @property
    def record_event(self) -> RecordEvent:
        """Records something that went wrong and that the pool deals with by itself."""

    def report(self, fact: PoolFact) -> None:
        """Something has happened that the worker's core must know."""


@dataclass(slots=True)
class _Running:
    task: messages.Task
    coroutine: asyncio.Task[None] | None
    thread: int = field(default_factory=threading.get_ident)  # which has called the handler
    began_at: float = field(default_factory=time.monotonic)
    is_stuck: bool = False

    def stack(self) -> str:
        """Where the handler is now, innermost call last; the end of that if it is long."""
        return "".join(_below_handler(self._frames()))[-TRACEBACK_CHARS_MAX:]

    def _frames(self) -> list[FrameType]:
        if self.coroutine is not None:
            frames = list(_frames_of(self.coroutine.get_coro()))
            if frames and not getattr(self.coroutine.get_coro(), "cr_running", False):
                return frames
        frame = sys._current_frames().get(self.thread)
        return [frame for frame, _ in traceback.walk_stack(frame)][::-1] if frame is not None else []


def _frames_of(coroutine: Any) -> Iterator[FrameType]:
    """The frames of ``coroutine`` and of what it awaits, as far as these are Python's."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _below_handler(frames: list[FrameType]) -> list[str]:
    """``frames`` as text, without those that have called the handler."""
    ours = [number for number, frame in enumerate(frames) if frame.f_code.co_filename == handler_module.__file__]
    inside = frames[ours[-1] + 1 :] if ours else frames
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in inside).format()


class LimitedTasks:
    """The handlers with a time limit that run in one pool. Safe from any thread."""

    def __init__(self, handlers: Mapping[str, Handler], owner: Reporter) -> None:
        self._handlers = handlers
        self._owner = owner
        self._running: dict[int, _Running] = {}
        self._overdue: dict[int, _Running] = {}  # those whose tasks were answered, because of their limits

    def begun(self, task: messages.Task, limit_s: float, coroutine: asyncio.Task[None] | None = None) -> None:
        """The calling thread is about to call the handler for ``task``."""
        self._running[task.id] = _Running(task, coroutine)
        self._owner.report(HandlerCalled(task.id, limit_s))

    def ended(self, task: int) -> bool:
        """The handler has returned; whether too late, so that its answer is not wanted."""
        if self._running.pop(task, None) is not None:
            return False
        late = self._overdue.pop(task)
        if late.is_stuck:
            text = f"returned after {time.monotonic() - late.began_at:.1f} s, and its slot is free again"
            self._owner.record_event(catalogue.UNSTUCK, text, late.task)
        return True

    def exceed(self, task: int) -> tuple[messages.Task, messages.Answer] | None:
        """``task`` has exceeded its limit: it, and the answer for its client. None: its handler has returned just now."""
        running = self._running.get(task)
        if running is None:
            return None
        self._overdue[task] = running  # before it is taken from the others: it is looked for when it returns
        if self._running.pop(task, None) is None:
            del self._overdue[task]
            return None
        return running.task, self._handlers[running.task.service].overdue(running.task, running.stack())

    def tell_stuck(self, task: int, text: str) -> None:
        """Record that the handler has not ended although it should."""
        late = self._overdue.get(task)
        if late is not None:
            late.is_stuck = True
            self._owner.record_event(catalogue.STUCK, text, late.task, late.stack())

    def tell_stood_still(self, for_s: float, *, is_busy: bool) -> None:
        """Record that nothing of this process has run for ``for_s`` seconds, and what handlers may have to do with it."""
        cause = "a handler may have held the GIL in C: run it with --processes; or the" if is_busy else "the"
        text = f"for {for_s:.1f} s: {cause} process was stopped, or had no processor"
        self._owner.record_event(catalogue.STOOD_STILL, text)

    def stuck(self) -> list[dict[str, Any]]:
        """The handlers that are stuck, for the status: at most :data:`STUCK_TOLD_MAX` of them."""
        stuck = [late for late in list(self._overdue.values()) if late.is_stuck]
        return [
            {
                "task": late.task.id,
                "request": late.task.request,
                "service": late.task.service,
                "running_s": time.monotonic() - late.began_at,
                "stack": late.stack(),
            }
            for late in stuck[:STUCK_TOLD_MAX]
        ]
