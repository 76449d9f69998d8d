"""When a client that was refused should come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.core.broker.pace import PACE_SAMPLE_S, RETRY_MAX_S, RETRY_MIN_S, USUAL_S, Pace


def pace_at(rate: float, *, seconds: float = 3.0, start: float = 100.0) -> tuple[Pace, int, float]:
    """A pace that has seen ``rate`` requests end in each of ``seconds``, and how many have ended by when."""
    pace, steps = Pace(), int(seconds * 100)
    for step in range(steps + 1):
        now, ended = start + step / 100, int(rate * step / 100)
        if now >= pace.sample_at:
            pace.sample(ended, now)
    return pace, ended, now


def test_one_that_is_refused_comes_back_when_a_request_will_have_ended() -> None:
    pace, ended, now = pace_at(rate=4.0)
    assert pace.retry_after_s(ended, 1, now) == pytest.approx(0.25, rel=0.1)


def test_the_further_over_the_limit_the_later() -> None:
    pace, ended, now = pace_at(rate=100.0)
    assert pace.retry_after_s(ended, 300, now) == pytest.approx(3.0, rel=0.1)


def test_those_that_are_refused_together_come_back_one_after_the_other() -> None:
    pace, ended, now = pace_at(rate=100.0)
    hints = [pace.retry_after_s(ended, 1, now) for _ in range(100)]
    assert hints == sorted(hints)
    assert hints[-1] == pytest.approx(1.0, rel=0.1)


def test_places_that_nobody_took_are_forgotten_with_time() -> None:
    pace, ended, now = pace_at(rate=100.0)
    for _ in range(10_000):
        pace.retry_after_s(ended, 1, now)
    assert pace.retry_after_s(ended, 1, now) == RETRY_MAX_S
    assert pace.retry_after_s(ended, 1, now + 2 * RETRY_MAX_S) < 1.0


def test_where_nothing_ends_the_hint_grows() -> None:
    pace, ended, now = pace_at(rate=0.0)
    hint = pace.retry_after_s(ended, 1, now)
    assert PACE_SAMPLE_S <= hint <= RETRY_MAX_S


def test_a_flood_after_a_long_silence_is_judged_by_what_was_measured_before_it() -> None:
    pace, ended, now = pace_at(rate=200.0)
    now += 3600
    pace.sample(ended, now)
    assert pace.retry_after_s(ended, 20, now + 0.001) == pytest.approx(0.1, rel=0.1)


def test_the_first_flood_is_judged_by_a_guess() -> None:
    pace = Pace()
    pace.sample(0, 100.0)
    assert pace.retry_after_s(0, 1, 100.0) == RETRY_MIN_S
    assert pace.retry_after_s(0, 500, 100.0) == pytest.approx(500 * USUAL_S)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 1000), st.floats(0, 1e9)), max_size=30))
def test_the_hint_is_within_its_bounds(steps: list[tuple[float, int, float]]) -> None:
    pace, now, ended = Pace(), 1000.0, 0
    for seconds, count, excess in steps:
        now, ended = now + seconds, ended + count
        if now >= pace.sample_at:
            pace.sample(ended, now)
        assert RETRY_MIN_S <= pace.retry_after_s(ended, excess, now) <= RETRY_MAX_S + 1e-6
