"""Latencies by service: nothing is counted twice or missed, whenever somebody looks, and services have a bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.core import service_latencies
from cbw.core.histogram import BOUNDS_S
from cbw.core.service_latencies import RECENT_COUNT_MAX, UNCOUNTED_MAX, CountedLatencies, ServiceLatencies


def shown(latencies: ServiceLatencies) -> dict[str, dict[str, Any]]:
    """What is shown of each service; of the others under their name in metrics."""
    told = latencies.look().shown("calls")
    rows = {row["service"]: row for row in told["service_durations"]}
    return {**rows, "(others)": told["other_durations"]}


def counts(latencies: ServiceLatencies) -> dict[str, int]:
    """How many were counted of each service that has any."""
    found = {service: sum(row["calls"]["counts"]) for service, row in shown(latencies).items()}
    return {service: count for service, count in found.items() if count}


def test_what_is_shown_are_buckets_a_sum_and_quantiles() -> None:
    latencies = ServiceLatencies()
    latencies.add({"s": [0.003, 0.3, 0.004]})
    row = shown(latencies)["s"]
    assert row["calls"]["counts"][BOUNDS_S.index(0.005)] == 2 and row["calls"]["counts"][BOUNDS_S.index(0.5)] == 1
    assert row["calls"]["total_s"] == pytest.approx(0.307)
    assert 0.002 < row["p50_s"] <= 0.005 < 0.2 < row["p99_s"] <= 0.5
    assert shown(latencies)["(others)"]["p50_s"] is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 4), st.booleans()), max_size=30))
def test_however_it_is_counted_and_whenever_somebody_looks(steps: list[tuple[str, int, bool]]) -> None:
    latencies = ServiceLatencies()
    wanted: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_latencies, "UNCOUNTED_MAX", 5)
        patch.setattr(service_latencies, "TIMED_SERVICES_MAX", 2)
        for service, count, is_looked_at in steps:
            latencies.add({service: [0.1] * count})
            place = service if service in wanted or len(wanted.keys() - {"(others)"}) < 2 else "(others)"
            wanted[place] = wanted.get(place, 0) + count
            if is_looked_at:
                assert counts(latencies) == wanted
        assert counts(latencies) == wanted


def test_what_nobody_looks_at_does_not_pile_up() -> None:
    latencies = ServiceLatencies()
    latencies.add({"s": [0.1] * (UNCOUNTED_MAX - 1)})
    assert len(latencies.remembered["s"]) == UNCOUNTED_MAX - 1
    latencies.add({"s": [0.1]})
    assert not latencies.remembered and counts(latencies) == {"s": UNCOUNTED_MAX}


def test_what_was_looked_at_does_not_change() -> None:
    """Another thread reads it meanwhile."""
    latencies = ServiceLatencies()
    latencies.add({"s": [0.1]})
    latencies.count()
    before = latencies.look()
    latencies.add({"s": [0.1] * UNCOUNTED_MAX, "t": [0.1]})
    (row,) = before.shown("calls")["service_durations"]
    assert sum(row["calls"]["counts"]) == 1


def test_quantiles_are_those_of_late() -> None:
    latencies = ServiceLatencies()
    for _ in range(10 * RECENT_COUNT_MAX // 100):
        latencies.add({"s": [0.0015] * 100})
    for _ in range(2 * RECENT_COUNT_MAX // 100):
        latencies.add({"s": [1.5] * 100})
    row = shown(latencies)["s"]
    assert row["p50_s"] > 1.0, "it has become slow"
    assert row["calls"]["counts"][BOUNDS_S.index(0.002)] == 10 * RECENT_COUNT_MAX


def test_services_that_are_known_are_shown_before_they_are_used() -> None:
    assert list(shown(ServiceLatencies(["render", "price"]))) == ["render", "price", "(others)"]


def test_those_of_several_together_have_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_latencies, "TIMED_SERVICES_MAX", 3)
    one, other = ServiceLatencies("ab"), ServiceLatencies("cde")
    one.add({"a": [0.1], "b": [0.1], "x": [0.1], "y": [0.1]})
    other.add({service: [0.1] for service in "cde"})
    told = CountedLatencies.together([one.look(), other.look()]).shown("calls")
    assert [row["service"] for row in told["service_durations"]] == ["a", "b", "x"]
    assert sum(told["other_durations"]["calls"]["counts"]) == 4, "y, c, d, e"
    assert told["other_durations"]["calls"]["total_s"] == pytest.approx(0.4)
    assert counts(one) == {"a": 1, "b": 1, "x": 1, "(others)": 1}, "and they are as before"
