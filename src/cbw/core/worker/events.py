"""Facts that the worker's core is told (past tense) and orders that it gives (imperative)."""

from __future__ import annotations

import msgspec

from cbw.core import messages


class Event(msgspec.Struct, gc=False):
    """Base of facts and orders."""


# --- facts about the connection


class Connected(Event):
    """A connection to a broker was made. Connections are numbered from 0."""

    connection: int = 0


class Disconnected(Event):
    """The connection was lost. The broker gives the tasks of this worker to others."""

    connection: int = 0


class ReconnectFailed(Event):
    """A new connection could not be begun, for want of file descriptors; :class:`Reconnect` has to be tried again."""

    connection: int = 0


class BrokersFound(Event):
    """The brokers are at these places, as far as their names tell."""

    places: list[str]


class BatchArrived(Event):
    """A broker sent these messages."""

    messages: list[messages.Message]
    connection: int = 0


# --- facts about the pool that runs the handlers


class TasksFinished(Event, array_like=True, tag=0):
    """Handlers have ended with ``answers``; together they took ``busy_s`` seconds of handler time, and each call, by service, so
    many seconds as ``took`` has.

    This and :class:`TasksReturned` are encoded as arrays, because child processes send them through a pipe.
    """

    answers: list[messages.Answer]
    busy_s: float
    took: dict[str, list[float]] = {}


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
Fact = (
    Connected | Disconnected | ReconnectFailed | BrokersFound | BatchArrived | PoolFact | TasksOverdue | StopRequested
)


# --- orders


class LookUp(Event):
    """Look up where the brokers are. The answer is a :class:`BrokersFound`, if there is one."""


class Connect(Event):
    """Connect to the broker at ``place``; ``connection`` is the number of that connection from now on."""

    connection: int
    place: str


class Disconnect(Event):
    """Close this connection; its number may be used again."""

    connection: int


class Reconnect(Event):
    """Drop the connection and make a new one."""

    connection: int = 0


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
    """Send these messages over this connection."""

    messages: list[messages.Message]
    connection: int = 0


class End(Event):
    """Close the connections and end. ``refused`` is what the last broker said if none lets this worker in."""

    refused: messages.Refused | None


Order = (
    LookUp
    | Connect
    | Disconnect
    | Reconnect
    | Begin
    | TakeBack
    | CancelTasks
    | GrantParts
    | EndOverdue
    | TellStuck
    | TellStoodStill
    | Send
    | End
)
