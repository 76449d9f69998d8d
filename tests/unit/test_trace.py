"""A trace that cannot be written costs records, never the role."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from cbw.core.events import Record
from cbw.trace import Trace

FULL = Path("/dev/full")


def test_a_full_disk_under_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace()
    out = FULL.open("w")
    with contextlib.redirect_stdout(out):
        for _ in range(3):
            trace.write([Record(0.0, "worker_ready", "broker", "BRO")])
    with contextlib.suppress(OSError):  # what it could not write it tries once more
        out.close()
    trace.close()
    assert capsys.readouterr().err == "what happens cannot be printed: No space left on device\n"


def test_a_full_disk_under_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace(str(FULL), is_printing=False)
    for _ in range(3):
        trace.write([Record(0.0, "worker_ready", "broker", "BRO")])
    trace.close()
    assert capsys.readouterr().err == "the trace ends here: No space left on device\n"


def test_whoever_read_what_is_printed_has_gone() -> None:
    """Then the role ends, as any program in a pipe does."""
    theirs, ours = os.pipe()
    os.close(theirs)
    out = os.fdopen(ours, "w")
    with contextlib.redirect_stdout(out), pytest.raises(BrokenPipeError):
        Trace().write([Record(0.0, "worker_ready", "broker", "BRO")])
    with contextlib.suppress(OSError):
        out.close()
