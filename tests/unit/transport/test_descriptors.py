"""Whether descriptors are left is told once, and when there are some again."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path

import pytest

from cbw.transport.descriptors import (
    LOOK_S,
    SPARE_DESCRIPTORS,
    TOLD_AGAIN_S,
    DescriptorWatch,
    cut_off,
    is_spare,
)


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
    free[0] = 2 * SPARE_DESCRIPTORS - 1
    watch.look(3.0)  # too few to be sure of
    assert len(told) == 1 and "ulimit -n" in told[0]
    free[0] = 100
    watch.look(4.0)
    assert len(told) == 2 and "again" in told[1]
    free[0] = SPARE_DESCRIPTORS
    watch.look(5.0)
    assert len(told) == 2, "not in every second"
    free[0] = SPARE_DESCRIPTORS
    watch.look(2.0 + TOLD_AGAIN_S)
    assert len(told) == 3


def test_the_last_descriptors_are_not_for_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (64, 1024))
    assert [number for number in range(70) if is_spare(number)] == list(range(64 - SPARE_DESCRIPTORS, 70))
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not is_spare(1_000_000)


def test_a_connection_is_cut_off_and_its_descriptor_stays_its_owners() -> None:
    near, far = socket.socketpair()
    with near, far:
        cut_off([near.fileno()])
        assert far.recv(1) == b""
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM, "it is not closed"


def test_what_is_no_connection_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        cut_off([file.fileno(), 1_000_000])
        file.write("x")
