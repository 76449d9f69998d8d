"""The broker's journal after a power loss, and on a disk that fails: from the system calls of a real process, by strace."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cbw.journal.backend import Append
from cbw.journal.file import FILE, FileJournal
from tests.live.journal_appender import batch
from tests.live.traced_disk import TRACE, Disk, calls

ROOT = Path(__file__).parents[2]
KEPT = 30
APPENDS = 50
POWER_LOSSES = 150


def strace(folder: Path, trace: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run an appender for the journal in ``folder``, and write its system calls to ``trace``."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    appender = [sys.executable, "-m", "tests.live.journal_appender", str(folder), str(KEPT), str(APPENDS)]
    command = ["strace", "-o", str(trace), *options, *appender]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True)


def assert_is_whole(folder: Path, durable: int) -> None:
    """The journal has consecutive batches as they were appended, those that were durable, and can be written."""
    journal = FileJournal(folder)
    try:
        found = list(journal.open())
        position = journal.next_position
        assert position > durable
        first = found[0][0] if found else position
        assert first <= max(1, durable - KEPT + 10)
        assert found == [(number, batch(number)) for number in range(first, position)]
        assert journal.append(position, [batch(position)]) is Append.DURABLE
    finally:
        journal.close()


@pytest.mark.parametrize("seed", range(2))
def test_a_power_loss_at_any_moment_loses_nothing_that_was_durable(tmp_path: Path, seed: int) -> None:
    journal = tmp_path / "journal"
    done = strace(journal, tmp_path / "trace", "-xx", "-s", "100000", "-e", TRACE)
    assert done.returncode == 0, done.stderr
    story = [call for call in calls(tmp_path / "trace") if call.path == "stdout" or str(journal) in call.path]
    draw = random.Random(seed)
    losses = sorted(draw.sample(range(len(story)), POWER_LOSSES))
    disk, durable = Disk(), 0
    for number, call in enumerate(story):
        if number in losses:
            after = tmp_path / "after"
            after.mkdir()
            for path, content in disk.after_power_loss(draw):
                if Path(path).parent == journal:
                    (after / Path(path).name).write_bytes(content)
            assert_is_whole(after, durable)
            shutil.rmtree(after)
        if call.path == "stdout":
            durable = int(call.data.strip() or durable)
        else:
            disk.apply(call)
    assert durable > KEPT * 2


@pytest.mark.parametrize("number", [15, 20, 40, 60])
def test_after_a_failed_sync_nothing_is_written(tmp_path: Path, number: int) -> None:
    journal = tmp_path / "journal"
    assert_is_whole(journal, 0)  # so that it is there
    trace = tmp_path / "trace"
    fault = f"inject=fdatasync:error=EIO:when={number}"
    done = strace(journal, trace, "-e", "trace=pwrite64,fdatasync,ftruncate,unlink", "-e", fault)
    assert "JournalBroken" in done.stderr
    _, injected, after = trace.read_text().partition("(INJECTED)\n")
    assert injected
    assert [line for line in after.splitlines() if "+++" not in line] == []
    assert (journal / (FILE + "-wal")).exists()
    assert_is_whole(journal, int(done.stdout.split()[-1]))
