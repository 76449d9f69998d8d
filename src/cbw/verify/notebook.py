"""What a verification leaves behind: a folder of traces, one of which holds the verification's own notes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cbw.core.catalogue import EventName
from cbw.core.record import Record
from cbw.errors import UsageError
from cbw.observe.trace import Trace

WAIT_POLL_S = 0.01
"""Interval between two looks at a condition that is waited for: short compared with the 0.1 s that G3 allows."""


class Notebook:
    """The traces of one verification, in ``folder``.

    Raises:
        UsageError: ``folder`` holds traces already.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if next(self._folder.glob("*.jsonl"), None) is not None:
            raise UsageError(f"{folder} holds the traces of an earlier run", advice="Give an empty folder.")
        self._notes = Trace(self.path("verify"), is_printing=False)

    def path(self, name: str) -> str:
        """The file of the trace called ``name``, whether it exists yet or not."""
        return str(self._folder / f"{name}.jsonl")

    def note(self, event: EventName, at: float | None = None, **fields: Any) -> None:
        """Record what the verification does: now, or ``at`` an earlier time (monotonic seconds)."""
        when = time.monotonic() if at is None else at
        self._notes.write([Record(when, event, role="verify", sender="verify", **fields)])

    def files(self) -> list[str]:
        """All traces, to be judged."""
        return [str(path) for path in sorted(self._folder.glob("*.jsonl"))]

    def close(self) -> None:
        """Close the notes. Safe to call twice."""
        self._notes.close()


def wait(patience_s: float, is_true: Callable[..., object], *arguments: object) -> bool:
    """Wait until ``is_true(*arguments)``, for at most ``patience_s``; whether it came true. The traces show what did not."""
    deadline = time.monotonic() + patience_s
    while not is_true(*arguments):
        if time.monotonic() > deadline:
            return False
        time.sleep(WAIT_POLL_S)
    return True
