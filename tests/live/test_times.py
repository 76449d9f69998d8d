"""The time in front of every line that a role prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import HOST, Start
from .program import Program
from .terminal import run_on_a_terminal

TIME = re.compile(r"\d\d:\d\d:\d\d\.\d{3} \S")


def lines_of(*programs: Program) -> list[str]:
    return [line for program in programs for line in [*program.lines, *program.errors]]


@pytest.mark.parametrize("processes", [0, 1])
def test_every_line_of_every_role_has_it(start: Start, tmp_path: Path, processes: int) -> None:
    def role(*arguments: object) -> Program:
        return start(*arguments, CBW_TIMES="1", CBW_VERBOSE="1", CBW_LISTEN="0.0.0.0")

    log = free_port()
    logger = role("logger", log, tmp_path / "log")
    logger.wait_for("logs to")
    broker = role("broker", 0, 0, HOST, log)
    client_port, worker_port = re.findall(r"port (\d+)", broker.wait_for("serves clients on port"))
    worker = role("worker", "W1", HOST, worker_port, "--work-time", 0.01, "--processes", processes)
    worker.wait_for("W1 works for")
    client = role("client", "C1", 2, HOST, client_port)
    assert client.exit_code() == 0
    worker.wait_for("W1 begins C1-2")
    lost = role("client", "C2", 1, HOST, free_port(), "--timeout", 2.5)
    assert lost.exit_code() == 3
    assert any("waiting for a broker" in line for line in lines_of(lost))
    told = lines_of(logger, broker, worker, client, lost)
    assert len(told) > 15
    assert [line for line in told if not TIME.match(line)] == lost.errors[-2:], "all but why a command has ended"


def test_a_pipe_gets_the_lines_that_programs_read_as_they_are(start: Start) -> None:
    broker = start("broker", 0, 0, "--listen", HOST)
    client_port, worker_port = re.findall(r"port (\d+)", broker.wait_for("serves clients on port"))
    worker = start("worker", "W1", HOST, worker_port, "--work-time", 0.01)
    client = start("client", "C1", 1, HOST, client_port)
    assert client.exit_code() == 0
    worker.wait_for("W1 begins C1-1")
    assert "W1 begins C1-1" in worker.lines and f"W1 works for {HOST}:{worker_port}" in worker.lines
    assert broker.lines[0].split()[1:3] == ["serves", "clients"]
    assert client.lines[0].startswith("C1-1 -> C1-1 W1  (")


def on_a_terminal(*options: str) -> list[str]:
    """What a client shows whose broker is not there."""
    code, shown = run_on_a_terminal("client", "C1", "1", HOST, free_port(), "--timeout", "2.5", *options)
    assert code == 3
    return shown.splitlines()


def test_a_terminal_has_times() -> None:
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} waiting for a broker", on_a_terminal()[0])
    assert on_a_terminal("--no-times")[0].startswith("waiting for a broker")


def test_a_whole_system_is_understood_with_times(start: Start, tmp_path: Path) -> None:
    """``cbw up`` reads what its roles print."""
    options = ["--scale", "cli=1", "--scale", "wor=1", "--client-port", 0, "--worker-port", 0, "--log-port", 0]
    up = start(
        "up",
        *options,
        "--work-time",
        0.01,
        "--requests",
        2,
        "--until-done",
        "--times",
        "--json",
        LOGGER_DIR=str(tmp_path),
    )
    assert up.exit_code() == 0, up
    assert '"answers":2' in "".join(up.lines)
