"""How soon a connection is made again that somebody accepts and drops."""

from __future__ import annotations

from cbw.transport.reconnects import FAILURES_PER_STEP, SHORT_S, ReconnectPace
from cbw.transport.sockets import RECONNECT_MAX_MS, RECONNECT_MS


def failed(pace: ReconnectPace, times: int) -> list[int]:
    """The intervals after each of so many connections over which nobody has talked."""
    intervals = []
    for _ in range(times):
        pace.lost(0.0)
        intervals.append(pace.interval_ms)
    return intervals


def test_the_pace_slows_down_to_that_of_a_port_that_refuses() -> None:
    intervals = failed(ReconnectPace(), 20)
    assert intervals[: FAILURES_PER_STEP - 1] == [RECONNECT_MS] * (FAILURES_PER_STEP - 1)
    assert intervals == sorted(intervals)
    assert intervals[-1] == RECONNECT_MAX_MS


def test_a_connection_that_lasted_makes_the_next_one_quick_again() -> None:
    pace = ReconnectPace()
    failed(pace, 20)
    pace.made(1.0)
    pace.lost(1.0 + SHORT_S)
    assert pace.interval_ms == RECONNECT_MS


def test_one_that_is_dropped_at_once_does_not() -> None:
    pace = ReconnectPace()
    failed(pace, 20)
    pace.made(1.0)
    pace.lost(1.0 + SHORT_S / 2)
    assert pace.interval_ms == RECONNECT_MAX_MS
