"""Processes that are started, killed with all their children, and started again when they end by themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.faults.system import HOST, ROOT, Command

START_S = 60.0
"""Time for a server to open its port: RabbitMQ takes 5 to 15 s."""
RESTART_S = 1.0
"""Time after which a worker that has ended is started again, as a supervisor would do it."""


class NotMeasured(Exception):
    """A system does not even do what it should before anything is killed, or its client has ended."""


class Started:
    """A program and its output, in a file. It gets a session of its own, so nothing that it does reaches the runner."""

    def __init__(self, name: str, command: Command, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.restarts = 0
        self._command = command
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment, **command.environment}
        self._ended_at: float | None = None
        self._start()

    def _start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self._command.arguments,
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._ended_at = None

    def wait_until_ready(self) -> None:
        """Return when its port is open.

        Raises:
            NotMeasured: it does not start.
        """
        end_at = time.monotonic() + START_S
        while (port := self._command.port) is not None and not _is_open(port):
            if self.process.poll() is not None or time.monotonic() > end_at:
                raise NotMeasured(f"{self.name} does not start: {self.last_words()}")
            time.sleep(0.02)

    def restart(self) -> None:
        """Start it again after it has ended."""
        self._close_input()
        self._start()

    def look_after(self) -> None:
        """Start it again if it has ended some time ago."""
        if self.process.poll() is None:
            return
        now = time.monotonic()
        if self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= RESTART_S:
            self.restarts += 1
            self.restart()

    def kill(self) -> float:
        """SIGKILL for it and for all its children, and when that was.

        They are stopped first, so that none can notice the death of another.
        """
        family = [self.process.pid, *_descendants(self.process.pid)]
        for pid in family:
            send(pid, signal.SIGSTOP)
        killed_at = time.monotonic()
        for pid in family:
            send(pid, signal.SIGKILL)
        self.process.wait()
        return killed_at

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def has_said(self, line: str) -> bool:
        """Whether it has printed this line."""
        return line in self.output.read_text(errors="replace").splitlines()

    def last_words(self) -> str:
        """The end of what it has printed."""
        return " ".join(self.output.read_text(errors="replace")[-1000:].split())

    def close(self) -> None:
        """Kill it if it runs."""
        if self.process.poll() is None:
            self.kill()
        self._close_input()

    def _close_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # what was written and not read is lost
            self.process.stdin.close()


def send(pid: int, sign: signal.Signals) -> bool:
    """Send a signal to a process; False: it is gone."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True


def kill_those_with(variable: str, value: str) -> None:
    """Kill every process that was started with this environment variable: children that have outlived their parents."""
    wanted = f"{variable}={value}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    send(int(folder.name), signal.SIGKILL)


def _descendants(pid: int) -> Sequence[int]:
    """Children, their children, and so on (proc(5): the parent is the second field after the name)."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
