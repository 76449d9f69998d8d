"""Answers that REQ workers bring to a broker which does not know their requests, as an earlier one had handed them out."""

from __future__ import annotations

from collections.abc import Mapping

from cbw.core.messages import Answer, Status

from .account import SeenAttempt
from .workers import read_answer


def token_of_inherited(answer: Answer) -> str:
    """Whose it is: it says so itself. Empty: it is an error, and none of those."""
    return read_answer(answer.body)[0] if answer.status is Status.OK else ""


def why_not_inherited(answer: Answer, attempts: Mapping[int, SeenAttempt], first_task: int) -> str:
    """Why the broker whose tasks begin at ``first_task`` must not send ``answer``; empty: it may."""
    if answer.status is not Status.OK:
        return "the broker does not know the request"
    task = read_answer(answer.body)[2]
    if not attempts[task].has_run:
        return "no handler ran"
    return f"task {task} is this broker's own, and void" if task >> 32 == first_task >> 32 else ""
