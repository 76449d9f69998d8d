"""How a request of one of our clients may end, as its program sees it: not with an error that nothing explains (G4, G6, G9)."""

from __future__ import annotations

from dataclasses import dataclass

from cbw.core.broker.limits import Limits
from cbw.core.client.events import Ended
from cbw.core.messages import NO_WORKER, Status, error_of

from .account import Accepted
from .delays import may_fail
from .handler_errors import need_whole_error
from .overload import refused_as_busy
from .parcels import PlainReply
from .plan import Job
from .world import ViolationError

EXACTNESS_S = 1e-6


@dataclass
class Circumstances:
    """What may explain an error."""

    asked_at: float | None
    was_cancelled: bool
    is_client_refused: bool
    may_be_refused: bool


def need_fair_error(job: Job, ended: Ended, limits: Limits, around: Circumstances, now: float) -> None:
    """
    Raises:
        ViolationError: nothing explains that ``job`` has ended with this.
    """
    status, token = ended.answer.status, job.token
    need_whole_error(job, ended)
    if status is Status.FAILED:
        is_fair = job.kind == "raise" or may_fail(job) or around.is_client_refused
        _need(is_fair, f"G4: {token} failed, but its handler does not")
    elif status is Status.EXPIRED:
        is_late = (
            job.ttl_s is not None and around.asked_at is not None and now >= around.asked_at + job.ttl_s - EXACTNESS_S
        )
        is_unserved = job.requires_worker or limits.unserved_s is not None
        is_fair = is_late or (is_unserved and error_of(ended.answer.body)[0] == NO_WORKER)
        _need(is_fair, f"G6: {token} expired too early")
    elif status is Status.BUSY:
        if not around.may_be_refused:
            refused_as_busy(job, ended, around.asked_at, limits, now)
    elif status is Status.CANCELLED:
        _need(around.was_cancelled, f"G4: {token} was cancelled by nobody")
    else:
        _need(status is Status.GAVE_UP, f"G4: {token} ended with {status.name}")


def need_fair_plain_error(job: Job, reply: PlainReply, limits: Limits, *, is_excused: bool) -> None:
    """Check the error of a request of the lab's programs, which may be lost if it ``is_excused``.

    Raises:
        ViolationError: nothing explains that.
    """
    fair = [Status.STOPPING, Status.GAVE_UP, *([Status.FAILED] if job.kind == "raise" else [])]
    if limits.plain_ttl_s is not None or limits.unserved_s is not None:
        fair.append(Status.EXPIRED)
    if is_excused:
        fair.append(Status.CANCELLED)
    _need(reply.status in fair, f"G4: {job.token} ended with {reply.status.name}: {reply.body!r}")


def need_deadline_passed(accepted: Accepted, asked_at: float | None, ttl_s: float | None, now: float) -> None:
    """
    Raises:
        ViolationError: a request has expired before it may.
    """
    ends_at = accepted.deadline_at if asked_at is None or ttl_s is None else asked_at + ttl_s
    _need((ends_at or 1e9) <= now + EXACTNESS_S, f"G6: {accepted.token} expired before its deadline")


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(text)
