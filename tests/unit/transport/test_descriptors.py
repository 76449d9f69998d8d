"""Whether descriptors are left is told once, and when there are some again."""

from __future__ import annotations

import errno
import os

import pytest

from cbw.transport.descriptors import LOOK_S, TOLD_AGAIN_S, DescriptorWatch


def test_it_is_told_once_and_again_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    watch = DescriptorWatch(told.append)
    watch.look(0.0)
    assert watch.look_at == LOOK_S and not told

    real, free = os.open, [0]

    def open_one(*arguments: object) -> int:
        if not free[0]:
            raise OSError(errno.EMFILE, "Too many open files")
        free[0] -= 1
        return real(os.devnull, os.O_RDONLY)

    monkeypatch.setattr("os.open", open_one)
    watch.look(1.0)
    watch.look(2.0)
    free[0] = 3
    watch.look(3.0)  # too few to be sure of
    assert len(told) == 1 and "ulimit -n" in told[0]
    free[0] = 100
    watch.look(4.0)
    assert len(told) == 2 and "again" in told[1]
    free[0] = 0
    watch.look(5.0)
    assert len(told) == 2, "not in every second"
    watch.look(2.0 + TOLD_AGAIN_S)
    assert len(told) == 3
