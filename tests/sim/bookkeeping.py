"""What the broker counts is what it has told: nothing is dropped, refused or given up in silence."""

from __future__ import annotations

from collections import Counter

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.record import Record

from .world import ViolationError

COUNTED = {
    catalogue.ANSWERED: catalogue.ANSWERED,
    catalogue.FAILED: catalogue.FAILED,
    catalogue.GAVE_UP: catalogue.GAVE_UP,
    catalogue.CANCELLED: catalogue.CANCELLED,
    catalogue.EXPIRED: catalogue.EXPIRED,
    catalogue.FENCED: "answers_fenced",
    catalogue.RETURNED: "tasks_returned",
    catalogue.RETRIED: "requests_retried",
    catalogue.ATTEMPT_FAILED: "attempts_failed",
    catalogue.ANSWER_DROPPED: "answers_dropped",
    catalogue.CLIENT_UNCERTAIN: "clients_uncertain",
    catalogue.WORKER_LATE: "workers_late",
    catalogue.WORKER_READY: "workers_registered",
}
"""Events, and the counts that say how many of them there were."""


class Bookkeeping:
    """Compares the trace of a broker with its counts."""

    def __init__(self) -> None:
        self._told: Counter[str] = Counter()

    def heard(self, record: Record) -> None:
        """The broker has told this."""
        self._told[record.event] += 1

    def clear(self) -> None:
        """The next broker begins with nothing."""
        self._told.clear()

    def check(self, core: BrokerCore) -> None:
        """
        Raises:
            ViolationError: a count differs from what was told.
        """
        counts = core.outbox.counts
        for event, name in COUNTED.items():
            if counts[name] != self._told[event]:
                raise ViolationError(f"G9: {name} is {counts[name]}, but {event} was told {self._told[event]} times")
        here = counts["workers_registered"] - counts["workers_lost"]
        if here != len(core.workers.by_peer):
            raise ViolationError(f"G3: {here} workers by the counts, {len(core.workers.by_peer)} in the table")
        timed, answered = sum(core.requests.latencies.counts), counts[catalogue.ANSWERED] + counts[catalogue.FAILED]
        if timed > answered:
            raise ViolationError(f"G9: {timed} latencies of {answered} answers")
