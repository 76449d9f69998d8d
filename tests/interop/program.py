"""Programs that the tests run, watch and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests import fork_server

HERE = Path(__file__).parent
PATIENCE_S = 40.0
"""How long a test waits for what must happen. Generous: only a failing test ever waits that long."""
OURS = (sys.executable, "-m", "cbw")
OUR_VARIABLES = ("CBW_", "BROKER_", "LOGGER_")


class Program:
    """A child process whose lines can be waited for. Every one must be ended: the fixtures of ``conftest.py`` do.

    It has ``environment`` in addition to that of the tests.
    """

    def __init__(self, *command: str, **environment: object) -> None:
        self.command = command
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
        theirs |= {"CBW_STATUS_PORT": "0", "CBW_LANG": "en"} | {name: str(value) for name, value in environment.items()}
        output, its_output = os.pipe()
        self._output = os.fdopen(output)
        self._process: subprocess.Popen[bytes] | fork_server.Started
        with os.fdopen(its_output) as out, Path(os.devnull).open() as nothing:
            if command[: len(OURS)] == OURS:
                streams = (nothing.fileno(), out.fileno(), out.fileno())
                self._process = fork_server.start(command[len(OURS) :], streams, HERE, theirs)
            else:
                self._process = subprocess.Popen(command, stdin=nothing, stdout=out, stderr=out, cwd=HERE, env=theirs)
        self._lines: list[str] = []
        self._is_read = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_read = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The process to look at, or to send a signal."""
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        with self._changed:
            return list(self._lines)

    def said(self, start: str, *, at_least: int = 0) -> list[str]:
        """The lines that begin with the word ``start``, without it, as soon as there are ``at_least`` so many."""
        if at_least:
            self.wait_for(f"{start} ", at_least)
        return [line.removeprefix(f"{start} ") for line in self.lines if line.startswith(f"{start} ")]

    def said_anywhere(self, text: str, *, at_least: int = 0) -> list[str]:
        """The lines that have ``text`` in them, as soon as there are ``at_least`` so many."""
        if at_least:
            self.wait_for(text, at_least, is_anywhere=True)
        return [line for line in self.lines if text in line]

    def wait_for(self, start: str, count: int = 1, *, is_anywhere: bool = False, within_s: float = PATIENCE_S) -> str:
        """Wait until it has printed ``count`` lines that begin with ``start``, or have it in them; the last of them."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                found = [line for line in self._lines if (start in line if is_anywhere else line.startswith(start))]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                assert not self._is_read, f"ended without {start!r}: {self}"
                assert left > 0, f"not {count} times {start!r} in {within_s:g} s: {self}"
                self._changed.wait(left)

    def finish(self, *, within_s: float = PATIENCE_S) -> list[str]:
        """Wait until it ends by itself, with success; all its replies."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within_s:g} s: {self}") from None
        self._reader.join()
        assert code == 0, f"exit code {code}: {self}"
        return [_reply_of(line) for line in self.lines if line.startswith("reply ") or " -> " in line]

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def freeze(self) -> None:
        """Stop it where it is, as a machine that hangs would."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._output.close()

    def __str__(self) -> str:
        return "\n    ".join([" ".join(self.command), *self.lines[-20:]])


def _reply_of(line: str) -> str:
    """Our own client prints ``C1-1 -> C1-1 W1  (0.012 s)``, the programs of this folder ``reply C1-1 W1``."""
    return line.removeprefix("reply ").partition(" -> ")[2].partition("  (")[0] or line.removeprefix("reply ")


def command_of(name: str, *arguments: object) -> list[str]:
    """How to start a program of this folder by its file name, one of a package by its module, or one of ours by its role."""
    words = [str(argument) for argument in arguments]
    if name.endswith(".js"):
        return ["node", str(HERE / name), *words]
    if name.endswith(".py"):
        return [sys.executable, str(HERE / name), *words]
    if "." in name:
        return [sys.executable, "-m", name, *words]
    return [*OURS, name, *words]
