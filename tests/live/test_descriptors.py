"""What becomes of a role when its process has no file descriptors left."""

from __future__ import annotations

import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import HOST, Connect, Start, StartBroker, StartWorker
from .program import PATIENCE_S, environment, wait_until

DESCRIPTORS_MAX = 4
"""Fewer than a worker has: those remain valid, and it gets no others. poll() refuses to look at more than this many."""


def test_a_worker_that_cannot_connect_anew_tries_again(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect
) -> None:
    broker = start_broker("--liveness", 1.5)
    worker = start_worker("W1", "echo", at=broker)
    client = connect(broker)
    assert client.call(b"x") == b"x"  # now it has its welcome, and with it the broker's liveness
    before = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, before[1]))
    broker.program.signal(signal.SIGSTOP)
    try:
        worker.wait_for("reconnecting")
        worker.wait_for("not reconnected", "Too many open files")
    finally:
        broker.program.signal(signal.SIGCONT)
    waiting = client.submit(b"x")
    assert worker.is_running
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, before)
    worker.wait_for("W1 connected", count=2)
    assert waiting.result() == b"x"
    assert worker.count("not reconnected") == 1, "it says the same reason once"


def test_a_broker_that_can_take_no_connection_says_so_once_and_serves_on(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect
) -> None:
    broker = start_broker()
    start_worker("W1", "echo", at=broker)
    client = connect(broker)
    assert client.call(b"x") == b"x"
    before = resource.prlimit(broker.program.pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{broker.program.pid}/fd").iterdir()))
    resource.prlimit(broker.program.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    strangers = [socket.create_connection((HOST, broker.client_port)) for _ in range(30)]
    line = broker.program.wait_for("no file descriptors are left")
    assert "ulimit -n" in line
    assert client.call(b"x") == b"x", "those that are there are served"
    for stranger in strangers:
        stranger.close()
    resource.prlimit(broker.program.pid, resource.RLIMIT_NOFILE, before)
    broker.program.wait_for("new connections are taken again")
    assert connect(broker).call(b"x") == b"x"
    assert broker.program.count("no file descriptors are left") == 1


def test_a_role_without_descriptors_hangs_up_instead_of_trying_for_ever(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, connect: Connect, tmp_path: Path
) -> None:
    """libzmq tries to accept what it has no descriptor for, again and again, and took 0.6 of a processor for it."""
    broker = start_broker()
    start_worker("W1", "echo", at=broker)
    client = connect(broker)
    assert client.call(b"x") == b"x"
    logger = start("logger", 0, tmp_path / "logs", "--listen", HOST)
    text_port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    for role, port in ((broker.program, broker.client_port), (logger, text_port), (logger, text_port + 1)):
        before = resource.prlimit(role.pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{role.pid}/fd").iterdir()))
        resource.prlimit(role.pid, resource.RLIMIT_NOFILE, (used + 20, before[1]))
        strangers = [socket.create_connection((HOST, port)) for _ in range(60)]
        role.wait_for("no file descriptors are left")

        def hung_up(strangers: list[socket.socket] = strangers) -> int:
            """How many of them are at their end: ZeroMQ greets first."""
            return sum(select.select([one], [], [], 0)[0] != [] and one.recv(100) == b"" for one in strangers)

        wait_until(lambda: hung_up() >= 40, "those are hung up on for whom there is no descriptor")
        began_s = role.cpu_s
        time.sleep(2.0)
        assert role.cpu_s - began_s < 0.5, "it does not try again and again"
        assert client.call(b"x") == b"x"
        for stranger in strangers:
            stranger.close()
        resource.prlimit(role.pid, resource.RLIMIT_NOFILE, before)
    assert connect(broker).call(b"x") == b"x"
    assert broker.program.count("no file descriptors are left") == 1


@pytest.mark.parametrize("limit", [9, 16])
@pytest.mark.parametrize(
    "words",
    ["broker 0 0", "logger 0", "worker W1 127.0.0.1 1", "client C1 1 127.0.0.1 1", "call --broker 127.0.0.1:1", "ps"],
)
def test_too_few_descriptors_for_any(words: str, limit: int) -> None:
    """It says so, and what to do, before libzmq ends the process for want of one."""
    command = f"ulimit -c 0; ulimit -n {limit}; exec {sys.executable} -m cbw {words}"
    variables = environment(BROKER_HOST=HOST, CBW_STATUS_PORT="0")
    done = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        env=variables,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr, done
    assert done.stderr.splitlines()[-1].startswith("     Allow more of them: ulimit -n 1024"), done


@pytest.mark.parametrize("role", ["broker", "logger"])
def test_too_few_descriptors(role: str, tmp_path: Path) -> None:
    """However few they are, it serves or ends; for want of some libzmq itself ends it."""
    words = {"broker": "broker 0 0", "logger": f"logger 0 {tmp_path}/LIMIT"}[role] + f" --listen {HOST} --status-port 0"
    runs = [
        subprocess.Popen(
            [
                "sh",
                "-c",
                f"ulimit -c 0; ulimit -n {limit}; exec {sys.executable} -m cbw {words.replace('LIMIT', str(limit))}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(PYTHONUNBUFFERED="1"),
        )
        for limit in range(3, 34, 3)
    ]
    said: list[tuple[bool, list[str]]] = []  # whether it serves, and what it has printed until then
    for run in runs:
        with run:
            assert run.stdout
            lines: list[str] = []
            for line in run.stdout:
                lines.append(line)
                if serves := "text on port" in line or "serves" in line:
                    break
            else:
                serves = False
            said.append((serves, lines))
            run.kill()
    assert not all(serves for serves, _ in said) and said[-1][0], said
