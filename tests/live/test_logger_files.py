"""The files of a log: shared by two loggers, rotated, moved away, lost, and on a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from cbw.logger.logfile import files_of
from cbw.observe.sender import LogSender

from .conftest import HOST, Start, StartLogger
from .logged import record, records, sending, sent
from .program import Program, wait_until


def test_two_loggers_share_a_file(start_logger: StartLogger, logs: Path) -> None:
    (first, one), (_, other) = start_logger("--rotate-bytes", 100_000), start_logger("--rotate-bytes", 100_000)
    with sending(one, "A") as a, sending(other, "B") as b:
        for _ in range(100):
            a.put([record(n) for n in range(20)])
            b.put([record(n) for n in range(20)])
            time.sleep(0.005)
        wait_until(lambda: a.status()["acknowledged"] == b.status()["acknowledged"] == 2000, "all records")
    assert sent(logs, a.boot) == sent(logs, b.boot) == list(range(1, 2001))
    assert len(files_of(logs)) > 2
    assert first.is_running


def test_rotation_compresses_keeps_and_forgets(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger("--rotate-bytes", 1 << 16, "--keep", 2)
    with sending(port) as sender:
        for number in range(200):
            sender.put([record(n) for n in range(number * 20, number * 20 + 20)])
            time.sleep(0.003)
        wait_until(lambda: sender.status()["acknowledged"] == 4000, f"all records: {sender.status()}")
    wait_until(lambda: [path.suffix for path in files_of(logs)][:-1] == [".gz", ".gz"], f"two: {files_of(logs)}")
    numbers = sent(logs, sender.boot)
    assert numbers == list(range(numbers[0], 4001))
    logger.kill()
    _, port = start_logger("--rotate-bytes", 1 << 16)
    assert not any(line["event"] in ("gap", "duplicates") for line in records(logs))


def test_sighup_opens_the_file_anew(start_logger: StartLogger, logs: Path) -> None:
    """Or emptied it. The new file is enough to go on from, also for a logger that is started later."""
    logger, port = start_logger()
    with sending(port) as sender:
        sender.put([record(1), record(2)])
        wait_until(lambda: sender.status()["acknowledged"] == 2, "two records")
        logs.rename(logs.with_name("moved"))
        logger.signal(signal.SIGHUP)
        wait_until(lambda: logs.exists() and logs.stat().st_size, "a new file")
        logger.kill()
        logger, port = start_logger(port=port)
        sender.put([record(3)])
        wait_until(lambda: sender.status()["acknowledged"] == 3, "a record")
        os.truncate(logs, 0)
        sender.put([record(4)])
        wait_until(lambda: sender.status()["acknowledged"] == 4, "another one")
        logger.kill()
        start_logger(port=port)
        sender.put([record(5)])
        wait_until(lambda: sender.status()["acknowledged"] == 5, "the last one")
    assert sent(logs, sender.boot) == [4, 5]
    assert not any(line["event"] == "gap" for line in records(logs))


def test_a_lost_folder_is_made_again(start_logger: StartLogger, logs: Path) -> None:
    _, port = start_logger()
    with sending(port) as sender:
        logs.parent.rename(logs.parent.with_name("moved"))
        sender.put([record(1)])
        wait_until(lambda: sender.status()["acknowledged"] == 1, "a record")
    assert sent(logs, sender.boot) == [1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 384 kB: all that a sender has fits on it, if nothing else is there."""
    place = tmp_path / "small"
    place.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def full(start: Start, small_disk: Path) -> Iterator[tuple[Program, int, LogSender, Path]]:
    """A logger whose disk has room for half of what a sender has for it, its port, the sender, and what takes the room."""
    logger = start("logger", 0, small_disk / "logs")
    port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 281_000)
    with sending(port) as sender:
        for _ in range(20):
            sender.put([record(number) for number in range(100)])
            time.sleep(0.02)
        logger.wait_for("cannot write the log", "No space left")
        yield logger, port, sender, ballast


def test_a_full_disk_is_survived_and_accounted_for(start: Start, small_disk: Path) -> None:
    path = small_disk / "logs"
    with full(start, small_disk) as (logger, _, sender, ballast):
        assert path.read_bytes().endswith(b"\n")
        ballast.unlink()
        path.rename(small_disk / "gone")
        (small_disk / "gone").unlink()
        logger.signal(signal.SIGHUP)
        logger.wait_for("can be written again")
        wait_until(lambda: sender.status()["waiting"] == 0, f"the rest: {sender.status()}")
        numbers = sent(path, sender.boot)
        assert numbers == list(range(numbers[0], 2001))
        assert sender.status()["dropped"] == 0


def test_a_logger_that_is_killed_while_the_disk_is_full(start: Start, small_disk: Path) -> None:
    """It has acknowledged only what is in the file: senders still have the rest."""
    path = small_disk / "logs"
    with full(start, small_disk) as (logger, port, sender, ballast):
        time.sleep(1)
        logger.kill()
        assert sender.status()["acknowledged"] <= len(sent(path, sender.boot)) < 2000
        ballast.unlink()
        moved = Path(shutil.copy(path, small_disk.parent))  # to a disk with room
        start("logger", port, moved)
        wait_until(lambda: sender.status()["waiting"] == 0, f"the rest: {sender.status()}")
        assert sent(moved, sender.boot) == list(range(1, 2001))
    assert not any(line["event"] in ("gap", "lost") for line in records(moved))


def test_text_lines_lost_to_a_full_disk_are_counted(start: Start, small_disk: Path) -> None:
    path = small_disk / "logs"
    logger = start("logger", 0, path)
    port = int(logger.wait_for("text on port").split("text on port ")[1].split(",")[0])
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    line, count = b"x" * 999, 12_000  # 12 MB; 8 MiB are kept
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://{HOST}:{port}")
        for _ in range(count):
            push.send(line)
        push.send(b"last")
        logger.wait_for("cannot write the log")
        time.sleep(1.5)  # until all have arrived
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        wait_until(lambda: b"\nlast\n" in path.read_bytes(), "the last line")
    (lost,) = (line for line in records(path) if line["event"] == "lost")
    assert lost["count"] > 0
    assert lost["count"] == count - path.read_bytes().count(line)


def test_text_format_goes_on_after_a_kill(start_logger: StartLogger, logs: Path) -> None:
    logger, port = start_logger("--format", "text", "--fsync", "always")
    with sending(port) as sender:
        sender.put([record(number) for number in range(10)])
        wait_until(lambda: sender.status()["acknowledged"] == 10, "ten records")
        logger.kill()
        _, port = start_logger("--format", "text", port=port)
        sender.put([record(number) for number in range(10, 20)])
        wait_until(lambda: sender.status()["acknowledged"] == 20, "twenty records")
    lines = [line for line in logs.read_text().splitlines() if f"[{sender.boot} " in line]
    assert [int(line.rpartition(" ")[2].rstrip("]")) for line in lines] == list(range(1, 21))
    assert " S log C1/7 " in lines[7]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda place: place.mkdir(), ("is a directory", "Give a file")),
        (lambda place: (place.parent.rmdir(), place.parent.touch()), ("is no directory",)),
    ],
)
def test_a_place_that_cannot_be(
    start: Start, tmp_path: Path, prepare: Callable[[Path], object], words: tuple[str, ...]
) -> None:
    (tmp_path / "folder").mkdir()
    place = tmp_path / "folder" / "logs"
    prepare(place)
    logger = start("logger", 0, place)
    assert logger.exit_code() == 3
    for word in words:
        assert logger.count(word), logger
