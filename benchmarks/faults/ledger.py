"""The file in which handlers and clients write down what happened: one line an event, in one write.

Many processes append to it. ``O_APPEND`` keeps their lines apart, and a process that is killed leaves whole lines behind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

LEDGER = "CBW_FAULTS_LEDGER"
"""The environment variable that names the file."""
WORKER = "CBW_FAULTS_WORKER"
"""The environment variable that names the worker to which a process belongs; its child processes inherit it."""


class Line(NamedTuple):
    """``what`` happened to ``request``: asked, begun, done, answered, failed or killed.

    ``at``: seconds of the machine's monotonic clock, which all its processes share. ``note``: by whom, or the answer, or why.
    """

    at: float
    what: str
    request: str
    note: str


class Ledger:
    """The end that writes."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, request: str, note: str) -> None:
        """Append a line."""
        line = " ".join((f"{time.monotonic():.6f}", what, request, *note.split()))
        os.write(self._file, f"{line}\n".encode())


class Reader:
    """The end that reads. ``lines`` has what was read so far."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """The lines that are new since the last call; they are appended to ``lines`` too."""
        found = []
        while (text := self._file.readline()).endswith(b"\n"):
            at, what, request, note = f"{text.decode()[:-1]}   ".split(" ", 3)
            found.append(Line(float(at), what, request, note.strip()))
        self._file.seek(-len(text), os.SEEK_CUR)  # a line of which only a part is there
        self.lines += found
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()
