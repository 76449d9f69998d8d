"""The lab's system in its shortest form, in Python (``examples/lab``) and in Node (``deploy/node``), and mixed with ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.program import PATIENCE_S, wait_until
from tests.ports import free_port

from .conftest import HOST, Broker, Start, listening
from .program import HERE, Program

ROOT = HERE.parents[1]
READING = {"python": str(ROOT / "examples" / "lab" / "{role}.py"), "node": str(ROOT / "deploy/node/{role}/{role}.js")}
COUNT = 4
WORK_S = "0.1"


class Lab:
    """Starts roles of any kind: ``python`` and ``node`` are the reading editions, ``cbw`` is ours."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self.front, self.back = free_port(), free_port()
        package = folder / "zeromq"  # as in the image tsr-node: the lab's programs mean version 5
        package.mkdir()
        (package / "index.js").write_text(f"module.exports = require('{HERE}/node_modules/zeromq/v5-compat')")
        self._environment = {"NODE_PATH": folder}

    def _role(self, kind: str, role: str, *arguments: object) -> Program:
        if kind == "cbw":
            return self._start(role, *arguments)
        return self._start(READING[kind].format(role=role), *arguments, **self._environment)

    def broker(self, kind: str, *logger: object) -> Program:
        program = self._role(kind, "broker", self.front, self.back, *logger)
        return listening(Broker(program, self.front, self.back)).program

    def worker(self, kind: str, name: str, work_s: str = WORK_S) -> Program:
        work = ("--work-time", work_s) if kind == "cbw" else (work_s,)
        return self._role(kind, "worker", name, HOST, self.back, *work)

    def client(self, kind: str, name: str) -> Program:
        return self._role(kind, "client", name, COUNT, HOST, self.front)


@pytest.fixture
def lab(start: Start, tmp_path: Path) -> Lab:
    return Lab(start, tmp_path)


def answers_of(client: Program) -> list[tuple[str, str]]:
    """What it asked, and what came back."""
    client.finish()
    pairs = [line.partition("  (")[0].split(" -> ") for line in client.lines if " -> " in line]
    return [(asked, answer.partition(" ")[0]) for asked, answer in pairs]


@pytest.mark.parametrize(
    ("broker", "worker", "client"),
    [
        *((broker, worker, client) for broker in READING for worker in READING for client in READING),
        *(("cbw", worker, client) for worker in (*READING, "cbw") for client in (*READING, "cbw")),
    ],
)
def test_every_mix(lab: Lab, broker: str, worker: str, client: str) -> None:
    lab.broker(broker)
    workers = [lab.worker(worker, name) for name in ("W1", "W2")]
    clients = {name: lab.client(client, name) for name in ("C1", "C2", "C3")}
    for name, program in clients.items():
        assert answers_of(program) == [(f"{name}-{number}",) * 2 for number in range(1, COUNT + 1)]
    begun = [len(program.said_anywhere(" begins ")) for program in workers]
    assert sum(begun) == 3 * COUNT and all(begun)


@pytest.mark.parametrize("role", ["broker", "worker", "client", "logger"])
def test_a_program_without_its_arguments_says_what_they_are(role: str) -> None:
    program = [sys.executable, READING["python"].format(role=role)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"The lab's {role}: ``python {role}.py ") and "Traceback" not in ended.stderr


@pytest.mark.parametrize("broker", [*READING, "cbw"])
@pytest.mark.parametrize("worker", READING)
def test_a_worker_that_does_not_answer_in_time(lab: Lab, broker: str, worker: str) -> None:
    lab.broker(broker)
    slow = lab.worker(worker, "SLOW", "3")
    client = lab.client("python", "C1")
    slow.wait_for("SLOW begins C1-1")
    lab.worker(worker, "QUICK")
    assert answers_of(client) == [(f"C1-{number}",) * 2 for number in range(1, COUNT + 1)]
    assert client.lines[0] == "C1-1 -> C1-1 QUICK"


@pytest.mark.parametrize("broker", READING)
@pytest.mark.parametrize("logger", ["python", "cbw"])
def test_what_a_broker_prints_is_in_the_log(lab: Lab, start: Start, tmp_path: Path, broker: str, logger: str) -> None:
    file = tmp_path / "logs"
    if logger == "cbw":
        said = start("logger", 0, file).wait_for(" logs to ", is_anywhere=True)
        port = int(re.findall(r"text on port (\d+)", said)[0])
    else:
        port = free_port()
        start(READING["python"].format(role="logger"), port, file)
    program = lab.broker(broker, HOST, port)
    lab.worker("python", "W1")
    lab.client("python", "C1").finish()
    program.wait_for("W1 answers C1: C1-4")
    wait_until(
        lambda: file.exists() and all(line in file.read_text() for line in program.lines), "every line is in the log"
    )
