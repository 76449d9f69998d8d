"""``cbw worker --reload``: a worker that is started anew whenever a Python file of the current folder changes.

This process watches the files, and the worker is its child. A worker that ends by itself, most often because half of a change was
saved, is started again at the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cbw.cli import output
from cbw.errors import NotReady, UsageError
from cbw.local import die_with_parent
from cbw.signals import STOP_SIGNALS, end_at_once, end_of, handling, reopening

RELOAD = "--reload"
LOOK_MS = 200
"""How often, in milliseconds, it is looked whether the worker has ended by itself: a person does not notice the delay."""


def run_reloading() -> int:
    """Run this very command without ``--reload``, anew after each change, until SIGTERM or Ctrl-C. The last worker's exit code.

    Raises:
        UsageError: watchfiles is not installed.
        NotReady: the system watches no more folders.
    """
    watchfiles = _require_watchfiles()
    is_over = threading.Event()
    arguments = [argument for argument in sys.argv[1:] if argument != RELOAD]
    worker = _WorkerProcess(
        [sys.executable, "-P", "-m", "cbw", *arguments]
    )  # -P: no module of this folder hides one of Python's
    with handling(STOP_SIGNALS, lambda _number: is_over.set(), end_at_once), reopening(worker.reopen):
        try:
            begun_at = time.time()
            worker.go_on(is_wanted=True)  # at once: it takes seconds until many folders are watched
            for names in _changes(watchfiles, is_over, begun_at):
                if names:
                    output.line(f"{', '.join(names)} changed: the worker ends, and is started anew", err=True)
                    worker.stop()
                if not is_over.is_set():
                    worker.go_on(is_wanted=bool(names))
        finally:
            code = worker.stop()
        return code


def _changes(watchfiles: ModuleType, is_over: threading.Event, begun_at: float) -> Iterator[Sequence[str]]:
    """The names of files that have changed since ``begun_at``, or nothing when it is time to look at the worker."""
    here, wanted = Path.cwd(), watchfiles.PythonFilter()
    how = {"watch_filter": wanted, "stop_event": is_over, "rust_timeout": LOOK_MS, "yield_on_timeout": True}
    is_watching = False
    try:
        for changes in _watch(watchfiles, here, how):
            if not is_watching:
                is_watching = True
                changes |= {("", path) for path in _changed_since(begun_at, here, wanted.ignore_dirs)}
            yield sorted({str(Path(path).relative_to(here)) for _, path in changes})
    except (OSError, RuntimeError) as error:
        if not re.search("watch limit|Too many open files", str(error)):
            raise
        raise NotReady(
            f"{RELOAD} watches each folder below {here}, and this user may watch no more",
            advice="Start it in a folder with fewer folders below it, or raise the limits: sysctl -w "
            "fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512. Or set WATCHFILES_FORCE_POLLING=1.",
        ) from None


def _watch(watchfiles: ModuleType, here: Path, how: dict[str, Any]) -> Iterator[set[tuple[Any, str]]]:
    """All changes. Folders that may not be read are left out, but only where there are any: watchfiles would then be silent, too,
    about those that it cannot watch because of a limit.
    """
    try:
        yield from watchfiles.watch(here, ignore_permission_denied=False, **how)
    except PermissionError:
        yield from watchfiles.watch(here, ignore_permission_denied=True, **how)


def _changed_since(at: float, here: Path, ignored: Collection[str]) -> list[str]:
    """The Python files below ``here`` that were saved after ``at``."""
    found = []
    for folder, names, files in os.walk(here):
        names[:] = [name for name in names if name not in ignored]
        for name in files:
            path = Path(folder, name)
            with contextlib.suppress(OSError):  # it is gone, or may not be looked at
                if path.suffix == ".py" and path.stat().st_mtime >= at:
                    found.append(str(path))
    return found


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

    def go_on(self, *, is_wanted: bool) -> None:
        """Start it if ``is_wanted``; tell it if it has ended by itself."""
        if is_wanted:
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
