"""What the checker of a journal takes for fair."""

from __future__ import annotations

import random

import pytest

from cbw.core import catalogue
from cbw.core.journal_records import AnswersDropped, Asker, Batch, RequestAccepted, RequestEnded
from cbw.core.record import Record
from cbw.wire.journal import encode_batch

from .drawing import draw, draw_journal
from .durability import Durability
from .plan import Plan
from .world import ViolationError, World

LIVENESS_S = 3.0


class Told:
    """A checker that knows of an answer which is stored for client C1 since second 1."""

    def __init__(self) -> None:
        self.world = World(1)
        self.durability = Durability(self.world, _plan())
        self._position = 0
        asker = Asker("C1", "b", b"", "cbw", b"")
        self.world.now = 1.0
        self._put(RequestAccepted(1, asker, 7, "s", (b"go",), 0.0), RequestEnded(1, 0, (b"done",)))

    def _put(self, *records: RequestAccepted | RequestEnded | AnswersDropped) -> None:
        self._position += 1
        self.durability.put(self._position, encode_batch(Batch(self.world.now, [*records])))

    def is_back(self, at: float) -> None:
        self.world.now = at
        self.durability.record(Record(at, catalogue.CLIENT_BACK, client="C1"))

    def is_dropped(self, at: float) -> None:
        self.world.now = at
        self._put(AnswersDropped([1]))


def _plan() -> Plan:
    plan = draw(1, random.Random(1))
    draw_journal(plan, random.Random(1), share=1.0)
    assert plan.limits.liveness_s == LIVENESS_S
    return plan


def test_an_answer_is_dropped_if_its_client_is_back_and_does_not_ask_for_it() -> None:
    told = Told()
    told.is_back(2.0)
    told.is_dropped(2.0 + LIVENESS_S)


@pytest.mark.parametrize("at", [2.0, 4.9])
def test_it_may_not_be_dropped_earlier(at: float) -> None:
    told = Told()
    told.is_back(2.0)
    with pytest.raises(ViolationError, match="G7"):
        told.is_dropped(at)


def test_it_may_be_dropped_if_its_client_was_back_for_long_enough_before_it_came_back_again() -> None:
    """The broker has decided that before, and writes it a moment later."""
    told = Told()
    told.is_back(2.0)
    told.is_back(2.0 + LIVENESS_S + 0.1)
    told.is_dropped(2.0 + LIVENESS_S + 0.2)


def test_but_not_if_it_was_never_back_for_long_enough() -> None:
    told = Told()
    for second in range(2, 9):
        told.is_back(float(second))
    with pytest.raises(ViolationError, match="G7"):
        told.is_dropped(9.0)
