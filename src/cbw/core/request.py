"""The states of a request in the broker, as a table.

Each event below is a table from the state before to the state after; a state that is missing cannot see the event,
and looking it up is the assertion. ``docs/explanation/request-states.md`` is generated from :data:`TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Where a request is. One that has ended may lie in a queue or a hand until its turn comes."""

    WAITING = 0  #: in its service's queue
    SUSPECT = 1  #: waiting as well, after an attempt that took its worker down: it will travel alone
    RUNNING = 2  #: in a worker's hand
    ALONE = 3  #: in a worker's hand, as the only suspect there
    ENDED = 4  #: the client has its answer or its one error


Table = Mapping[State, State]

ACCEPTED: Final = State.WAITING
HANDED_OUT: Final[Table] = {State.WAITING: State.RUNNING, State.SUSPECT: State.ALONE}
RETURNED: Final[Table] = {State.RUNNING: State.WAITING, State.ALONE: State.SUSPECT}
WORKER_FAILED: Final[Table] = {State.RUNNING: State.SUSPECT, State.ALONE: State.SUSPECT}
ANSWERED: Final[Table] = {State.RUNNING: State.ENDED, State.ALONE: State.ENDED}
GAVE_UP: Final[Table] = {State.RUNNING: State.ENDED, State.ALONE: State.ENDED}
EXPIRED: Final[Table] = {State.WAITING: State.ENDED, State.SUSPECT: State.ENDED}
CANCELLED: Final[Table] = {
    State.WAITING: State.ENDED,
    State.SUSPECT: State.ENDED,
    State.RUNNING: State.ENDED,
    State.ALONE: State.ENDED,
}
STOPPED: Final[Table] = CANCELLED

TRANSITIONS: Final[Mapping[str, Table]] = {
    "handed out": HANDED_OUT,
    "returned": RETURNED,
    "worker failed": WORKER_FAILED,
    "answered": ANSWERED,
    "gave up": GAVE_UP,
    "expired": EXPIRED,
    "cancelled": CANCELLED,
    "stopped": STOPPED,
}
