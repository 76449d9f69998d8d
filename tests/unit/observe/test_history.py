"""What the page of a broker shows of the minutes before, within bounds."""

from __future__ import annotations

from typing import Any

from cbw.core.broker.snapshot import snapshot
from cbw.observe.history import (
    LOST_MAX,
    MAP_LOST_S,
    MAP_WORKERS_MAX,
    SAMPLES_MAX,
    STREAM_MAX,
    STREAM_WORKERS_MAX,
    History,
)
from cbw.observe.inquiry import status_of
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


def lost(name: str, ago_s: float) -> dict[str, Any]:
    return {"event": "worker_lost", "worker": name, "ago_s": ago_s}


def test_busy_late_comers_are_in_both_pictures_and_so_are_the_lost() -> None:
    system, history = CoreSystem(), History()
    for number in range(1000):
        system.worker(f"W{number}")
    history.sample(status(system), system.now)
    told = status(system)
    busy = told["workers"][998:]
    for row in busy:
        row.update(at="C1/1", at_service="s", at_s=0.2, in_hand=1, state="busy")
    history.sample(told, system.now + 1.0)
    shown = history.shown(system.now + 1.0)
    names = {row["worker"] for row in busy}
    assert names <= set(shown["rows"]["stream"]) and names <= set(shown["rows"]["map"])
    assert names <= shown["stream"][-1][1].keys()
    assert len(shown["rows"]["stream"]) == STREAM_WORKERS_MAX and len(shown["rows"]["map"]) == MAP_WORKERS_MAX
    gone = busy[0]["worker"]
    told["workers"].remove(busy[0])
    history.sample(told, system.now + 2.0, [lost(gone, 0.5)])
    shown = history.shown(system.now + 2.0)
    assert gone in shown["rows"]["stream"] and gone in shown["rows"]["map"] and shown["lost"] == {gone: 0.5}
    history.sample(told, system.now + 2.0 + MAP_LOST_S)  # the event is no longer among the last
    shown = history.shown(system.now + 2.0 + MAP_LOST_S)
    assert gone in shown["rows"]["stream"] and gone not in shown["rows"]["map"]
    history.sample(told, system.now + 62.0)
    assert gone not in history.shown(system.now + 62.0)["rows"]["stream"]
    assert history.shown(system.now + 62.0)["lost"] == {}


def test_a_worker_that_answered_too_late_is_in_the_pictures() -> None:
    system, history = CoreSystem(), History()
    for number in range(50):
        system.worker(f"W{number}")
    history.sample(status(system), system.now)
    history.sample(status(system), system.now + 1.0, [{"event": "fenced", "worker": "W49", "ago_s": 0.1}])
    assert "W49" in history.shown(0.0)["rows"]["stream"] and "W49" in history.shown(0.0)["rows"]["map"]


def test_the_lost_are_bounded_and_leave_room_for_others() -> None:
    system, history = CoreSystem(), History()
    for number in range(100):
        system.worker(f"W{number}")
    history.sample(status(system), system.now, [lost(f"L{number}", number / 1000) for number in range(2 * LOST_MAX)])
    shown = history.shown(system.now)
    assert len(shown["lost"]) == LOST_MAX
    rows = shown["rows"]["stream"]
    assert len([name for name in rows if name.startswith("L")]) == len(rows) / 2 == STREAM_WORKERS_MAX / 2


def test_a_broker_that_stands_by_has_none() -> None:
    history = History()
    history.sample(status_of("standby", "B", 0.0, "it waits"), 1.0)
    assert history.shown(2.0)["history"]["waiting"] == []
