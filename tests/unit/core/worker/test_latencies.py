"""How long handlers took: what the worker's core counts of what its pool tells."""

from __future__ import annotations

from cbw.core.worker.events import HandlerCalled, TasksFinished, TasksOverdue

from .sessions import busy, ok


def test_counts_how_long_handlers_took_also_those_that_are_answered_before_they_end() -> None:
    core = busy(1, 2, concurrency=2)
    core.step([TasksFinished([ok(1)], 0.2, {"": [0.2]})], 0.3)
    core.step([HandlerCalled(2, 0.5)], 0.3)
    core.step([TasksOverdue([ok(2)])], 0.9)
    core.step([TasksFinished([ok(2)], 3.0, {"": [3.0]})], 4.0)
    (row,) = core.latencies.look().shown("handlers")["service_durations"]
    assert (row["service"], sum(row["handlers"]["counts"]), row["handlers"]["total_s"]) == ("", 2, 3.2)
