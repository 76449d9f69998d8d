"""Requests with one deadline end together, however many they are and whatever the clock says."""

from __future__ import annotations

import pytest

from cbw.core.messages import Status

from .system import CoreSystem


@pytest.mark.parametrize("began_at", [0.5, 1e6])
def test_all_whose_deadline_has_come_end_in_one_step(began_at: float) -> None:
    system = CoreSystem()
    system.now = began_at
    system.client()
    system.ask(*range(10), ttl=1.0)
    system.ask(10, ttl=1.5)
    system.now += 1.0
    system.tell()
    assert system.answers() == [(number, Status.EXPIRED) for number in range(10)]
    system.now += 0.5
    system.tell()
    assert system.core.requests.count == 0
