"""Quantiles of counted values, against those of the sorted list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.core.histogram import Histogram, exactly, to_percent

VALUES = st.lists(st.integers(0, 50), min_size=1, max_size=60)
SHARES = st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0])


def counted(values: list[int]) -> Histogram:
    histogram = Histogram(exactly)
    for value in values:
        histogram.add(value)
    return histogram


@given(VALUES, SHARES)
def test_a_quantile_is_the_smallest_value_that_the_share_does_not_exceed(values: list[int], share: float) -> None:
    rank = max(1, math.ceil(share * len(values) - 1e-9))
    assert counted(values).quantile(share) == sorted(values)[rank - 1]


@given(VALUES, SHARES, st.integers(0, 100))
def test_those_that_are_not_counted_are_zero(values: list[int], share: float, others: int) -> None:
    rank = max(1, math.ceil(share * (len(values) + others) - 1e-9))
    found = counted(values).quantile(share, of=len(values) + others)
    assert found == max(sorted([0] * others + values)[rank - 1], min(values))


def test_of_nothing_there_is_none() -> None:
    assert Histogram(exactly).quantile(0.5) is None


def test_what_is_counted_several_times_at_once() -> None:
    histogram = Histogram(exactly)
    histogram.add(3.0, count=9)
    histogram.add(7.0)
    assert (histogram.count, histogram.total, histogram.longest) == (10, 34.0, 7.0)
    assert (histogram.quantile(0.9), histogram.quantile(0.91)) == (3.0, 7.0)


@given(st.floats(1e-6, 1e6))
def test_values_are_kept_to_a_percent(value: float) -> None:
    assert to_percent(value) == pytest.approx(value, rel=0.01)


def test_a_quantile_is_never_over_the_longest() -> None:
    histogram = Histogram(lambda _: 10.0)
    histogram.add(9.8)
    assert histogram.quantile(1.0) == 9.8
