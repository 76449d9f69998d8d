"""The error that a handler has raised: its client gets all of it, but not the traceback, which is nobody's business there."""

from __future__ import annotations

from cbw.core.client.events import Ended
from cbw.core.messages import Status, error_body, error_parts

from .plan import Job
from .world import ViolationError

KIND = "ValueError"
TRACEBACK = "Traceback (most recent call last): …"


def write_error(token: str) -> bytes:
    """What a handler has raised: with data in half of the cases."""
    return error_body(KIND, token, TRACEBACK, _data_of(token))


def _data_of(token: str) -> str | None:
    return f'{{"of": "{token}"}}' if len(token) % 2 else None


def need_whole_error(job: Job, ended: Ended) -> None:
    """
    Raises:
        ViolationError: the handler of ``job`` has raised something else.
    """
    if ended.answer.status is not Status.FAILED or job.kind != "raise" or ended.refused is not None:
        return
    told = error_parts(ended.answer.body)
    if (told.kind, told.text, told.traceback, told.data) != (KIND, job.token, "", _data_of(job.token)):
        raise ViolationError(f"G1: the error of {job.token} has come as {told}")
