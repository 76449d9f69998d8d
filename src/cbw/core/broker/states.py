"""The states of a request in the broker, and which may follow which.

``docs/explanation/request-states.md`` is generated from :data:`TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final


class RequestState(IntEnum):
    """Where a request is. One that has ended may stay in a queue or with a worker until it is passed over there."""

    STORING = -1  #: accepted, and waiting for the journal
    WAITING = 0  #: in its service's queue
    SUSPECT = 1  #: waiting as well, after an attempt that took its worker down: it will travel alone
    RUNNING = 2  #: with a worker
    ALONE = 3  #: with a worker, as the only suspect there
    ENDED = 4  #: the client has its answer or its one error
    DELAYED = 5  #: not to be handed out yet: its client or its handler has asked for that


class Change(StrEnum):
    """What happens to a request. :data:`TRANSITIONS` says in which states it can, and which state follows."""

    STORED = "stored"
    DELAYED = "delayed"
    DUE = "due"
    HANDED_OUT = "handed out"
    RETURNED = "returned"
    WORKER_FAILED = "worker failed"
    ANSWERED = "answered"
    GAVE_UP = "gave up"
    SERVED = "served by the broker itself"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    BROKEN = "its stream was broken"


_ENDS = {
    RequestState.STORING: RequestState.ENDED,
    RequestState.WAITING: RequestState.ENDED,
    RequestState.SUSPECT: RequestState.ENDED,
    RequestState.RUNNING: RequestState.ENDED,
    RequestState.ALONE: RequestState.ENDED,
    RequestState.DELAYED: RequestState.ENDED,
}

ACCEPTED: Final = RequestState.WAITING
"""The state in which every request begins."""
ACCEPTED_WITH_JOURNAL: Final = RequestState.STORING
"""The state in which every request begins that is written to a journal."""
TRANSITIONS: Final[Mapping[Change, Mapping[RequestState, RequestState]]] = {
    Change.STORED: {RequestState.STORING: RequestState.WAITING},
    Change.DELAYED: {
        RequestState.WAITING: RequestState.DELAYED,
        RequestState.RUNNING: RequestState.DELAYED,
        RequestState.ALONE: RequestState.DELAYED,
    },
    Change.DUE: {RequestState.DELAYED: RequestState.WAITING},
    Change.HANDED_OUT: {RequestState.WAITING: RequestState.RUNNING, RequestState.SUSPECT: RequestState.ALONE},
    Change.RETURNED: {RequestState.RUNNING: RequestState.WAITING, RequestState.ALONE: RequestState.SUSPECT},
    Change.WORKER_FAILED: {RequestState.RUNNING: RequestState.SUSPECT, RequestState.ALONE: RequestState.SUSPECT},
    Change.ANSWERED: {RequestState.RUNNING: RequestState.ENDED, RequestState.ALONE: RequestState.ENDED},
    Change.GAVE_UP: {RequestState.RUNNING: RequestState.ENDED, RequestState.ALONE: RequestState.ENDED},
    Change.SERVED: {RequestState.STORING: RequestState.ENDED, RequestState.WAITING: RequestState.ENDED},
    Change.EXPIRED: _ENDS,
    Change.CANCELLED: _ENDS,
    Change.STOPPED: _ENDS,
    Change.BROKEN: _ENDS,
}
"""For each change, the state after each state in which it can happen. A state that is missing is a fault of the core, and
looking it up raises ``KeyError``: that is the assertion."""
