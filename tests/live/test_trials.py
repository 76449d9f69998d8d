"""What ``cbw verify --compose`` finds out of a deployment, from real processes; only Docker's time stamps are made here."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cbw.errors import NotReady
from cbw.verify.compose import BROKER_SERVICE, WORKER_SERVICE, Deployment
from cbw.verify.trials import WORK_S_MIN, Trials

from .conftest import HOST, Broker, Start
from .program import Program

WORKERS = 3
LATE_S = 0.9
FIRST = re.compile(r" begins VERIFY_\w+/1$")
"""The line for the first request of a client of the verification."""


class Stream:
    """The lines of a process, each with the time at which Docker took it; first requests are taken ``late_s`` late."""

    def __init__(self, program: Program, late_s: float) -> None:
        self._program = program
        self._late_s = late_s
        self._is_closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        while not self._is_closed.wait(0.005):
            for text in self._program.lines[count:]:
                count += 1
                late_s = self._late_s if FIRST.search(text) else 0.0
                at = datetime.now(UTC) + timedelta(seconds=late_s)
                yield f"{at.isoformat()} {text}\n".encode()

    def close(self) -> None:
        self._is_closed.set()


class Container:
    """A process as the Docker SDK would show it."""

    def __init__(self, program: Program, late_s: float) -> None:
        self.id = self.name = str(program.pid)
        self._stream = Stream(program, late_s)

    def logs(self, **_: Any) -> Stream:
        return self._stream


class Processes:
    """A deployment of processes, as far as :meth:`Trials.meet` looks at one."""

    def __init__(self, broker: Broker, workers: list[Program], late_s: float) -> None:
        self._broker = broker
        self._services = {
            BROKER_SERVICE: [Container(broker.program, 0.0)],
            WORKER_SERVICE: [Container(worker, late_s) for worker in workers],
        }

    def containers(self, service: str) -> list[Container]:
        return self._services.get(service, [])

    def addresses(self) -> list[str]:
        return [self._broker.address]


def trials(start: Start, broker: Broker, folder: Path, *, work_s: float, late_s: float = 0.0) -> Trials:
    workers = [
        start("worker", f"W{number}", HOST, broker.worker_port, "--work-time", work_s) for number in range(WORKERS)
    ]
    broker.program.wait_for("worker ready", count=WORKERS)
    deployment = cast(Deployment, Processes(broker, workers, late_s))
    return Trials(str(folder), deployment, print, timeout_s=10.0)


def test_lines_that_docker_takes_late_do_not_make_workers_look_too_quick(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    with trials(start, broker, tmp_path, work_s=0.5, late_s=LATE_S) as those:
        those.meet()


def test_workers_that_are_too_quick_to_be_hurt(start: Start, broker: Broker, tmp_path: Path) -> None:
    with (
        trials(start, broker, tmp_path, work_s=WORK_S_MIN / 4) as those,
        pytest.raises(NotReady, match="too soon to be hurt"),
    ):
        those.meet()
