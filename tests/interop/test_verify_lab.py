"""``cbw verify --dialect lab``: brokers of others that are right, and such with a planted fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live.program import environment
from tests.ports import free_port

from .conftest import HOST, Broker, Start, listening
from .faulty_lab_broker import FAULTS
from .test_reading_edition import READING, Lab

CHECKS = [
    "own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker", "least-recently-used", "one-at-a-time",
    "bad-frames",
]  # fmt: skip
FOUND_BY = {
    "picks_at_random": ["least-recently-used"],
    "answers_the_wrong_client": ["own-replies"],
    "loses_requests": ["killed-worker", "frozen-worker"],
    "never_notices": ["killed-worker", "frozen-worker"],
    "believes_late_answers": ["frozen-worker"],
    "drops_late_workers": ["frozen-worker"],
    "overloads": ["one-at-a-time"],
    "dawdles": ["no-idle-while-waiting"],
}
TIMEOUT_S = "4"
TRIES = 3
"""On a busy machine a worker may look free for too long; a broker that leaves workers free does so each time."""


def verify(front: int, back: int, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cbw", "verify", "--dialect", "lab", "--timeout", TIMEOUT_S, "--json"]
    command += ["--broker", f"{HOST}:{front}", "--worker-port", str(back), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment(), check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def broken(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [check["name"] for check in json.loads(done.stdout)["checks"] if not check["passed"]]


def verify_right(front: int, back: int, *options: object) -> Any:
    for _ in range(TRIES):
        done = verify(front, back, *options)
        if done.returncode != 4 or broken(done) != ["no-idle-while-waiting"]:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def lab(start: Start, tmp_path: Path) -> Lab:
    return Lab(start, tmp_path)


@pytest.mark.timeout(360)
@pytest.mark.parametrize("kind", ["python", "node", "cbw"])
def test_a_broker_that_is_right(lab: Lab, kind: str, tmp_path: Path) -> None:
    broker = lab.broker(kind)
    told = verify_right(lab.front, lab.back, "--report", tmp_path / "report.md")
    assert [check["name"] for check in told["checks"]] == CHECKS
    assert [check["name"] for check in told["checks"] if not check["figures"]["judged"]] == ["bad-frames"]
    assert len(told["unseen"]) > 3 and told["passed"]
    assert broker.is_running()
    report = (tmp_path / "report.md").read_text()
    assert (
        "was killed while it worked on" in report and "What could not be seen" in report and told["unseen"][0] in report
    )


@pytest.mark.timeout(360)
def test_bad_frames(lab: Lab, start: Start) -> None:
    """Ours goes on, the reading edition ends, which it says of itself."""
    lab.broker("cbw")
    told = verify_right(lab.front, lab.back, "--bad-frames")
    assert [check["figures"]["judged"] for check in told["checks"] if check["name"] == "bad-frames"] == [7]
    other = free_port(), free_port()
    listening(Broker(start(READING["python"].format(role="broker"), *other), *other))
    done = verify(*other, "--bad-frames")
    assert done.returncode == 4 and "bad-frames" in broken(done), done.stdout
    assert "nobody was answered any more" in done.stderr


def faulty(start: Start, fault: str) -> Broker:
    front, back = free_port(), free_port()
    return listening(Broker(start("faulty_lab_broker.py", fault, front, back), front, back))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("fault", FOUND_BY)
def test_a_planted_fault_is_found(start: Start, fault: str) -> None:
    broker = faulty(start, fault)
    done = verify(broker.front, broker.back)
    assert done.returncode == 4, done.stdout + done.stderr
    assert {*broken(done)} >= {*FOUND_BY[fault]}, done.stdout


def test_every_fault_is_tried() -> None:
    assert {*FOUND_BY, "says_nothing"} == FAULTS.keys()


def test_a_broker_that_says_nothing(start: Start) -> None:
    broker = faulty(start, "says_nothing")
    done = verify(broker.front, broker.back)
    assert done.returncode == 3
    assert "both ports are ROUTER sockets, but no worker got a client's request in 4 s" in done.stderr


def test_no_broker_at_all(start: Start, lab: Lab) -> None:
    front, back = free_port(), free_port()
    done = verify(front, back)
    assert done.returncode == 3 and f"at {HOST}:{front}, for clients, nothing listens" in done.stderr
    lab.broker("python")
    done = verify(lab.front, back)
    assert done.returncode == 3 and f"at {HOST}:{back}, for workers, nothing listens" in done.stderr


def test_other_workers_at_that_broker(lab: Lab) -> None:
    lab.broker("python")
    stranger = lab.worker("python", "STRANGER", "0")
    lab.client("python", "FIRST").finish()
    stranger.wait_for("STRANGER begins")
    done = verify(lab.front, lab.back)
    assert done.returncode == 3 and "'STRANGER'" in done.stderr and "Stop the workers" in done.stderr


def test_a_broker_of_the_lab_that_is_taken_for_one_of_ours(lab: Lab) -> None:
    """It is told what to give, and the broker lives: the hello of a worker would have ended it."""
    broker = lab.broker("python")
    command = [sys.executable, "-m", "cbw", "verify", "--broker", f"{HOST}:{lab.front}", "--worker-port", str(lab.back)]
    done = subprocess.run([*command, "--timeout", "5"], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 3 and "give --dialect lab" in done.stderr
    assert broker.is_running()


@pytest.mark.parametrize("options", [["--dialect", "lab"], ["--broker", "x", "--bad-frames"]])
def test_options_that_do_not_fit(options: list[str]) -> None:
    command = [sys.executable, "-m", "cbw", "verify", *options]
    assert subprocess.run(command, capture_output=True, env=environment(), check=False).returncode == 2
