"""The command line of cbw as child processes, watched and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tests import fork_server

HERE = Path(__file__).parent
PATIENCE_S = 40.0
"""How long a test waits for what must happen. Generous: only a failing test ever waits that long."""
SOON_S = 8.0
"""What does not wait for something ends in this time, also on a busy machine: before the grace time of 10 s is over."""
POLL_S = (0.005, 0.5)
"""Shortest and longest time between an answer that is no and the next question."""
REST = 3
"""That time, in times that the question took: whoever waits is at work for a quarter of the time."""
OUR_VARIABLES = ("CBW_", "BROKER_", "LOGGER_")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would set our programs, of which many run at once."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return rest | {"CBW_STATUS_PORT": "0", "CBW_LANG": "en"} | more


class Program:
    """``cbw ARGUMENTS`` as a child process. Every one must be ended: the fixtures of ``conftest.py`` do.

    With ``is_forked=False`` it is started as a user starts it, for what matters at the very start of a process.
    """

    def __init__(
        self,
        *arguments: object,
        stdin: bytes | None = None,
        folder: Path = HERE,
        is_forked: bool = True,
        **variables: str,
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        (its_input, ours), (out, its_output), (err, its_errors) = os.pipe(), os.pipe(), os.pipe()
        streams = (its_input, its_output, its_errors)
        try:
            variables = environment(PYTHONUNBUFFERED="1", **variables)
            self._process = (fork_server.start if is_forked else _started)(self.arguments, streams, folder, variables)
        finally:
            for stream in streams:
                os.close(stream)
        self._changed = threading.Condition()
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(os.fdopen(out, "rb"), self.lines), daemon=True),
            threading.Thread(target=self._read, args=(os.fdopen(err, "rb"), self.errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        with os.fdopen(ours, "wb") as its_stdin:
            its_stdin.write(stdin or b"")

    def _read(self, stream: IO[bytes], lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    lines.append(line.decode(errors="replace").rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The process to look at."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """The seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def count(self, *words: str) -> int:
        """How many lines it has printed that hold all of ``words``."""
        with self._changed:
            return sum(all(word in line for word in words) for line in (*self.lines, *self.errors))

    def wait_for(self, *words: str, count: int = 1, within_s: float = PATIENCE_S) -> str:
        """Wait until it has printed ``count`` lines that hold all of ``words``; the last of them."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while True:
                found = [line for line in (*self.lines, *self.errors) if all(word in line for word in words)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                assert any(reader.is_alive() for reader in self._readers), f"ended without {words}: {self}"
                assert left > 0, f"not {count} times {words} in {within_s:g} s: {self}"
                self._changed.wait(left)

    def exit_code(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait until it has ended; its exit code (negative: the signal that ended it)."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within_s:g} s: {self}") from None
        for reader in self._readers:
            reader.join()
        return code

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def signal_at_once(self, *numbers: signal.Signals) -> None:
        """Send it several signals, which it gets at the same time."""
        for number in (signal.SIGSTOP, *numbers, signal.SIGCONT):
            self.signal(number)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Returns when it has stopped, if that is what the signal is for: its threads stop one by one."""
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            wait_until(self._has_stopped, "it has stopped")

    def _has_stopped(self) -> bool:
        try:
            stats = [(task / "stat").read_text() for task in Path(f"/proc/{self.pid}/task").iterdir()]
        except (FileNotFoundError, ProcessLookupError):  # a thread has ended
            return False
        return all(stat.rpartition(")")[2].split()[0] in "TZX" for stat in stats)

    def terminate(self) -> float:
        """SIGTERM; the seconds until it has ended, with exit code 0."""
        began_at = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.exit_code()
        assert code == 0, f"exit code {code}: {self}"
        return time.monotonic() - began_at

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self.exit_code()

    def __str__(self) -> str:
        return "\n    ".join(["cbw " + " ".join(self.arguments), *self.lines[-20:], *self.errors[-40:]])


def _started(
    arguments: Sequence[str], streams: Sequence[int], folder: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    its_input, its_output, its_errors = streams
    command = [sys.executable, "-m", "cbw", *arguments]
    return subprocess.Popen(
        command, stdin=its_input, stdout=its_output, stderr=its_errors, cwd=folder, env={**environment}
    )


def wait_until(is_so: Callable[[], object], what: str, *, within_s: float = PATIENCE_S) -> None:
    """Wait for something that nobody tells us. A question that costs a process is asked less often than one that costs nothing:
    asking all the time took a whole processor from those who were asked.
    """
    deadline = time.monotonic() + within_s
    while True:
        asked_at = time.monotonic()
        if is_so():
            return
        now = time.monotonic()
        assert now < deadline, f"not in {within_s:g} s: {what}"
        rest_s = min(max(POLL_S[0], REST * (now - asked_at)), POLL_S[1])
        time.sleep(min(rest_s, deadline - now))
