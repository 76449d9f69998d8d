"""``cbw up`` and ``cbw bench``: whole systems of real processes, that end with nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

from .conftest import StartBroker
from .program import PATIENCE_S, Program, environment, wait_until

LOG = Path(tempfile.gettempdir()) / f"cbw-test-up-{os.getpid()}" / "logs"
PORTS = ("--client-port", 0, "--worker-port", 0, "--log-port", 0, "--log-file", LOG)


@pytest.fixture(autouse=True)
def log() -> Iterator[Path]:
    """The log of the systems here."""
    yield LOG
    shutil.rmtree(LOG.parent, ignore_errors=True)


def children(pid: int) -> list[int]:
    """The pids of the processes that ``pid`` has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether ``pid`` is a process, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """``cbw`` to its end."""
    command = [sys.executable, "-m", "cbw", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)


def test_two_clients_and_four_workers_until_done() -> None:
    done = run("up", "--scale", "cli=2", "--scale", "wor=4", "--until-done", "--work-time", 0.05, "--json", *PORTS)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["requests"], summary["answers"]) == (20, 20)
    assert [client["client"] for client in summary["clients"]] == ["CLI_1", "CLI_2"]
    assert all(client["p50_s"] >= 0.05 for client in summary["clients"])
    assert len(re.findall(r"^cli_[12] +\| CLI_[12]-\d+ -> CLI_[12]-\d+ WOR_[1-4]", done.stderr, re.M)) == 20


def test_the_log_tells_of_every_role(log: Path) -> None:
    scale = ("--scale", "cli=2", "--scale", "wor=2", "--scale", "log=2")
    done = run("up", *scale, "--until-done", "--work-time", 0, "--requests", 5, *PORTS)
    assert done.returncode == 0, done.stderr
    assert str(log) in done.stdout
    events = Counter((line["role"], line["event"]) for line in map(json.loads, log.read_text().splitlines()))
    for event in (("client", "got"), ("worker", "done"), ("broker", "answered")):
        assert events[event] == 10, events
    assert events["logger", "started"] == 2
    judged = run("verify", "--trace", log, "--json")
    assert judged.returncode == 0, judged.stderr
    (own_replies,) = (check for check in json.loads(judged.stdout)["checks"] if check["name"] == "own-replies")
    assert (own_replies["figures"]["judged"], own_replies["figures"]["wrong"]) == (10, 0)


def test_a_table_for_people() -> None:
    done = run("up", "--scale", "cli=1", "--scale", "wor=1", "--until-done", "--work-time", 0, "--requests", 2, *PORTS)
    assert done.returncode == 0
    assert "workers used" in done.stdout and "WOR_1" in done.stdout


