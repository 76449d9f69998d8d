"""Child processes that cannot start are not tried for ever at full speed."""

from __future__ import annotations

from cbw.core.worker.child_starts import START_RETRY_MAX_S, START_RETRY_S, ChildStarts


def tries(starts: ChildStarts, slots: int, until: float) -> list[float]:
    """When children are started, none of which becomes ready, if so many slots are empty at time 0."""
    found = []
    now = 0.0
    for _ in range(slots):
        starts.failed(now)
    while now < until:
        for _ in range(slots):
            if not starts.take_turn(now):
                found.append(now)
                starts.failed(now)
        now += 0.25
    return found


def test_a_child_may_be_started_at_once_if_none_has_failed() -> None:
    starts = ChildStarts()
    assert starts.take_turn(0.0) == 0.0
    assert starts.take_turn(0.0) == 0.0


def test_one_is_tried_at_a_time_after_twice_the_time_each_time() -> None:
    assert tries(ChildStarts(), 20, 10.0) == [0.5, 1.5, 3.5, 7.5]


def test_it_is_tried_for_ever() -> None:
    found = tries(ChildStarts(), 2, 300.0)
    assert found[-1] - found[-2] == START_RETRY_MAX_S


def test_others_may_start_when_one_is_ready() -> None:
    starts = ChildStarts()
    starts.failed(0.0)
    assert starts.take_turn(0.1) == START_RETRY_S - 0.1
    assert starts.take_turn(START_RETRY_S) == 0.0
    assert starts.take_turn(START_RETRY_S) > 0.0
    starts.succeeded()
    assert starts.take_turn(START_RETRY_S) == 0.0


def test_a_line_for_each_try() -> None:
    starts = ChildStarts()
    assert [starts.failed(0.0) for _ in range(3)] == [True, False, False]
    starts.take_turn(START_RETRY_S)
    assert [starts.failed(1.0) for _ in range(2)] == [True, False]
