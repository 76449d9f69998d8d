"""How long each worker has had something in hand, as the trace tells it: the page shows no worker busier than that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from cbw.core import catalogue
from cbw.core.record import Record

from .world import ViolationError

EXACTNESS_S = 1e-6
YOUNG_S = 0.001
"""A worker that is younger is shown as if it had this age."""
LEFT = (
    catalogue.RETURNED,
    catalogue.ATTEMPT_FAILED,
    catalogue.RETRIED,
    catalogue.ANSWERED,
    catalogue.FAILED,
    catalogue.FENCED,
)
"""Events with which a task is out of its worker's hand. One that was cancelled stays there until it is answered."""


class Hands:
    """Of the workers of one broker, by their names, since each has registered."""

    def __init__(self) -> None:
        self._hand: defaultdict[str, dict[int, None]] = defaultdict(dict)
        self._since: dict[str, float] = {}
        self._held_s: defaultdict[str, float] = defaultdict(float)

    def clear(self) -> None:
        """The broker has died."""
        self._hand.clear()
        self._since.clear()
        self._held_s.clear()

    def heard(self, record: Record) -> None:
        """The broker has told this."""
        worker, hand = record.worker, self._hand[record.worker]
        if record.event == catalogue.WORKER_READY:
            hand.clear()
            self._held_s[worker] = 0.0
        elif record.event == catalogue.HANDED_OUT:
            if not hand:
                self._since[worker] = record.at
            hand[record.task] = None
        elif record.event in LEFT and record.task in hand:
            del hand[record.task]
            if not hand:
                self._held_s[worker] += record.at - self._since[worker]

    def check(self, shown: Mapping[str, Any], now: float) -> None:
        """
        Raises:
            ViolationError: the page shows a worker that is busier than what it was given.
        """
        worker = shown["worker"]
        held_s = self._held_s[worker] + (now - self._since[worker] if self._hand[worker] else 0.0)
        busy_s = shown["busy"] * max(shown["age_s"], YOUNG_S)
        if busy_s > held_s + EXACTNESS_S:
            raise ViolationError(f"status: {worker} was busy for {busy_s} s, and had something in hand for {held_s} s")
