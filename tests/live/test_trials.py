"""What ``cbw verify --compose`` finds out of a deployment, from real processes; only Docker's time stamps are made here."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cbw.core import catalogue
from cbw.errors import NotReady
from cbw.observe.trace import read
from cbw.transport.resolver import Resolver, endpoint_of
from cbw.verify.caller import CALLERS
from cbw.verify.checks import judge
from cbw.verify.deployment import BROKER_SERVICE, WORKER_SERVICE, Deployment
from cbw.verify.scenario import merged
from cbw.verify.trials import WORK_S_MIN, Trials

from .conftest import HOST, Broker, Start, StartBroker
from .program import Program

WORKERS = 3
LATE_S = 0.9
FIRST = re.compile(r" begins VERIFY_\w+/1$")
"""The line for the first request of a client of the verification."""
UNDER_LOAD = re.compile(r" begins VERIFY_\w+/5$")
"""The line for a request of the first load."""


class Stream:
    """The lines of a process, each with the time at which Docker took it; those that match ``late`` are taken late."""

    def __init__(self, program: Program, late: re.Pattern[str] | None) -> None:
        self.program = program
        self._late = late
        self._is_closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        while not self._is_closed.wait(0.005):
            for text in self.program.lines[count:]:
                count += 1
                late_s = LATE_S if self._late and self._late.search(text) else 0.0
                at = datetime.now(UTC) + timedelta(seconds=late_s)
                yield f"{at.isoformat()} {text}\n".encode()

    def close(self) -> None:
        self._is_closed.set()


class Container:
    """A process as the Docker SDK would show it."""

    def __init__(self, program: Program, late: re.Pattern[str] | None = None) -> None:
        self.id = self.name = str(program.pid)
        self._stream = Stream(program, late)

    def logs(self, *, stream: bool = False, **_: Any) -> Stream | bytes:
        return self._stream if stream else b""

    def start(self) -> None:
        """It runs."""


class SlowToDie(Container):
    """A worker at whose first kill its answer is on the way already, as a frozen broker has not read it yet."""

    def __init__(self, program: Program, broker: Program, start: Callable[[], Program], work_s: float) -> None:
        super().__init__(program)
        self._broker = broker
        self._start = start
        self._work_s = work_s
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1
        if self.kills == 1:
            self._broker.signal(signal.SIGSTOP)
            time.sleep(self._work_s + 1)
            threading.Timer(0.05, self._broker.signal, [signal.SIGCONT]).start()
        self._stream.program.kill()

    def start(self) -> None:
        """Start it again, unless it runs."""
        if not self._stream.program.is_running:
            self._stream.program = self._start()


class Processes:
    """A deployment of processes, as far as the trials in this file look at one."""

    def __init__(self, brokers: Sequence[Broker], workers: Sequence[Container]) -> None:
        containers = [Container(broker.program) for broker in brokers]
        self._addresses = {one.id: broker.address for one, broker in zip(containers, brokers, strict=True)}
        self._services = {BROKER_SERVICE: containers, WORKER_SERVICE: workers}

    def containers(self, service: str) -> Sequence[Container]:
        return self._services.get(service, [])

    replaces_containers = False

    def restore(self, ended: Container) -> None:
        """As Docker Compose does."""
        ended.start()

    def addresses(self, broker: Container) -> list[str]:
        return [self._addresses[broker.id]]


def trials(
    start: Start,
    broker: Broker,
    folder: Path,
    *,
    work_s: float,
    late: re.Pattern[str] | None = None,
    others: Sequence[Broker] = (),
    timeout_s: float = 10.0,
) -> Trials:
    """Those of ``broker`` and its workers, beside ``others`` without any."""
    workers = [
        start("worker", f"W{number}", HOST, broker.worker_port, "--work-time", work_s) for number in range(WORKERS)
    ]
    broker.program.wait_for("worker ready", count=WORKERS)
    deployment = cast(Deployment, Processes([broker, *others], [Container(worker, late) for worker in workers]))
    return Trials(str(folder), deployment, print, timeout_s=timeout_s)


def verdicts(those: Trials) -> dict[str, bool]:
    """What is found out so far: of each check whether it is kept."""
    those.collect()
    return {verdict.name: verdict.passed for verdict in judge(merged(those.traces()))}


def test_lines_that_docker_takes_late_do_not_make_workers_look_too_quick(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    with trials(start, broker, tmp_path, work_s=0.5, late=FIRST) as those:
        those.meet()


def test_lines_that_docker_takes_late_do_not_make_workers_look_free(
    start: Start, broker: Broker, tmp_path: Path
) -> None:
    with trials(start, broker, tmp_path, work_s=2 * WORK_S_MIN, late=UNDER_LOAD) as those:
        those.meet()
        those.load()
        assert verdicts(those)["no-idle-while-waiting"]


def test_workers_that_always_look_free_are_no_matter_of_docker(start: Start, broker: Broker, tmp_path: Path) -> None:
    with trials(
        start, broker, tmp_path, work_s=2 * WORK_S_MIN, late=re.compile(r" begins VERIFY_\w+/\d*[05]$")
    ) as those:
        those.meet()
        those.load()
        assert not verdicts(those)["no-idle-while-waiting"]


def test_an_answer_that_was_on_the_way_when_its_worker_was_killed(start: Start, broker: Broker, tmp_path: Path) -> None:
    """Then the kill came too late to show anything, and another is made."""
    work_s = 0.5

    def run() -> Program:
        return start("worker", "W1", HOST, broker.worker_port, "--work-time", work_s)

    worker = SlowToDie(run(), broker.program, run, work_s)
    with Trials(str(tmp_path), cast(Deployment, Processes([broker], [worker])), print, timeout_s=10.0) as those:
        those.meet()
        those.kill()
        assert worker.kills == 2
    assert len([note for note in read(str(tmp_path / "verify.jsonl")) if note.event == catalogue.KILLED]) == 1


def test_workers_that_are_too_quick_to_be_hurt(start: Start, broker: Broker, tmp_path: Path) -> None:
    with (
        trials(start, broker, tmp_path, work_s=WORK_S_MIN / 4) as those,
        pytest.raises(NotReady, match="too soon to be hurt"),
    ):
        those.meet()


def test_workers_of_one_broker_while_all_clients_prefer_the_other(
    start: Start, start_broker: StartBroker, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in eight runs the names of the clients are such. The workers are met over the broker that they serve."""
    idle = start_broker()
    both = [(HOST, each.client_port) for each in (broker, idle)]
    names = [[f"VERIFY_{number:06x}_CLI_{client}" for client in range(1, CALLERS + 1)] for number in range(1000)]
    chosen = [{Resolver(both, spread_by=name).endpoint for name in those} for those in names]
    number = chosen.index({endpoint_of(*both[1])})
    monkeypatch.setattr("cbw.verify.trials.os.urandom", lambda size: number.to_bytes(size, "big"))
    with trials(start, broker, tmp_path, work_s=0.5, others=[idle], timeout_s=5.0) as those:
        those.meet()
