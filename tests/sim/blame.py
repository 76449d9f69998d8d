"""Whether there is a reason to take an attempt for failed, so that it counts (G5)."""

from __future__ import annotations

from collections.abc import Container

from .account import SeenAttempt
from .durability import Durability
from .plain_workers import PlainWorker
from .plan import Plan

EXACTNESS_S = 1e-6


def may_count(attempt: SeenAttempt, plan: Plan, durability: Durability, unread: Container[bytes], now: float) -> bool:
    """``unread``: peers that have been given up in this step, as they do not read."""
    connection = attempt.connection
    if attempt.has_died:
        return True
    if attempt.recovered_at is not None:
        return durability.may_have_failed(attempt)
    if connection is None:
        return plan.queue_max < 1000  # it waited in the shell for a peer that does not read
    link = connection.link
    if isinstance(link.process, PlainWorker) and not attempt.is_acquainted:
        return True  # given to a successor with the same identity before it could register
    if connection.is_lost or not link.process.is_alive or connection.socket != link.socket:
        return True
    if connection.peer in unread:
        return True
    if isinstance(link.process, PlainWorker):
        return now - attempt.handed_at >= plan.limits.answer_timeout_s - EXACTNESS_S
    return now - connection.heard_at >= plan.limits.liveness_s - EXACTNESS_S
