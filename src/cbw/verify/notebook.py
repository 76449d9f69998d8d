"""What a verification leaves behind: a folder of traces, one of them its own notes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbw.core.events import Record
from cbw.errors import UsageError
from cbw.trace import Trace

POLL_S = 0.01


class Notebook:
    """Of one run, in ``folder``.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if next(self._folder.glob("*.jsonl"), None) is not None:
            raise UsageError(f"{folder} holds the traces of an earlier run", advice="Give an empty folder.")
        self._notes = Trace(self.path("verify"), is_printing=False)

    def path(self, name: str) -> str:
        """Where the trace called ``name`` is, or is to be."""
        return str(self._folder / f"{name}.jsonl")

    def note(self, event: str, at: float | None = None, **fields: Any) -> None:
        """What the verification does, now or ``at`` a time (monotonic seconds)."""
        self._notes.write([Record(time.monotonic() if at is None else at, event, "verify", "verify", **fields)])

    def files(self) -> list[str]:
        """All traces, to be judged."""
        return [str(path) for path in sorted(self._folder.glob("*.jsonl"))]

    def close(self) -> None:
        """No more notes."""
        self._notes.close()


def wait(patience_s: float, is_true: Callable[..., object], *arguments: object) -> bool:
    """Whether it has come true in time; what has not, the traces will show."""
    deadline = time.monotonic() + patience_s
    while not is_true(*arguments):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
