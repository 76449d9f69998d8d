"""What the page of a broker shows of the minutes before, within bounds."""

from __future__ import annotations

from typing import Any

from cbw.core.broker.snapshot import snapshot
from cbw.observe.history import SAMPLES_MAX, STREAM_MAX, STREAM_WORKERS_MAX, History
from cbw.observe.status import status_of
from tests.unit.core.broker.system import CoreSystem


def status(system: CoreSystem) -> dict[str, Any]:
    return status_of("broker", "B", 0.0, "", **snapshot(system.core, system.now))


def test_it_tells_of_rates_times_and_what_each_worker_was_at() -> None:
    system, history = CoreSystem(), History()
    system.client("C1")
    system.worker("W1")
    history.sample(status(system), system.now)
    system.ask(1, 2, 3)
    system.wait(0.5, "W1")
    system.answer_all("W1")
    system.wait(0.5, "W1")
    history.sample(status(system), system.now)
    history.sample(status(system), system.now + 0.1)  # too soon
    shown = history.shown(system.now + 2.0)
    assert shown["history"]["waiting"] == [0, 1] and shown["history"]["running"] == [0, 1]
    assert shown["history"]["rate"] == [0.0, 1.0]
    assert shown["history"]["p50_s"][0] is None and 0.2 < shown["history"]["p50_s"][1] <= 0.5
    assert 0.2 < shown["p50_s"] <= 0.5
    when, known = shown["stream"][-1]
    at, service, at_s, answered = known["W1"]
    assert (when["ago"], at, service, answered) == (2.0, "C1/2", "s", 1) and 0.4 < at_s < 0.6


def test_it_is_bounded() -> None:
    system, history = CoreSystem(), History()
    for number in range(STREAM_WORKERS_MAX + 5):
        system.worker(f"W{number}")
    told = status(system)
    for second in range(SAMPLES_MAX + 100):
        history.sample(told, float(second))
    shown = history.shown(800.0)
    assert {len(values) for values in shown["history"].values()} == {SAMPLES_MAX}
    assert len(shown["stream"]) == STREAM_MAX
    assert {len(known) for _, known in shown["stream"]} == {STREAM_WORKERS_MAX}


def test_a_broker_that_stands_by_has_none() -> None:
    history = History()
    history.sample(status_of("standby", "B", 0.0, "it waits"), 1.0)
    assert history.shown(2.0)["history"]["waiting"] == []
