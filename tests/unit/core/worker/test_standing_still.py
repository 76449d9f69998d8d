"""A worker whose process did not run for a while says so when it is back: others only see that it was silent."""

from __future__ import annotations

import pytest

from cbw.core.worker.broker_session import WORKER_BEAT_S
from cbw.core.worker.core import OVERSLEPT_S
from cbw.core.worker.events import Order, TellStoodStill

from .sessions import LIVENESS_S, busy, finished, ok, started, welcomed


def told(orders: list[Order]) -> list[TellStoodStill]:
    return [order for order in orders if isinstance(order, TellStoodStill)]


@pytest.mark.parametrize("silence_s", [OVERSLEPT_S + 0.1, LIVENESS_S + 1.0])
def test_it_tells_once_that_it_stood_still(silence_s: float) -> None:
    core = busy(1)
    assert told(core.step([finished(ok(1))], silence_s)) == [TellStoodStill(silence_s, is_busy=True)]
    assert told(core.step([], silence_s + 0.1)) == []


def test_it_knows_whether_a_handler_may_be_the_cause() -> None:
    assert told(welcomed().step([], LIVENESS_S)) == [TellStoodStill(LIVENESS_S, is_busy=False)]


def test_a_beat_that_is_a_little_late_is_nothing() -> None:
    assert told(busy(1).step([], WORKER_BEAT_S + 0.9)) == []


def test_a_worker_without_a_broker_may_sleep() -> None:
    assert told(started().step([], 100.0)) == []
