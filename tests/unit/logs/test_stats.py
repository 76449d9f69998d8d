"""Figures of a period, against those that a log was made with."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from cbw.core import catalogue
from cbw.core.histogram import Histogram, to_percent
from cbw.core.record import Record
from cbw.logs.files import opened
from cbw.logs.search import Query
from cbw.logs.stats import SLOW_ANSWERS_MIN, ClientFigures, Stats, figures_of, stats_of

from .log import START, life, written


def stats(path: Path, since: float = 0.0, until: float = 9e9) -> Stats:
    with opened(path) as parts:
        return stats_of(parts, Query(since, until))


def test_figures(tmp_path: Path) -> None:
    """A request that was refused and sent again counts once, as what has become of it in the end."""
    answered = [
        record
        for number in range(100)
        for record in life(number, START + number, worker=f"W{number % 2}", took=0.06 * (number + 1))
    ]
    of_broker = partial(Record, role="broker", sender="BRO", request="C2/1", client="C2")
    others: list[Record | bytes] = [
        of_broker(START + 200, catalogue.ACCEPTED),
        of_broker(START + 200, catalogue.HANDED_OUT, worker="W0", task=1001, attempt=1),
        Record(START + 201, catalogue.WORKER_LOST, role="broker", sender="BRO", worker="W0"),
        of_broker(START + 201, catalogue.ATTEMPT_FAILED, worker="W0", task=1001, attempt=1),
        of_broker(START + 202, catalogue.HANDED_OUT, worker="W1", task=1002, attempt=2),
        of_broker(START + 203, catalogue.FAILED, worker="W1", task=1002, attempt=2, text="ValueError: no"),
        Record(START + 203, catalogue.FENCED, role="broker", sender="BRO", worker="W0", task=1001),
        Record(START + 204, catalogue.REFUSED, role="broker", sender="BRO", request="C2/2", client="C2"),
        Record(START + 204, catalogue.REFUSED, role="broker", sender="BRO", request="C2/2", client="C2"),
        Record(START + 204, catalogue.REFUSED, role="broker", sender="BRO", request="C3/1", client="C3"),
        Record(START + 204, catalogue.REFUSED, role="broker", sender="BRO", client="C3", text="duplicate id"),
        Record(START + 205, catalogue.ACCEPTED, role="broker", sender="BRO", request="C3/1", client="C3"),
        Record(START + 206, catalogue.GAP, role="logger", sender="LOG", count=17),
        b"text\n",
    ]
    path = written(tmp_path / "logs", answered, others)
    found = stats(path)
    assert (found.requests, found.answered, found.open) == (103, 100, 1)
    assert found.failed == {"failed": 1, "refused": 1}
    assert (found.attempts_lost, found.gaps, found.text_lines, found.records) == (1, 17, 1, 713)
    counts = {name: (one.done, one.errors, one.lost, one.fenced, one.went) for name, one in found.workers.items()}
    assert counts == {"W0": (50, 0, 1, 1, 1), "W1": (50, 1, 0, 0, 0)}
    # From handed out to answered three of the six steps pass: 0.03 s, 0.09 s, …, 2.97 s with W0.
    assert found.workers["W0"].took_s == pytest.approx({"p50": 1.47, "p90": 2.67, "p99": 2.97, "max": 2.97}, rel=0.05)
    assert found.services["echo"].answered == 100 and found.services["echo"].latency_s == found.latency_s
    assert found.services["echo"].took_s["max"] == pytest.approx(3.0)
    assert (found.services[""].answered, found.services[""].failed) == (0, 2)
    assert found.slow == []
    assert found.clients == {
        "C1": ClientFigures(100, 100, 0),
        "C2": ClientFigures(2, 0, 2),
        "C3": ClientFigures(1, 0, 0),
    }
    # From accepted to answered four of the six steps pass: 0.04 s, 0.08 s, …, 4 s.
    assert found.latency_s == pytest.approx({"p50": 2.0, "p90": 3.6, "p99": 3.96, "max": 4.0}, rel=0.01)
    assert (found.since, found.until) == (START, START + 206)
    late = stats(path, START + 150)
    assert (late.requests, late.answered, late.gaps) == (3, 0, 17)
    assert late.latency_s == {"p50": None, "p90": None, "p99": None, "max": None}
    assert stats(path, START + 1000).since is None


def test_a_record_that_was_cut_out_is_missed(tmp_path: Path) -> None:
    """A gap that the logger tells of is no news, and in a period the first and the last records say nothing."""
    told = [Record(START + 9, catalogue.GAP, role="logger", sender="LOG", count=2)]
    records = [record for number in range(1, 10) for record in life(number, START + number)]
    for cut, gaps, missing in (([], [], 0), ([20], [], 1), ([20, 21], told, 0), ([20, 21, 30], told, 1)):
        path = written(tmp_path / "logs", [record for at, record in enumerate(records) if at not in cut] + gaps)
        with opened(path) as parts:
            assert stats_of(parts, Query()).missing == missing, cut
        assert stats(path).missing == 0, "it is of a period"


def served(worker: str, count: int, took: float, *, service: str = "echo", first: int = 0) -> list[Record]:
    """Records of that many requests, each answered ``took`` seconds after its handing out."""
    records = [
        record
        for number in range(first, first + count)
        for record in life(number, START + number, worker=worker, took=2 * took)
    ]
    for record in records:
        record.service = service
    return records


def test_the_slow_worker_is_named(tmp_path: Path) -> None:
    """Slow is who takes twice as long as the others for the same service: another service may take longer."""
    records = [
        *served("W1", 30, 0.1),
        *served("W2", 30, 0.11, first=100),
        *served("W3", 30, 0.35, first=200),
        *served("W4", 30, 5.0, service="render", first=300),
        *served("W5", 30, 5.5, service="render", first=400),
        *served("W5", 30, 0.1, first=500),
    ]
    found = stats(written(tmp_path / "logs", records))
    (slow,) = found.slow
    assert (slow.worker, slow.service) == ("W3", "echo")
    assert slow.p50_s == pytest.approx(0.35, rel=0.01)
    assert slow.others_p50_s == pytest.approx(0.1, rel=0.02), "the median of W1, W2 and W5"
    assert found.workers["W3"].took_s["p50"] == pytest.approx(0.35, rel=0.01)
    assert found.services["render"].took_s["p99"] == pytest.approx(5.5, rel=0.01)


def test_nobody_is_called_slow_by_chance(tmp_path: Path) -> None:
    few = [*served("W1", 30, 0.1), *served("W2", SLOW_ANSWERS_MIN - 1, 0.9, first=100)]
    assert stats(written(tmp_path / "few", few)).slow == []
    alone = served("W1", 30, 9.0)
    assert stats(written(tmp_path / "alone", alone)).slow == []


def test_an_attempt_that_was_lost_is_not_timed(tmp_path: Path) -> None:
    of_broker = partial(Record, role="broker", sender="BRO", request="C1/1", client="C1", service="s")
    records = [
        of_broker(START, catalogue.ACCEPTED),
        of_broker(START, catalogue.HANDED_OUT, worker="W1", task=1, attempt=1),
        of_broker(START + 50, catalogue.ATTEMPT_FAILED, worker="W1", task=1, attempt=1),
        of_broker(START + 50, catalogue.HANDED_OUT, worker="W2", task=2, attempt=2),
        of_broker(START + 51, catalogue.ANSWERED, worker="W2", task=2, attempt=2),
    ]
    found = stats(written(tmp_path / "logs", records))
    assert found.workers["W1"].took_s["p50"] is None
    assert found.workers["W2"].took_s["max"] == 1.0
    assert (found.services["s"].latency_s["max"], found.services["s"].took_s["max"]) == (51.0, 1.0)


def test_a_broker_that_starts_anew_has_forgotten_what_was_open(tmp_path: Path) -> None:
    records = [
        Record(START, catalogue.ACCEPTED, role="broker", sender="B1", request="C1/1", client="C1"),
        Record(START, catalogue.ACCEPTED, role="broker", sender="B2", request="C1/1", client="C1"),
        Record(START + 1, catalogue.STARTED, role="broker", sender="B1"),
    ]
    assert stats(written(tmp_path / "logs", records)).open == 1


def test_quantiles_are_good_to_a_percent() -> None:
    draw = random.Random(3)
    durations = sorted(10 ** draw.uniform(-5, 2) for _ in range(10_000))
    latencies = Histogram(to_percent)
    for seconds in durations:
        latencies.add(seconds)
    found = figures_of(latencies)
    assert found["p50"] == pytest.approx(durations[4999], rel=0.01)
    assert found["p99"] == pytest.approx(durations[9899], rel=0.01)
    assert found["max"] == pytest.approx(durations[-1], rel=1e-3)
