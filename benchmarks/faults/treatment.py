"""One run: a system is started, asked 1,000 requests, treated, and watched until it has recovered or the time is over."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.account import Account, account_of, done_by, in_the_middle
from benchmarks.faults.ledger import LEDGER, WORKER, Ledger, Reader
from benchmarks.faults.processes import NotMeasured, Started, kill_those_with, send
from benchmarks.faults.system import PORTS, Command, ComparedSystem
from benchmarks.program import free_port

REQUESTS = 1000
WORKERS = ("w0", "w1")
"""Two workers, each of which handles one request at a time: one is left when the other is killed."""
DONE_BEFORE = 50
"""Requests that the worker has ended before it is killed in the middle of another, so that everything is in its stride."""
TREATMENTS = {
    "worker": "a worker is killed with its child processes, in the middle of a request",
    "child": "only the child process that handles the request is killed",
    "broker": "the broker is killed with 1,000 requests waiting, and started again",
}
BEGIN_S = 120.0
"""Time to ask the requests and to begin with them; a run in which this takes longer is an error of the benchmark."""
PATIENCE_S = 300.0
"""Time after the kill. What is not answered then is lost. The slowest system needs up to 120 s on a busy machine."""
LATE_S = 2.0
"""Time after the last answer in which something may still come twice, at least; more where a system says so."""
TICK_S = 0.002


class Run(NamedTuple):
    """The account of a run, and how often workers ended by themselves and were started again."""

    account: Account
    restarts: int


class Running:
    """A system as long as a run of it takes."""

    broker: Started
    client: Started

    def __init__(self, system: ComparedSystem, folder: Path) -> None:
        self.system = system
        self._folder = folder
        ledger = folder / "ledger"
        self.reader = Reader(ledger)
        self._ports = [free_port() for _ in range(system.ports)]
        self.environment = {LEDGER: str(ledger), PORTS: ",".join(map(str, self._ports))}
        self._started: list[Started] = []
        self.workers: dict[str, Started] = {}

    def start(self, python: str, requests: int) -> None:
        """Start everything; all requests are asked before the workers are there.

        Raises:
            NotMeasured: something does not start, or its client cannot ask.
        """
        system, ports = self.system, self._ports
        for number, command in enumerate(system.servers(python, self._folder, ports)):
            self.broker = self._start(f"server-{number}", command)
            self.broker.wait_until_ready()
        self.client = self._start("client", system.client(python, requests))
        self.require(lambda: self.client.has_said("asked"), "all requests are asked")
        for name in WORKERS:
            self.workers[name] = self._start(name, system.worker(python, name, ports), {WORKER: name})

    def _start(self, name: str, command: Command, more: dict[str, str] | None = None) -> Started:
        started = Started(name, command, {**self.environment, **(more or {})}, self._folder)
        self._started.append(started)
        return started

    def watch(self, is_so: Callable[[], bool], seconds: float) -> bool:
        """Read the ledger, and start workers again that end by themselves, until something is so. False: the time is over.

        Raises:
            NotMeasured: the client has ended.
        """
        end_at = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end_at:
                return False
            if self.client.process.poll() is not None and not is_so():
                raise NotMeasured(f"the client of {self.system.name} has ended: {self.client.last_words()}")
            self.reader.read()
            for worker in self.workers.values():
                worker.look_after()
            time.sleep(TICK_S)
        return True

    def require(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until it has happened, or the run cannot be measured.

        Raises:
            NotMeasured: it has not happened, or the client has ended.
        """
        if not self.watch(is_so, BEGIN_S):
            raise NotMeasured(f"{self.system.name}: it takes too long until {what}: {self.client.last_words()}")

    def close(self) -> None:
        """End everything."""
        for started in self._started:
            started.close()
        kill_those_with(LEDGER, self.environment[LEDGER])
        self.reader.close()


@contextlib.contextmanager
def _running(system: ComparedSystem, python: str, requests: int, keep: Path | None) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="cbw-faults-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        running = Running(system, folder)
        try:
            running.start(python, requests)
            yield running
        finally:
            running.close()


def treat(
    system: ComparedSystem, treatment: str, python: str, requests: int = REQUESTS, keep: Path | None = None
) -> Run:
    """Do it, and count. ``keep``: a folder for the ledger and the output of all processes."""
    with _running(system, python, requests, keep) as running:
        in_hand = None
        running.require(lambda: all(_has_begun(running, name) for name in WORKERS), "both workers have begun")
        if treatment == "broker":
            killed_at = running.broker.kill()
            running.broker.restart()
        else:
            victim = WORKERS[0]
            running.require(lambda: done_by(running.reader.lines, victim) >= DONE_BEFORE, "a worker is in its stride")
            in_hand, killed_at = _kill_in_the_middle(running, victim, is_alone=treatment == "child")
        Ledger(running.environment[LEDGER]).write("killed", in_hand or "-", treatment)
        running.watch(lambda: _are_all_answered(running, requests), PATIENCE_S)
        running.watch(lambda: False, max(killed_at + system.late_s - time.monotonic(), LATE_S))
        running.client.tell("again")
        running.require(lambda: running.client.has_said("again"), "the client has looked again")
        running.reader.read()
        restarts = sum(worker.restarts for worker in running.workers.values())
        return Run(account_of(running.reader.lines, killed_at, in_hand), restarts)


def _has_begun(running: Running, worker: str) -> bool:
    return any(line.what == "begun" and line.note.startswith(worker) for line in running.reader.lines)


def _are_all_answered(running: Running, requests: int) -> bool:
    return len({line.request for line in running.reader.lines if line.what in ("answered", "failed")}) >= requests


def _kill_in_the_middle(running: Running, worker: str, *, is_alone: bool) -> tuple[str, float]:
    """Kill a worker that has certainly begun a request and not ended it; the request, and when.

    The process is stopped first. If the ledger shows then that it is between two requests, it goes on, and is stopped again.
    """
    end_at = time.monotonic() + BEGIN_S
    while time.monotonic() < end_at:
        running.reader.read()
        if (found := in_the_middle(running.reader.lines, worker)) is not None and send(found[1], signal.SIGSTOP):
            running.reader.read()
            request, pid = found
            if in_the_middle(running.reader.lines, worker) == found:
                if not is_alone:
                    return request, running.workers[worker].kill()
                send(pid, signal.SIGKILL)
                return request, time.monotonic()
            send(pid, signal.SIGCONT)
        time.sleep(0.0005)
    raise NotMeasured(f"{running.system.name}: its worker was never caught in the middle of a request")
