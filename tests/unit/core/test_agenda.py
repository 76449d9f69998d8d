"""Timers: each is done once, in time, in order, however often it was moved."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cbw.core.agenda import Agenda


def test_nothing_is_due_without_a_timer() -> None:
    assert Agenda().wake_at == math.inf


def test_what_is_due_is_done_once_and_in_order() -> None:
    agenda, done = Agenda(), list[str]()
    late = agenda.timer(lambda now: done.append("late"))
    early = agenda.timer(lambda now: done.append("early"))
    late.set(2.0)
    early.set(1.0)
    assert agenda.wake_at == 1.0
    agenda.run(0.5)
    assert done == []
    agenda.run(3.0)
    agenda.run(4.0)
    assert done == ["early", "late"] and agenda.wake_at == math.inf


def test_a_timer_that_sets_itself_is_done_once_in_each_run() -> None:
    agenda, done = Agenda(), list[float]()

    def again(now: float) -> None:
        done.append(now)
        timer.set(now)

    timer = agenda.timer(again)
    timer.set(1.0)
    agenda.run(1.0)
    agenda.run(2.0)
    assert done == [1.0, 2.0]


def test_set_by_never_puts_off() -> None:
    timer = Agenda().timer(lambda now: None)
    timer.set_by(2.0)
    timer.set_by(3.0)
    assert timer.at == 2.0
    timer.set_by(1.0)
    assert timer.at == 1.0


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 9)))))
def test_the_earliest_time_counts_whatever_was_moved(moves: list[tuple[int, int | None]]) -> None:
    agenda = Agenda()
    timers = [agenda.timer(lambda now: None) for _ in range(3)]
    for number, at in moves:
        if at is None:
            timers[number].clear()
        else:
            timers[number].set(float(at))
        assert agenda.wake_at == min(timer.at for timer in timers)


def test_moving_one_timer_a_million_times_takes_no_memory() -> None:
    agenda = Agenda()
    timer = agenda.timer(lambda now: None)
    for at in range(10_000):
        timer.set(float(at + 1))
        assert agenda.wake_at <= at + 1
    assert len(agenda._entries) == 1
