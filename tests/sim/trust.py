"""G3: a silent worker is taken for lost, and a lab worker that does not answer for late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cbw.core.broker.limits import Limits

from .world import ViolationError

if TYPE_CHECKING:
    from .broker import SimBroker

SLOW_S = 0.5
"""Time in which the broker has to notice that something is overdue."""


def nobody_is_trusted_for_ever(broker: SimBroker, limits: Limits, now: float) -> None:
    """Look at all workers of ``broker``."""
    for worker in broker.core.workers.by_peer.values():
        connection = broker.workers.connection_of(worker.peer)
        if connection is not None and not worker.dialect.returns_silently:
            silent_s = now - connection.heard_at
            if silent_s >= limits.liveness_s + SLOW_S:
                raise ViolationError(f"G3: {worker.name} is silent since {silent_s:.3f} s")
        elif worker.dialect.returns_silently and worker.in_hand:
            late_s = now - next(iter(worker.in_hand.values())).handed_out_at
            if late_s >= limits.answer_timeout_s + SLOW_S:
                raise ViolationError(f"G3: {worker.name} has had {late_s:.3f} s")
