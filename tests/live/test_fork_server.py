"""What the fork server starts is as ``python -m cbw`` has it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import HOST, Start
from .program import HERE, SOON_S, environment


@pytest.mark.parametrize(
    "arguments", [["--version"], ["broker", "x"], ["logs", "/no/such/folder"], ["call", "s", "a:=1"]]
)
def test_output_and_exit_code_are_the_same(start: Start, arguments: list[str]) -> None:
    variables = {"BROKER_HOST": HOST, "BROKER_PORT": "1", "CBW_CLIENT_TIMEOUT_S": "0.1"}
    command = [sys.executable, "-m", "cbw", *arguments]
    there = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment(**variables), check=False)
    here = start(*arguments, **variables)
    assert here.exit_code() == there.returncode
    assert (here.lines, here.errors) == (there.stdout.splitlines(), there.stderr.splitlines())


def test_modules_are_found_where_python_would(start: Start, tmp_path: Path) -> None:
    """First in the current folder, then in those of PYTHONPATH."""
    (tmp_path / "handlers.py").write_text("raise AssertionError('not this one')")
    (tmp_path / "elsewhere.py").write_text("def echo(body: bytes) -> bytes:\n    return body\n")
    handlers = ["--handler=a=handlers:echo", "--handler=b=elsewhere:echo"]
    start("worker", "W1", HOST, 1, *handlers, PYTHONPATH=str(tmp_path)).wait_for("works for")


def test_it_is_a_process_of_its_own(start: Start) -> None:
    one, other = (start("broker", 0, 0, "--listen", HOST) for _ in range(2))
    for program in (one, other):
        program.wait_for("serves clients")
    one.signal(signal.SIGKILL)
    assert one.exit_code(within_s=SOON_S) == -signal.SIGKILL
    one.signal(signal.SIGTERM)  # to nobody
    assert other.is_running
    assert other.terminate() < SOON_S
