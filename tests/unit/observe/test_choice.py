"""Which workers the pictures of the page show, when there are more than rows."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.observe.choice import HOLD_S, Rank, Urgency, WorkerChoice, urgencies

IDLE, BUSY, LATE, LOST = Urgency(Rank.IDLE), Urgency(Rank.BUSY), Urgency(Rank.LATE), Urgency(Rank.LOST)


def slow(at_s: float) -> Urgency:
    return Urgency(Rank.SLOW, -at_s)


def worker(name: str, at_s: float | None = None, state: str = "") -> dict[str, Any]:
    return {"worker": name, "at": None if at_s is None else "C1/1", "at_s": at_s, "state": state}


def test_urgency_is_lost_then_late_then_slow_then_busy_then_idle() -> None:
    rows = [
        worker("idle"),
        worker("quick"),
        worker("busy", 0.5),
        worker("slow", 2.0),
        worker("slower", 3.0),
        worker("fenced"),
        worker("late", 9.0, "late"),
        worker("back"),
    ]
    found = urgencies(rows, {"quick"}, {"gone": 1.0, "back": 2.0}, {"fenced"}, 40)
    assert sorted(found, key=found.__getitem__) == [
        "gone", "back", "late", "fenced", "slower", "slow", "quick", "busy", "idle",
    ]  # fmt: skip


@pytest.mark.parametrize(("rows_max", "lost", "late"), [(40, 20, 0), (1000, 100, 100), (300, 100, 50)])
def test_lost_and_late_workers_get_half_of_the_rows(rows_max: int, lost: int, late: int) -> None:
    rows = [worker(f"L{number}", 9.0, "late") for number in range(100)]
    found = urgencies(rows, (), {f"G{number}": float(number) for number in range(100)}, (), rows_max)
    ranks = [urgency.rank for urgency in found.values()]
    assert (ranks.count(Rank.LOST), ranks.count(Rank.LATE), ranks.count(Rank.SLOW)) == (lost, late, 100 - late)
    assert {f"G{number}" for number in range(lost)} <= found.keys(), "the newest losses"


def test_late_comers_that_are_busy_take_the_rows_of_idle_workers_at_once() -> None:
    choice, idle = WorkerChoice(4), {f"W{number}": IDLE for number in range(6)}
    assert choice.choose(idle, 0.0) == ["W0", "W1", "W2", "W3"]
    assert choice.choose({**idle, "B1": BUSY, "B2": slow(2.0)}, 1.0) == ["W0", "W1", "B1", "B2"]


def test_a_worker_keeps_its_row() -> None:
    choice, idle = WorkerChoice(3), dict.fromkeys("abcdef", IDLE)
    choice.choose({**idle, "e": BUSY}, 0.0)
    assert choice.choose({**idle, "e": BUSY}, 1.0) == ["e", "a", "b"]
    assert choice.choose({**idle, "b": slow(5.0)}, 2.0) == ["e", "a", "b"]
    del idle["a"]
    assert choice.choose(idle, 3.0) == ["e", "c", "b"], "who comes takes the row of who is gone"


def test_a_worker_that_showed_something_stays_for_some_seconds() -> None:
    choice, idle = WorkerChoice(1), {"a": IDLE, "b": IDLE}
    assert choice.choose({**idle, "b": BUSY}, 0.0) == ["b"]
    assert choice.choose({**idle, "a": slow(9.0)}, HOLD_S - 0.1) == ["b"]
    assert choice.choose({**idle, "a": slow(9.0)}, HOLD_S) == ["a"]


def test_busy_workers_do_not_take_turns_but_give_way_to_slower_ones() -> None:
    choice = WorkerChoice(1)
    assert choice.choose({"a": BUSY, "b": BUSY}, 0.0) == ["a"]
    assert choice.choose({"b": BUSY, "a": BUSY}, 100.0) == ["a"]
    assert choice.choose({"b": slow(2.0), "a": BUSY}, 101.0) == ["a"], "it has been seen busy just now"
    assert choice.choose({"b": slow(20.0), "a": IDLE}, 110.0) == ["b"]
    assert choice.choose({"b": slow(20.0), "a": slow(19.0)}, 120.0) == ["b"]


def test_a_lost_worker_does_not_wait_for_a_row() -> None:
    choice, busy = WorkerChoice(3), {"a": slow(3.0), "b": slow(2.0), "c": BUSY}
    choice.choose(busy, 0.0)
    assert choice.choose({**busy, "L": LOST}, 0.5) == ["a", "b", "L"]
    assert choice.choose({**busy, "L": LOST, "R": LATE}, 0.6) == ["a", "R", "L"]
    assert choice.choose({**busy, "L": LOST, "M": LOST, "N": LOST, "O": LOST}, 0.7) == ["N", "M", "L"]


def test_none_is_shown_of_nobody() -> None:
    choice = WorkerChoice(2)
    choice.choose({"a": BUSY}, 0.0)
    assert choice.choose({}, 1.0) == []