@pytest.fixture
def up() -> Program:
    return Program("up", "--scale", "cli=1", "--scale", "wor=2", "--work-time", 0.02, "--requests", 3, *PORTS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_it_is_stopped_and_leaves_nothing(up: Program, number: signal.Signals) -> None:
    up.wait_for("the system stays up")
    roles = children(up.pid)
    assert len(roles) == 4
    up.signal(number)
    assert up.exit_code() == 0
    assert not any(lives(pid) for pid in roles)


def test_nothing_is_left_even_if_it_is_killed(up: Program) -> None:
    up.wait_for("the system stays up")
    roles = children(up.pid)
    up.signal(signal.SIGKILL)
    wait_until(lambda: not any(lives(pid) for pid in roles), "every role is gone")
    up.kill()


def test_a_role_that_dies_is_started_again(up: Program) -> None:
    up.wait_for("the system stays up")
    (victim, *_) = [pid for pid in children(up.pid) if "WOR_1" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(victim, signal.SIGKILL)
    up.wait_for("was ended by SIGKILL; starting it again")
    up.wait_for("worker ready", "WOR_1", count=2)
    up.signal(signal.SIGINT)
    assert up.exit_code() == 0


def test_unless_told_not_to() -> None:
    up = Program("up", "--scale", "cli=0", "--scale", "wor=1", "--no-restart", *PORTS)
    up.wait_for("worker ready")
    (victim, *_) = [pid for pid in children(up.pid) if "WOR_1" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(victim, signal.SIGKILL)
    up.wait_for("worker lost")
    up.wait_for("wor_1 | was ended by SIGKILL; it stays so")
    time.sleep(0.8)  # longer than the first back-off
    assert up.count("it stays so") == 1
    assert not up.count("starting it again")
    up.signal(signal.SIGINT)
    assert up.exit_code() == 0


def test_a_client_that_dies_begins_again() -> None:
    """The summary is of what it did then, and all its answers are there."""
    up = Program("up", "--scale", "cli=1", "--work-time", 0.3, "--until-done", "--json", *PORTS)
    up.wait_for("CLI_1-5 -> ")
    (victim, *_) = [pid for pid in children(up.pid) if "CLI_1" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(victim, signal.SIGKILL)
    assert up.exit_code() == 0
    assert up.count("CLI_1-5 -> ") == 2
    summary = json.loads(up.lines[-1])
    assert (summary["requests"], summary["answers"]) == (10, 10)


def test_its_status_page_is_where_it_says() -> None:
    port = free_port()
    up = Program("up", "--scale", "cli=0", "--scale", "wor=1", "--status-port", port, *PORTS)
    place = up.wait_for("the broker's status is on ").split()[-1]
    with urllib.request.urlopen(place) as page:
        assert json.load(page)["role"] == "broker"
    up.signal(signal.SIGINT)
    assert up.exit_code() == 0
    up = Program("up", "--scale", "cli=0", "--until-done", *PORTS, CBW_STATUS_PORT="0")
    assert up.exit_code() == 0
    assert not up.count("status is on")


def test_the_log_is_in_the_folder_of_the_environment(tmp_path: Path) -> None:
    options = ("--scale", "cli=0", "--until-done", *PORTS[:-2])
    up = Program("up", *options, LOGGER_DIR=str(tmp_path / "here"))
    assert up.exit_code() == 0
    assert (tmp_path / "here" / "logs").exists()
    up = Program("up", *options, LOGGER_DIR="/proc/here")
    assert up.exit_code() == 3
    assert up.count("cannot write the log /proc/here/logs") and up.count("--log-file"), up


def test_no_worker_is_said() -> None:
    up = Program("up", "--scale", "cli=1", "--scale", "wor=0", *PORTS)
    up.wait_for("no worker: requests wait")
    up.signal(signal.SIGINT)
    assert up.exit_code() == 1  # the client has not got its answers


@pytest.mark.parametrize("scale", ["wor=x", "wor=-1", "foo=1", "wor", "bro=2", ""])
def test_a_bad_scale(scale: str) -> None:
    done = run("up", "--scale", scale)
    assert done.returncode == 2
    assert "--scale" in done.stderr and "Traceback" not in done.stderr


def test_a_handler_that_is_none() -> None:
    """Not started again and again: it will not be there the next time either."""
    done = run("up", "--handler", "nowhere:echo", "--until-done", *PORTS)
    assert done.returncode == 2
    assert "no module named 'nowhere'" in done.stdout and "cannot run like this" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_reader_that_stops_reading() -> None:
    """As ``cbw up | head`` does: nobody watches any more, so it stops."""
    up = subprocess.Popen(
        [sys.executable, "-m", "cbw", "up", "--scale", "cli=0", *map(str, PORTS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert up.stdout is not None and up.stderr is not None
    up.stdout.readline()
    up.stdout.close()
    assert up.stderr.read() == b""
    up.stderr.close()
    assert up.wait(PATIENCE_S) == 0


def test_a_full_disk_under_the_output() -> None:
    with Path("/dev/full").open("w") as full:
        up = subprocess.run(
            [sys.executable, "-m", "cbw", "up", "--scale", "cli=0", *map(str, PORTS)],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert up.returncode == 1
    assert b"No space left on device" in up.stderr


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("up", "--client-port", port, "--worker-port", 0)
    assert done.returncode == 3
    assert f"port {port} is in use" in done.stderr and "--client-port" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("window", [1, 64])
def test_bench(window: int) -> None:
    done = run("bench", "--clients", 2, "--workers", 2, "--window", window, "--seconds", 0.3, "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["requests"] > 0
    assert 0 < measured["p50_s"] <= measured["p99_s"]
    assert set(measured["cpu_us"]) == {"broker", "worker", "client"}


def test_bench_of_a_broker_that_is_not_there() -> None:
    done = run("bench", "--broker", "127.0.0.1:1", "--seconds", 0.3)
    assert done.returncode == 3
    assert done.stderr.startswith("cbw: 127.0.0.1:1 cannot be reached: Connection refused")


def test_bench_of_a_broker_that_dies(start_broker: StartBroker) -> None:
    broker = start_broker()
    ports = ("--broker", broker.address, "--worker-port", broker.worker_port)
    bench = Program("bench", *ports, "--seconds", 30)
    wait_until(lambda: len(children(bench.pid)) == 2, "its client and its worker run")
    broker.program.wait_for("worker ready")
    broker.program.kill()
    assert bench.exit_code(within_s=2 * PATIENCE_S) == 3
    assert bench.count("a client of the benchmark got no answer"), bench
    assert not bench.count("Traceback"), bench


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_bench_that_is_broken_off_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    bench = Program("bench", "--seconds", 30, TMPDIR=str(tmp_path))
    wait_until(lambda: len(children(bench.pid)) == 3, "its client, its broker and its worker run")
    roles = children(bench.pid)
    bench.signal(number)
    assert bench.exit_code() == (-number if number is signal.SIGKILL else 128 + number)
    wait_until(lambda: not any(lives(pid) for pid in roles), "all are gone")
    assert number is signal.SIGKILL or list(tmp_path.iterdir()) == []
