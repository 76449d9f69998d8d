"""What a broker owes to handlers that want to be called again, and to clients that want a later beginning.

Nothing is handed out before its time, nobody is called again who has not asked for it, and nobody more often than is
allowed. What fails then is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cbw.core import messages
from cbw.core.record import Record

from .account import Accepted
from .plan import RETRIES_ALLOWED, Job, limit_of, retries_wanted
from .world import ViolationError

EXACTNESS_S = 1e-6
"""Times that were added up in another order may differ by so much."""


@dataclass
class Delayed:
    """A request in the broker."""

    due_at: float
    retries: int = 0


class Delays:
    """Of the requests that are in the broker, by their numbers. ``dead_max``: so many dead letters are kept. ``wanted`` tells in
    how many seconds the handler of a task wants to be called again.
    """

    def __init__(self, dead_max: int, wanted: dict[int, float]) -> None:
        self._dead_max = dead_max
        self.asked: dict[int, float] = {}
        """For how long the client wants each request to be delayed."""
        self._wanted = wanted
        self._requests: dict[int, Delayed] = {}
        self._kept: dict[int, None] = {}  # requests that have become dead letters
        self._not_kept: dict[int, None] = {}  # requests of which was told that there is no room for their dead letters

    def broker_died(self, stored: Mapping[int, int]) -> None:
        """With a journal the next one goes on, and knows of the retries that were ``stored`` of each request."""
        for request, delayed in self._requests.items():
            delayed.due_at = 0.0
            delayed.retries = stored.get(request, 0)

    def wants_retry(self, task: int, after_s: float) -> None:
        """The handler of ``task`` wants to be called again."""
        self._wanted[task] = after_s

    def accepted(self, request: int, now: float) -> None:
        self._requests[request] = Delayed(now + self.asked.get(request, 0.0))
        self._kept.pop(request, None)  # a broker that has forgotten everything begins its numbers anew
        self._not_kept.pop(request, None)

    def kept(self, record: Record) -> None:
        """Something has happened to a dead letter."""
        if record.event == "dead_letter_kept":
            self._kept[int(record.request.rpartition("/")[2])] = None
        elif record.event == "dead_letter_pushed_out":
            self._not_kept[int(record.request.rpartition("/")[2])] = None

    def heard(self, record: Record, request: int, accepted: Accepted, now: float) -> bool:
        """Something has happened to ``request``; whether that is all about it."""
        delayed, token = self._requests.get(request), accepted.token
        if record.event == "retried":
            _retried(accepted, record)
        if delayed is not None:
            self._heard(record, delayed, token, now)
            if record.event == "failed":
                self._failed(record, delayed, token, request)
        return record.event in ("delayed", "due", "retried")

    def _heard(self, record: Record, delayed: Delayed, token: str, now: float) -> None:
        if record.event == "retried":
            if record.task not in self._wanted:
                raise ViolationError(
                    f"G4: {token} is to be called again, but task {record.task} has not asked for that"
                )
            delayed.retries += 1
            delayed.due_at = now + self._wanted[record.task]
            if delayed.retries > RETRIES_ALLOWED:
                raise ViolationError(f"G4: {token} is called again for the {delayed.retries}th time")
        elif record.event == "handed_out" and now < delayed.due_at - EXACTNESS_S:
            raise ViolationError(f"G4: {token} was handed out {delayed.due_at - now:.3f} s before its time")

    def _failed(self, record: Record, delayed: Delayed, token: str, request: int) -> None:
        """It is a dead letter if its retries are used up: if there were any, and its handler has asked for no more."""
        is_kept = request in self._kept
        if is_kept and delayed.retries == 0:
            raise ViolationError(f"G5: {token} failed at its only try, and was kept as a dead letter")
        is_accounted = is_kept or request in self._not_kept or self._dead_max == 0
        if not is_accounted and delayed.retries > 0 and record.task not in self._wanted:
            raise ViolationError(f"G5: the retries of {token} are used up, and it was not kept as a dead letter")

    def sent(self, task: messages.Task, request: int) -> None:
        """A worker is sent ``task``, which says how often there was a retry."""
        delayed = self._requests.get(request)
        if delayed is not None and task.retries != delayed.retries:
            text = f"task {task.id} says that there were {task.retries} retries, and not {delayed.retries}"
            raise ViolationError(f"G4: {text}")


def may_fail(job: Job) -> bool:
    """Whether the request may end with the error of its handler: its retries are used up, or its deadline is before the next,
    or it may have taken too long."""
    if limit_of(job.kind) is not None:
        return True
    wanted = retries_wanted(job.kind)
    return wanted > RETRIES_ALLOWED or (wanted > 0 and job.ttl_s is not None)


def _retried(accepted: Accepted, record: Record) -> None:
    """The last attempt has ended with that."""
    attempt = accepted.attempts[-1]
    if attempt.task != record.task or attempt.void:
        raise ViolationError(f"G4: {accepted.token} is called again because of a void attempt, {record.task}")
    attempt.void = "retried"
