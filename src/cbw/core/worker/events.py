"""Facts that the worker's core is told (past tense) and orders that it gives (imperative)."""

from __future__ import annotations

import msgspec

from cbw.core import messages


class Event(msgspec.Struct, gc=False):
    """Base of facts and orders."""


# --- facts about the connection


class Connected(Event):
    """A connection to the broker was made."""


class Disconnected(Event):
    """The connection was lost. The broker gives the tasks of this worker to others."""


class ReconnectFailed(Event):
    """A new connection could not be begun, for want of file descriptors; :class:`Reconnect` has to be tried again."""


class BatchArrived(Event):
    """The broker sent these messages."""

    messages: list[messages.Message]


# --- facts about the pool that runs the handlers


class TasksFinished(Event, array_like=True, tag=0):
    """Handlers have ended with ``answers``; together they took ``busy_s`` seconds of handler time.

    This and :class:`TasksReturned` are encoded as arrays, because child processes send them through a pipe.
    """

    answers: list[messages.Answer]
    busy_s: float


class TasksReturned(Event, array_like=True, tag=1):
    """The pool has not begun these tasks, and will not. Empty if it was asked for tasks and has none to give back."""

    tasks: list[int]


class HandlerCalled(Event, array_like=True, tag=2):
    """The handler of ``task`` was called, and may take ``limit_s`` seconds. Handlers without a time limit tell nothing."""

    task: int
    limit_s: float


class AnswersWentOn(Event, array_like=True, tag=3):
    """Handlers have made parts of their answers, or told how far they are."""

    news: list[messages.AnswerPart | messages.ProgressMade]


class TasksOverdue(Event):
    """These are the answers to tasks of an :class:`EndOverdue`, but for those that had ended before. Their handlers were told
    to end, and may run on."""

    answers: list[messages.Answer]


class PoolReady(Event):
    """The pool can run handlers. A pool that says nothing about it is ready."""


class PoolNotReady(Event):
    """The pool cannot run anything for now: none of its child processes is ready."""


# --- facts about the worker's own process


class StopRequested(Event):
    """The worker was asked to end: what runs may finish until ``by`` (monotonic seconds)."""

    by: float


PoolFact = TasksFinished | TasksReturned | HandlerCalled | AnswersWentOn | PoolReady | PoolNotReady
Fact = Connected | Disconnected | ReconnectFailed | BatchArrived | PoolFact | TasksOverdue | StopRequested


# --- orders


class Reconnect(Event):
    """Drop the connection and make a new one."""


class Begin(Event):
    """Have the pool run these tasks."""

    tasks: list[messages.Task]


class TakeBack(Event):
    """Ask the pool for those of these tasks that it has not begun. The answer is a :class:`TasksReturned`."""

    tasks: list[int]


class CancelTasks(Event):
    """Have the pool stop these tasks, if that is possible."""

    tasks: list[int]


class GrantParts(Event):
    """There is room for the parts of the answer to ``task`` up to number ``parts``."""

    task: int
    parts: int


class EndOverdue(Event):
    """These tasks have exceeded their time limits: have the pool end their handlers, if that is possible. The answer is a
    :class:`TasksOverdue`."""

    tasks: list[int]


class TellStuck(Event):
    """Tell people that the handlers of these tasks have exceeded their time limits and have not ended, and what they do."""

    tasks: list[int]


class TellStoodStill(Event):
    """Tell people that nothing of this process has run for ``for_s`` seconds. ``is_busy``: handlers ran, or were to run."""

    for_s: float
    is_busy: bool


class Send(Event):
    """Send these messages to the broker."""

    messages: list[messages.Message]


class End(Event):
    """Close the connection and end. ``refused`` is what the broker said if it refuses this worker for good."""

    refused: messages.Refused | None


Order = Reconnect | Begin | TakeBack | CancelTasks | GrantParts | EndOverdue | TellStuck | TellStoodStill | Send | End
