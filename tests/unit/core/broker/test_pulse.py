"""How the rate of a worker's beats is learnt, and what it is allowed for it."""

from __future__ import annotations

import pytest

from cbw.core.broker.limits import Limits
from cbw.core.broker.pulse import DECAY, USUAL_GAP_S, Pulse

LIMITS = Limits(liveness_s=3.0, absence_s=60.0)
IDLE = (0, 0)


def beaten(*times: float, during: tuple[int, int] = IDLE) -> Pulse:
    pulse = Pulse(0.0)
    for at in times:
        pulse.beat(at, during)
    return pulse


@pytest.mark.parametrize(
    ("gap_s", "patience_s"),
    [(0.1, 3.0), (1.0, 3.0), (2.5, 7.5), (10.0, 30.0), (25.0, 60.0)],
)
def test_three_of_its_own_gaps_within_the_limits(gap_s: float, patience_s: float) -> None:
    pulse = beaten(1.0, 1.0 + gap_s)
    assert pulse.patience_s(LIMITS, is_busy=False) == pytest.approx(patience_s)
    assert pulse.patience_s(LIMITS, is_busy=True) == pytest.approx(patience_s)


@pytest.mark.parametrize("times", [(), (1.0,)])
def test_an_unknown_rate_is_taken_for_a_slow_one_while_nobody_waits(times: tuple[float, ...]) -> None:
    pulse = beaten(*times)
    assert pulse.patience_s(LIMITS, is_busy=False) == LIMITS.absence_s
    assert pulse.patience_s(LIMITS, is_busy=True) == 3 * USUAL_GAP_S


def test_a_first_beat_soon_after_the_registration_or_a_task_says_nothing() -> None:
    pulse = Pulse(0.0)
    pulse.beat(0.1, IDLE)
    pulse.beat(0.2, (1, 0))  # a task has come and gone between the two
    pulse.beat(0.3, (2, 0))
    assert pulse.gap_s == 0.0
    pulse.beat(5.3, (2, 0))
    assert pulse.gap_s == pytest.approx(5.0)


def test_a_longer_time_counts_at_once_and_is_forgotten_in_time() -> None:
    pulse = beaten(1.0, 3.5, 23.5)
    assert pulse.gap_s == 20.0
    pulse.beat(26.0, IDLE)
    assert pulse.gap_s == pytest.approx(20.0 * DECAY)
    for beats in range(30):
        pulse.beat(28.5 + 2.5 * beats, IDLE)
    assert pulse.gap_s == pytest.approx(2.5)


def test_two_beats_during_one_task_show_that_it_beats_at_work() -> None:
    pulse = beaten(1.0, 2.0)
    pulse.beat(3.0, (0, 7))  # may have crossed with the task
    pulse.beat(4.0, (1, 8))  # and so may this
    assert not pulse.is_beating_at_work
    pulse.beat(5.0, (1, 8))
    assert pulse.is_beating_at_work
