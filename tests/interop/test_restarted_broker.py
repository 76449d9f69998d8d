"""The lab's programs go on when their broker is stopped or killed, and another started: with a journal, and without one too.

Nothing tells them that a broker has gone. They wait for an answer, or for a task, over whatever connection they have.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.live.program import wait_until

from .conftest import HOST, Broker, Start, StartBroker, listening

REQUESTS = 8
WORK_MS = 450
BEGUN_MS = 300
"""A task began this long ago at most. Two workers begin half of their work apart at most, so both did again and again: for
75 ms at least each time."""
PAIRS = [
    ("lab_worker.js", "lab_client.js"),
    ("earlier_lab_worker.js", "req_client.py"),
    ("guide_worker.py", "modern_client.js"),
]


class LabAtWork:
    """Two clients and two workers of the lab, which are in the middle of a task each when the first broker ends.

    An answer that arrives while a broker closes its ports is read by nobody, and such a worker waits for ever. So each task has
    some of its time left.
    """

    def __init__(self, start: Start, broker: Broker, worker: str, client: str, options: tuple[object, ...]) -> None:
        self._start = start
        self._broker = broker
        self._options = options
        self._workers = [start(worker, name, HOST, broker.back, WORK_MS) for name in ("W1", "W2")]
        self.clients = {name: start(client, name, REQUESTS, HOST, broker.front) for name in ("C1", "C2")}
        self._begun_at = dict.fromkeys(self._workers, (0, 0.0))  # how many tasks, and since when
        wait_until(self._are_all_at_work, "the workers have just begun what both clients ask")

    def _are_all_at_work(self) -> bool:
        now = time.monotonic()
        for worker in self._workers:
            if (count := len(worker.said("task"))) != self._begun_at[worker][0]:
                self._begun_at[worker] = (count, now)
        begun = " ".join(task for worker in self._workers for task in worker.said("task"))
        asked = [client.said("ask") for client in self.clients.values()]
        return all(len(each) >= 3 and each[-1] in begun for each in asked) and all(
            now - at < BEGUN_MS / 1000 for _, at in self._begun_at.values()
        )

    def start_next(self) -> None:
        broker = self._broker
        listening(Broker(self._start("broker", broker.front, broker.back, *self._options), broker.front, broker.back))

    def need_all_answers(self) -> None:
        for name, program in self.clients.items():
            answers = [reply.partition(" ")[0] for reply in program.finish()]
            assert answers == [f"{name}-{number}" for number in range(1, REQUESTS + 1)]


@pytest.fixture(params=["alone", "journal"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[object, ...]:
    return ("--journal", tmp_path) if request.param == "journal" else ()


@pytest.mark.parametrize(("worker", "client"), PAIRS)
def test_killed(worker: str, client: str, journal: tuple[object, ...], start: Start, start_broker: StartBroker) -> None:
    broker = start_broker(*journal)
    system = LabAtWork(start, broker, worker, client, journal)
    broker.program.kill()
    system.start_next()
    system.need_all_answers()


@pytest.mark.parametrize("grace_s", [0.05, 10])
@pytest.mark.parametrize(("worker", "client"), PAIRS[:1])
def test_told_to_stop(
    worker: str, client: str, grace_s: float, journal: tuple[object, ...], start: Start, start_broker: StartBroker
) -> None:
    """Whether they are served until they have all their answers, or only for a moment."""
    options = (*journal, "--grace", grace_s)
    broker = start_broker(*options)
    system = LabAtWork(start, broker, worker, client, journal)
    os.kill(broker.program.pid, signal.SIGTERM)
    broker.program.finish()
    system.start_next()
    system.need_all_answers()
