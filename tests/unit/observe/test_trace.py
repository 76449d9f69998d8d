"""A trace that cannot be written costs records, never the role."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.observe.trace import Trace, read, text_of

FULL = Path("/dev/full")


def test_a_full_disk_under_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace()
    out = FULL.open("w")
    with contextlib.redirect_stdout(out):
        for _ in range(3):
            trace.write([Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO")])
    with contextlib.suppress(OSError):  # what it could not write it tries once more
        out.close()
    trace.close()
    assert capsys.readouterr().err == "what happens cannot be printed: No space left on device\n"


def test_a_full_disk_under_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace(str(FULL), is_printing=False)
    for _ in range(3):
        trace.write([Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO")])
    trace.close()
    assert capsys.readouterr().err == "the trace ends here: No space left on device\n"


def test_what_peers_call_themselves_does_not_control_a_terminal() -> None:
    line = text_of(
        Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO", worker="W\x1b[2J\n\u202eñ", text="a\tb")
    )
    assert line.endswith("BRO worker ready worker W\\u001b[2J\\n\\u202eñ (a\tb)")


def test_a_clock_that_is_set_moves_the_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace"
    trace = Trace(str(path), is_printing=False)
    monotonic = time.monotonic()
    began_at = time.time()
    trace.write([Record(monotonic, catalogue.WORKER_READY, role="broker", sender="BRO")])
    for later_s in (0.5, 3600.0, -3600.0):
        monkeypatch.setattr("cbw.clock.time.time", lambda at=began_at + later_s: at)
        trace.write([Record(monotonic, catalogue.WORKER_READY, role="broker", sender="BRO")])
    trace.close()
    assert [record.at - began_at for record in read(str(path))] == pytest.approx([0, 0, 3600, -3600], abs=0.3)


def test_whoever_read_what_is_printed_has_gone() -> None:
    """Then the role ends, as any program in a pipe does."""
    theirs, ours = os.pipe()
    os.close(theirs)
    out = os.fdopen(ours, "w")
    with contextlib.redirect_stdout(out), pytest.raises(BrokenPipeError):
        Trace().write([Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO")])
    with contextlib.suppress(OSError):
        out.close()


def test_the_loss_of_the_reader_is_told_once_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace"
    trace = Trace(str(path))
    theirs, ours = os.pipe()
    os.close(theirs)
    out = os.fdopen(ours, "w")
    ready = [Record(1.0, catalogue.WORKER_READY, role="broker", sender="BRO")]
    with contextlib.redirect_stdout(out):
        with pytest.raises(BrokenPipeError):
            trace.write(ready)
        trace.write(ready)
    with contextlib.suppress(OSError):
        out.close()
    trace.close()
    told = [(record.event, record.sender) for record in read(str(path))]
    assert told == [("worker_ready", "BRO"), ("output_unread", "BRO"), ("worker_ready", "BRO")]
    assert capsys.readouterr().err == "nobody reads what is printed here: nothing more will be\n"


def test_a_terminal_that_knows_only_ascii() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(out):
        Trace().write([Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO", text="ñ")])
    out.seek(0)
    assert out.read().endswith(r"BRO worker ready (\xf1)" + "\n")


def test_a_program_that_has_closed_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    out.close()
    with contextlib.redirect_stdout(out):
        for _ in range(2):
            Trace().write([Record(0.0, catalogue.WORKER_READY, role="broker", sender="BRO")])
    assert "what happens cannot be printed" in capsys.readouterr().err


THREADS = """
import threading
from cbw.core.record import Record
from cbw.observe.trace import Trace
trace = Trace(is_verbose=True)
def tell():
    for _ in range(1000):
        trace.write([Record(0.0, "begun", role="worker", sender="W1")] * 2)
threads = [threading.Thread(target=tell) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_lines_of_several_threads_stay_whole() -> None:
    """They do so also where Python passes on each word that is printed, as in our images."""
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 8000
    assert {line.partition(" ")[2] for line in lines} == {"W1 begun"}
