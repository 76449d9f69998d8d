"""What ``docs/reference/wire.md`` asks of a worker: a hello first, beats at their time, and one end of each of its tasks."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import messages
from cbw.core.worker.broker_session import WORKER_BEAT_S

from .plan import WorkerPlan
from .world import ViolationError

EXACTNESS_S = 1e-6


class GivenTasks:
    """Those of one start of a worker, of all brokers: which were given to it, and which of them it has ended."""

    def __init__(self) -> None:
        self.given: dict[int, messages.Task] = {}
        self.parts: dict[int, tuple[int, int]] = {}  # of streams: the last one sent, and for how many there is room
        self._ended: dict[int, None] = {}

    def end(self, task: int) -> bool:
        """``task`` is answered or given back; whether it was to be."""
        is_due = task in self.given and task not in self._ended
        self._ended[task] = None
        return is_due


class WorkerManners:
    """Of one connection of a worker: compares what it says with what it has heard."""

    def __init__(self, who: str, plan: WorkerPlan, tasks: GivenTasks) -> None:
        self._who = who
        self._plan = plan
        self._tasks = tasks
        self._has_greeted = self._has_left = False
        self._broker: messages.Welcome | None = None
        self._told: tuple[int, bool] = (0, False)  # with its last credit
        self._beat_at = -WORKER_BEAT_S

    def connected(self) -> None:
        """It has another connection."""
        self._has_greeted, self._broker = False, None

    def heard(self, batch: Iterable[messages.Message]) -> None:
        """It has read that."""
        for message in batch:
            match message:
                case messages.Welcome():
                    self._broker = message
                case messages.HelloAgain() | messages.Goodbye() | messages.Refused():
                    self._broker = None
                    self._beat_at = -WORKER_BEAT_S  # it says its next word when it was told to
                case messages.Task(id=task):
                    self._tasks.given[task] = message
                    if isinstance(message, messages.StreamTask):
                        self._tasks.parts[task] = 0, message.parts
                case messages.PartsWanted(id=task, parts=room) if task in self._tasks.parts:
                    sent, before = self._tasks.parts[task]
                    self._tasks.parts[task] = sent, max(room, before)

    def says(self, batch: Iterable[messages.Message], now: float) -> None:
        """
        Raises:
            ViolationError: it must not say that.
        """
        for message in batch:
            self._need(not self._has_left, f"says {message} after its goodbye")
            if isinstance(message, messages.WorkerHello):
                self._greets(message, now)
                continue
            self._need(self._has_greeted, f"says {message} before its hello")
            is_goodbye = isinstance(message, messages.Goodbye)
            self._need(is_goodbye or self._broker is not None, f"says {message} without a welcome")
            match message:
                case messages.Beat():
                    early_s = self._beat_at + WORKER_BEAT_S - now
                    self._need(early_s < EXACTNESS_S, f"beats {early_s:.3f} s too early")
                    self._beat_at = now
                case messages.Credit(tasks=count, is_shared=is_shared):
                    self._need(count >= 0 and self._told != (count, is_shared), f"says that it wants {count} once more")
                    self._told = count, is_shared
                case messages.Returned(tasks=tasks):
                    for task in tasks:
                        self._need(self._tasks.end(task), f"gives back task {task}, which it does not have")
                case messages.Answer(id=task):
                    self._need(self._tasks.end(task), f"answers task {task}, which it does not have")
                case messages.AnswerPart():
                    self._sends(message)
                case messages.Goodbye():
                    self._has_left = True

    def _greets(self, hello: messages.WorkerHello, now: float) -> None:
        self._has_greeted, self._broker = True, None
        self._beat_at = now  # the first beat is due a second after the hello
        self._told = hello.credit, False
        is_so = hello.services == self._plan.services and hello.concurrency == self._plan.concurrency
        self._need(is_so and hello.boot == self._who and hello.worker == self._plan.name, f"says {hello}")
        strange = [task for task in hello.tasks if task not in self._tasks.given or task in self._tasks.parts]
        self._need(not strange, f"says that it has begun {strange}")

    def _sends(self, part: messages.AnswerPart) -> None:
        sent, room = self._tasks.parts.get(part.id, (0, -1))
        self._need(room >= 0, f"sends a part of task {part.id}, whose answer nobody wants in parts")
        is_next = part.number == sent + 1 and part.number <= room
        self._need(is_next, f"sends part {part.number} of task {part.id} after {sent}, and there is room for {room}")
        self._tasks.parts[part.id] = part.number, room

    def _need(self, is_kept: bool, text: str) -> None:
        if not is_kept:
            raise ViolationError(f"wire: {self._who} {text}")
