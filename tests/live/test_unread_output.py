"""What becomes of a role when nobody reads any more what it prints, as in ``cbw broker | head -1``."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start, StartWorker
from .program import PATIENCE_S, SOON_S, environment, wait_until

SHORT_S = 1.0
"""By then a logger that cannot write has said so."""


class Unread:
    """``cbw ARGUMENTS``, of which this many lines are read, and then nothing more."""

    def __init__(self, *arguments: object, is_stderr_read: bool = True, lines: int = 1) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cbw", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_stderr_read else subprocess.STDOUT,
            env=environment(),
        )
        assert self._process.stdout
        self.first_line = [*(self._process.stdout.readline().decode() for _ in range(lines)), ""][0]
        self._process.stdout.close()
        self._errors = ""

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(SOON_S)

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait(PATIENCE_S)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def errors(self) -> str:
        """What it has printed on stderr until its end."""
        assert self._process.stderr
        return self._errors + self._process.stderr.read().decode()

    def wait_for_error(self, text: str) -> None:
        """Wait until it has printed a line with ``text`` on stderr."""
        assert self._process.stderr
        while text not in (line := self._process.stderr.readline().decode()):
            assert line, f"ended without {text!r}: {self._errors}"
            self._errors += line

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()


@contextlib.contextmanager
def unread(*arguments: object, **options: Any) -> Iterator[Unread]:
    program = Unread(*arguments, **options)
    try:
        yield program
    finally:
        program.kill()


@pytest.mark.parametrize("is_stderr_read", [True, False], ids=["stderr is read", "nor stderr"])
def test_a_broker_serves_on(is_stderr_read: bool, start: Start, tmp_path: Path) -> None:
    """Everybody depends on it. It says once that it prints nothing more, and records it where somebody may look."""
    trace = tmp_path / "trace"
    with unread("broker", 0, 0, "--listen", HOST, "--trace", trace, is_stderr_read=is_stderr_read) as broker:
        client_port, worker_port = re.findall(r"port (\d+)", broker.first_line)
        for name in ("W1", "W2"):  # each of which it would print
            start("worker", name, HOST, worker_port, "--work-time", 0).wait_for("connected")
        with cbw.Client(f"{HOST}:{client_port}", timeout=PATIENCE_S) as client:
            assert client.call(b"x").startswith(b"x W")
        assert broker.terminate() == 0
        if is_stderr_read:
            assert broker.errors() == "nobody reads what is printed here: nothing more will be\n"
    assert trace.read_text().count('"output_unread"') == 1


@pytest.mark.parametrize("is_stderr_read", [True, False], ids=["stderr is read", "nor stderr"])
def test_a_logger_writes_on(is_stderr_read: bool, tmp_path: Path) -> None:
    """It does so when it has something to say: that its file cannot grow, and that it can again."""
    file = tmp_path / "logs"
    with unread("logger", 0, file, "--listen", HOST, is_stderr_read=is_stderr_read) as logger, zmq.Context() as context:
        port = int(re.findall(r"text on port (\d+)", logger.first_line)[0])
        with context.socket(zmq.PUSH) as push:
            push.connect(f"tcp://{HOST}:{port}")
            push.send(b"first")
            wait_until(lambda: "first" in file.read_text(), "it writes")
            no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(logger.pid, resource.RLIMIT_FSIZE, (file.stat().st_size, resource.RLIM_INFINITY))
            push.send(b"second")
            if is_stderr_read:
                logger.wait_for_error("cannot write the log")
            else:
                time.sleep(SHORT_S)
            resource.prlimit(logger.pid, resource.RLIMIT_FSIZE, no_limit)
            wait_until(lambda: "second" in file.read_text(), "it writes again")
        assert logger.terminate() == 0


def test_nobody_reads_from_the_beginning(tmp_path: Path) -> None:
    """As in ``cbw broker | true``."""
    for words in (["broker", 0, 0, "--listen", HOST], ["logger", 0, tmp_path / "logs", "--listen", HOST]):
        with unread(*words, lines=0) as role:
            role.wait_for_error("nobody reads what is printed here")
            assert role.is_running
            assert role.terminate() == 0


def test_a_worker_leaves_in_order(broker: Broker, start: Start, start_worker: StartWorker, connect: Connect) -> None:
    """Others can do its work. What it has begun it finishes, and its broker hears that it leaves."""
    client = connect(broker)
    with unread("worker", "W1", HOST, broker.worker_port, "--work-time", 1, "--verbose", lines=2) as worker:
        broker.program.wait_for("worker ready", "W1")
        running = client.submit(b"x")
        assert running.result() == b"x W1"
        assert worker.wait() == 1
        assert worker.errors() == "nobody reads what is printed here: nothing more will be\n"
    broker.program.wait_for("worker left", "W1")
    assert not broker.program.count("worker lost")


@pytest.mark.parametrize("options", [[], ["--verbose"]])
def test_a_command_ends(options: list[str], broker: Broker, start_worker: StartWorker) -> None:
    """Its output is its purpose."""
    start_worker("W1", "echo")
    with unread("client", "C1", 1000, HOST, broker.client_port, *options) as client:
        assert client.wait() == 1
        assert "Traceback" not in client.errors()


def test_a_client_of_the_library_goes_on(broker: Broker, start_worker: StartWorker) -> None:
    """Its requests are not the worse for a trace that nobody reads."""
    start_worker("W1", "echo")
    theirs, ours = os.pipe()
    os.close(theirs)
    out = os.fdopen(ours, "w")
    trace = cbw.Trace(is_verbose=True)
    with (
        contextlib.redirect_stdout(out),
        cbw.Client(broker.address, timeout=PATIENCE_S, trace=trace) as client,
    ):
        assert list(client.map([b"x"] * 100)) == [b"x"] * 100
    with contextlib.suppress(OSError):
        out.close()


@pytest.mark.parametrize(
    "arguments", ["call '' hi", "ps", "requests", "services", "dead list", "--version", "dead export"]
)
def test_a_closed_output(broker: Broker, start_worker: StartWorker, arguments: str) -> None:
    """An answer that could not be printed is no success. Sockets do not get the numbers of closed streams."""
    start_worker("W1", "echo")
    place = "" if arguments == "--version" else f"--broker {broker.address}"
    command = f'exec "$0" -m cbw {arguments} {place} <&- >&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    is_printed = arguments not in ("dead export", "requests", "dead list")  # nothing is to be told
    assert done.returncode == is_printed, done.stderr
    assert ("standard output is closed, so nothing can be printed" in done.stderr) == is_printed, done.stderr


def test_a_role_with_closed_streams(start: Start) -> None:
    """It works on, and nobody is told of what nobody wants to hear."""
    port = free_port()
    command = f'exec "$0" -m cbw broker {port} 0 --listen {HOST} <&- >&- 2>&-'
    with subprocess.Popen(["sh", "-c", command, sys.executable], env=environment()) as broker:
        assert start("ps", "--broker", f"{HOST}:{port}").exit_code() == 0
        broker.terminate()
        assert broker.wait(PATIENCE_S) == 0
