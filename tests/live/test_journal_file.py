"""The broker's journal under real kills and on a real disk without room."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cbw.errors import JournalBroken, JournalFull
from cbw.journal.backend import Append
from cbw.journal.file import FileJournal
from cbw.journal.writer import Writer
from tests.live.journal_appender import batch

ROOT = Path(__file__).parents[2]
KILLS = 12
KEPT = 200
"""Batches that the killed process does not drop."""
BATCH = bytes(100_000)
WAIT_S = 30.0


def contents(folder: Path) -> list[tuple[int, bytes]]:
    """All that is in the journal."""
    journal = FileJournal(folder)
    try:
        return list(journal.open())
    finally:
        journal.close()


def test_a_killed_process_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    durable = 0
    for kill in range(KILLS):
        command = [sys.executable, "-m", "tests.live.journal_appender", str(tmp_path / "journal"), str(KEPT)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as appender:
            assert appender.stdout is not None
            for _ in range(7 + 23 * kill):
                durable = int(appender.stdout.readline())
            appender.kill()
            durable = int((appender.stdout.read().splitlines(keepends=True) or [f"{durable}\n"])[-1])
        found = contents(tmp_path / "journal")
        first, last = found[0][0], found[-1][0]
        assert durable <= last
        assert first <= max(1, durable - KEPT)
        assert found == [(position, batch(position)) for position in range(first, last + 1)]
    assert durable > KEPT
    assert found[0][0] > 1


class SmallDisk:
    """A folder with room for some megabytes, and a way to make more room."""

    def __init__(self, folder: Path, make_room: Callable[[], None]) -> None:
        self.folder = folder
        self.make_room = make_room


@pytest.fixture(params=[2_000_000, 7_000_000], ids=["log", "checkpoint"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    """A small file system, or, as only root may mount one, a limit for the size of files.

    With little room the write-ahead log cannot grow, with more it cannot be copied into the database.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    if os.getuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=True)
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(40_000_000 - request.param))
        try:
            yield SmallDisk(folder, ballast.unlink)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        with FileLimit(request.param) as lift:
            yield SmallDisk(folder, lift)


class FileLimit:
    """No file of this process may grow beyond ``size`` bytes, until the limit is lifted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def __enter__(self) -> Callable[[], None]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._before[1]))
        return self._lift

    def __exit__(self, *_: object) -> None:
        self._lift()

    def _lift(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def fill(journal: FileJournal) -> int:
    """Append until there is no room. Returns how many batches are durable."""
    count = 0
    with pytest.raises(JournalFull):
        while True:
            assert journal.append(count + 1, [BATCH]) is Append.DURABLE
            count += 1
    return count


def goes_on_when_there_is_room(folder: Path, make_room: Callable[[], None]) -> None:
    journal = FileJournal(folder)
    list(journal.open())
    count = fill(journal)
    assert count > 5
    for _ in range(3):
        with pytest.raises(JournalFull):
            journal.append(count + 1, [BATCH, BATCH])
    make_room()
    assert journal.append(count + 1, [BATCH]) is Append.DURABLE
    journal.close()
    assert contents(folder) == [(position, BATCH) for position in range(1, count + 2)]


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(small_disk: SmallDisk) -> None:
    goes_on_when_there_is_room(small_disk.folder / "journal", small_disk.make_room)


def test_a_limit_for_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    with FileLimit(1_500_000) as lift:
        goes_on_when_there_is_room(tmp_path / "journal", lift)


def test_a_broker_that_ends_while_the_disk_is_full(small_disk: SmallDisk) -> None:
    folder = small_disk.folder / "journal"
    journal = FileJournal(folder)
    list(journal.open())
    count = fill(journal)
    journal.close()
    small_disk.make_room()
    assert contents(folder) == [(position, BATCH) for position in range(1, count + 1)]


def test_the_writer_says_that_the_disk_is_full_and_stores_all_when_it_is_not(small_disk: SmallDisk) -> None:
    woken = threading.Semaphore(0)
    journal = FileJournal(small_disk.folder / "journal")
    list(journal.open())
    writer = Writer(journal, woken.release)
    for position in range(1, 101):
        writer.put(position, BATCH)
    while not writer.problem:
        assert woken.acquire(timeout=WAIT_S)
    assert "Make room on the disk" in writer.problem
    assert writer.error is None
    small_disk.make_room()
    while writer.problem or writer.stored < 100:
        assert woken.acquire(timeout=WAIT_S)
    assert writer.close()
    assert contents(journal.folder) == [(position, BATCH) for position in range(1, 101)]


def test_a_file_system_that_may_only_be_read(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=True)
    try:
        contents(disk / "journal")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(JournalBroken, match="Read-only file system"):
            contents(disk / "journal")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
