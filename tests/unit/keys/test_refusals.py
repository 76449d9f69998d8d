"""Who was not let in is told, but not each time."""

from __future__ import annotations

from cbw.keys.refusals import ADDRESSES_MAX, QUIET_S, TEXTS_MAX, RefusedPeers


def test_the_same_is_told_once_in_a_while() -> None:
    refusals = RefusedPeers()
    for tick in range(100):
        refusals.note("10.0.0.1", "no key", tick * 0.05)
    assert refusals.take() == ["10.0.0.1: no key"] and refusals.take() == []
    refusals.note("10.0.0.1", "no key", QUIET_S)
    assert refusals.take() == ["10.0.0.1: no key (100 times since it was last told)"]
    assert refusals.count == 101


def test_another_reason_is_told_at_once() -> None:
    refusals = RefusedPeers()
    refusals.note("10.0.0.1", "no key", 0.0)
    refusals.note("10.0.0.1", "another key", 0.0)
    refusals.note("10.0.0.2", "no key", 0.0)
    assert len(refusals.take()) == 3


def test_a_flood_is_bounded() -> None:
    refusals = RefusedPeers()
    for number in range(3 * ADDRESSES_MAX):
        refusals.note(f"10.0.{number}", "no key", 0.0)
    assert len(refusals.take()) == TEXTS_MAX and len(refusals._told) == ADDRESSES_MAX
    refusals.note("10.1.1.1", "no key", 2 * QUIET_S)
    assert refusals.take() == ["10.1.1.1: no key"] and len(refusals._told) == 1
