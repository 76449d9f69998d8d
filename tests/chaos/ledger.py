"""What a process of the chaos writes down: one line an event, in one write, so that its death leaves whole lines."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Ledger:
    """A file to which several processes may append. Times are those of the machine's monotonic clock."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, request: str, who: str) -> None:
        """Write down that ``who`` has sent, got, begun or done ``request``, or gives it up."""
        os.write(self._file, f"{time.monotonic():.6f} {what} {request} {who}\n".encode())


def lines_of(path: Path, text: str = "") -> list[tuple[float, str, str, str]]:
    """When, what, which request, who, of the lines that have ``text`` in them; in the order of time."""
    found = []
    with path.open() as lines:
        for line in lines:
            if text in line:
                at, what, request, who = line.rstrip("\n").split(" ", 3)
                found.append((float(at), what, request, who))
    return sorted(found)
