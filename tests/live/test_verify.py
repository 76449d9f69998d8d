"""``cbw verify`` on a real system that keeps its promises, and on brokers that do not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .faulty_broker import FAULTS
from .program import environment

CHECKS = ["own-replies", "no-idle-while-waiting", "killed-worker", "frozen-worker"]


def verify(*arguments: str, exit_code: int) -> Any:
    """The JSON of ``cbw verify``."""
    command = [sys.executable, "-m", "cbw", "verify", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(), check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def broken(report: Any) -> list[str]:
    """The checks that failed."""
    assert [check["name"] for check in report["checks"]] == CHECKS
    return [check["name"] for check in report["checks"] if not check["passed"]]


def test_a_system_of_its_own(tmp_path: Path) -> None:
    report = verify("--keep", str(tmp_path), exit_code=0)
    assert report["passed"] and not broken(report)
    assert all(check["figures"]["judged"] for check in report["checks"])
    again = verify(*[word for path in tmp_path.glob("*.jsonl") for word in ("--trace", str(path))], exit_code=0)
    assert [check["figures"] for check in again["checks"]] == [check["figures"] for check in report["checks"]]


class FaultyBroker:
    """A broker with a fault, its ports and its trace."""

    def __init__(self, fault: str, folder: Path) -> None:
        self.trace = folder / "broker.jsonl"
        command = [sys.executable, "-m", "tests.live.faulty_broker", fault, "0", "0", "--host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, "--trace", str(self.trace)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(PYTHONUNBUFFERED="1"),
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout is not None
        self.ports = re.findall(r"port (\d+)", self.process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FaultyBroker]:
    broker = FaultyBroker(request.param, tmp_path)
    yield broker
    broker.close()


@pytest.mark.parametrize(
    ("faulty", "check"),
    [
        ("swaps_replies", "own-replies"),
        ("has_a_favourite", "no-idle-while-waiting"),
        ("is_deaf", "killed-worker"),
        ("has_no_fence", "frozen-worker"),
    ],
    indirect=["faulty"],
)
def test_a_planted_fault_is_found(faulty: FaultyBroker, check: str) -> None:
    front, back = faulty.ports
    report = verify("--broker", f"127.0.0.1:{front}", "--worker-port", back, "--trace", str(faulty.trace), exit_code=4)
    assert check in broken(report)


def test_every_fault_is_tried() -> None:
    assert len(FAULTS) == len(CHECKS)


def test_a_broker_that_is_not_there() -> None:
    command = [sys.executable, "-m", "cbw", "verify", "--broker", "127.0.0.1:1", "--worker-port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["nonsense\n", "{}\n", ""])
def test_a_trace_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    command = [sys.executable, "-m", "cbw", "verify", "--trace", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
