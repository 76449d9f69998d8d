"""``cbw worker --reload``: a worker that is started anew whenever a Python file of the current folder changes.

This process watches the files, and the worker is its child. A worker that ends by itself, most often because half of a change was
saved, is started again at the next one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from cbw.cli import output
from cbw.errors import UsageError
from cbw.local import die_with_parent
from cbw.signals import STOP_SIGNALS, end_at_once, end_of, handling, reopening

RELOAD = "--reload"
LOOK_MS = 200
"""How often, in milliseconds, it is looked whether the worker has ended by itself: a person does not notice the delay."""


def run_reloading() -> int:
    """Run this very command without ``--reload``, anew after each change, until SIGTERM or Ctrl-C. The last worker's exit code.

    Raises:
        UsageError: watchfiles is not installed.
    """
    watchfiles = _require_watchfiles()
    is_over = threading.Event()
    arguments = [argument for argument in sys.argv[1:] if argument != RELOAD]
    worker = _WorkerProcess(
        [sys.executable, "-P", "-m", "cbw", *arguments]
    )  # -P: no module of this folder hides one of Python's
    with handling(STOP_SIGNALS, lambda _number: is_over.set(), end_at_once), reopening(worker.reopen):
        for names in _changes(watchfiles, is_over):
            if names:
                output.line(f"{', '.join(names)} changed: the worker ends, and is started anew", err=True)
                worker.stop()
            if not is_over.is_set():
                worker.go_on(is_wanted=bool(names))
        return worker.stop()


def _changes(watchfiles: ModuleType, is_over: threading.Event) -> Iterator[Sequence[str]]:
    """The names of files that have changed, or nothing when it is time to look at the worker."""
    here = Path.cwd()
    found = watchfiles.watch(
        here,
        watch_filter=watchfiles.PythonFilter(),
        stop_event=is_over,
        rust_timeout=LOOK_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    for changes in found:
        yield sorted({str(Path(path).relative_to(here)) for _, path in changes})


def _require_watchfiles() -> ModuleType:
    try:
        import watchfiles
    except ImportError:
        raise UsageError(f"{RELOAD} needs watchfiles", advice="Install it: pip install 'cbw[reload]'") from None
    return watchfiles


class _WorkerProcess:
    """The worker, which is there or is not."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._code = 0
        self._has_begun = False

    def go_on(self, *, is_wanted: bool) -> None:
        """Start it, at first and if ``is_wanted``; tell it if it has ended by itself."""
        if is_wanted or not self._has_begun:
            self._has_begun = True
            self._process = subprocess.Popen(self._command, preexec_fn=die_with_parent)
        elif self._process is not None and self._process.poll() is not None:
            output.line(f"the worker {end_of(self.stop())}; it is started again at the next change", err=True)

    def stop(self) -> int:
        """Let it finish what runs, and wait for its end; its exit code, or that of the last one if none is there."""
        if self._process is not None:
            self._process.terminate()
            self._code = self._process.wait()
            self._process = None
        return self._code

    def reopen(self) -> None:
        """Tell it of SIGHUP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
