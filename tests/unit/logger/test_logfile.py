"""The log's file: what others, crashes and cleaners do to it while it is not locked."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cbw.errors import NotReady
from cbw.logger.line import JSON, TEXT, Format
from cbw.logger.logfile import LogFile, Rotation

DAY_S = 86400.0


def log_file(path: Path, *, format: Format = JSON) -> LogFile:
    return LogFile(path, Rotation(1 << 30, DAY_S, 10, False), format=format)


def line(boot: str, number: int) -> bytes:
    """A record, as JSON."""
    return b'{"at":1.0,"event":"x","boot":"%b","seq":%d}\n' % (boot.encode(), number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the log."""
    return tmp_path / "logs"


def test_positions_are_in_the_order_in_which_they_were_heard_last(path: Path) -> None:
    path.write_bytes(line("a", 1) + line("b", 1) + line("a", 2))
    with log_file(path).locked() as positions:
        assert list(positions.items()) == [("b", 1), ("a", 2)]


def test_text_that_looks_like_the_end_of_a_record(path: Path) -> None:
    path.write_bytes(line("a", 1) + b"GET /a took 3 ms [a 200]\n" + b'see {"at":1.0,"boot":"a","seq":9}\n')
    with log_file(path).locked() as positions:
        assert positions == {"a": 1}


def test_positions_of_a_log_for_people(path: Path) -> None:
    path.write_bytes(b"2026-11-24 10:00:00.000 S x [a 7]\nGET /a took 3 ms [a 200]\n" + line("a", 9))
    with log_file(path, format=TEXT).locked() as positions:
        assert positions == {"a": 7}


def test_what_another_logger_left_torn_is_cut_off_before_more_is_written(path: Path) -> None:
    ours, theirs = log_file(path), log_file(path)
    with theirs.locked():
        theirs.append(line("a", 1) + b'{"at":1.0,"event":"the kill came he')
    with ours.locked() as positions:
        assert positions == {"a": 1}
        assert ours.torn == b'{"at":1.0,"event":"the kill came he'
        ours.append(line("b", 1))
    with ours.locked():
        assert ours.torn == b""
    assert path.read_bytes() == line("a", 1) + line("b", 1)


def test_loggers_exclude_each_other_again_when_the_lock_file_was_deleted(path: Path) -> None:
    ours, theirs = log_file(path), log_file(path)
    path.with_name("logs.lock").unlink()
    with ours.locked(), pytest.raises(OSError, match="another logger has locked it"), theirs.locked():
        pass
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        path.with_name("logs.lock").unlink()
        with ours.locked():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_rotation_that_was_cut_short_is_finished(path: Path) -> None:
    """Killed between two renames; and before them, when the new file is not whole yet."""
    path.with_name("logs.new").write_bytes(line("a", 5))
    with log_file(path).locked() as positions:
        assert positions == {"a": 5}
    path.with_name("logs.new").write_bytes(b'{"at":1.0,"eve')
    with log_file(path).locked() as positions:
        assert positions == {"a": 5}
    assert sorted(file.name for file in path.parent.iterdir()) == ["logs", "logs.lock"]


def test_a_file_that_cannot_be_renamed_is_written_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is a mount of its own in a container."""

    def rename(self: Path, target: Path) -> Path:
        raise OSError(16, "Device or resource busy")

    file = log_file(path)
    monkeypatch.setattr(Path, "rename", rename)
    with file.locked():
        file.append(line("a", 1))
        with pytest.raises(OSError, match="busy"):
            file.rotate(b"first\n")
        file.append(line("a", 2))
    assert path.read_bytes() == line("a", 1) + line("a", 2)
    assert not path.with_name("logs.new").exists()


@pytest.mark.parametrize(("age_s", "is_full"), [(2 * DAY_S, True), (10.0, False)])
def test_the_age_of_a_file_is_that_of_its_first_line_however_long_that_is(
    path: Path, age_s: float, is_full: bool
) -> None:
    now = time.time()
    path.write_bytes(b'{"at":%.3f,"event":"positions","fields":{"%b":1}}\n' % (now - age_s, b"x" * 10_000))
    file = log_file(path)
    with file.locked():
        assert file.is_full(now) is is_full


def test_one_file_that_cannot_be_deleted_does_not_keep_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it matter that the system gives no lower priority."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    file = LogFile(path, Rotation(1, DAY_S, 1, True))
    old = [path.with_name(f"logs.2026010{day}T000000.000000") for day in (1, 2, 3)]
    old[0].mkdir()
    for one in old[1:]:
        one.write_bytes(line("a", 1))
    file._tidy()
    left = sorted(one.name for one in path.parent.iterdir() if one != path and one.suffix != ".lock")
    assert left == [old[0].name, f"{old[2].name}.gz"]


def test_a_disk_without_room_for_a_compressed_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    file = LogFile(path, Rotation(1, DAY_S, 1, True))
    old = path.with_name("logs.20260101T000000.000000")
    old.write_bytes(line("a", 1))
    monkeypatch.setattr(os, "fsync", refuse)
    file._tidy()
    assert old.read_bytes() == line("a", 1)
    assert not list(path.parent.glob("*.tmp")) and not list(path.parent.glob("*.gz"))


@pytest.mark.parametrize("name", ["", "/", "logs/.."])
def test_a_folder_in_the_place_of_the_file_is_refused_and_nothing_left_beside_it(tmp_path: Path, name: str) -> None:
    """Not even a lock file. The root of all folders is one like others."""
    place = tmp_path / "folder"
    (place / "logs").mkdir(parents=True)
    with pytest.raises(NotReady, match="is a directory"):
        log_file(place / name)
    assert list(tmp_path.iterdir()) == [place] and list(place.iterdir()) == [place / "logs"]
