"""What a command shows on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from .program import environment


def run_on_a_terminal(*arguments: object, **variables: str) -> tuple[int, str]:
    """The exit code of ``cbw ARGUMENTS``, which has a terminal and no input, and all that it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cbw", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", **variables),
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how a terminal ends
        pass
    os.close(ours)
    return process.wait(), shown.decode()
