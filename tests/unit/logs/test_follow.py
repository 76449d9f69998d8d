"""Following the log, whatever happens to its file. What is to happen next happens while the follower sleeps."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from cbw.logs.files import opened
from cbw.logs.follow import Follower

ROTATED = "logs.20250101T00000{}.000000"


def _nothing() -> None:
    pass


def followed(path: Path, *steps: Callable[[], object]) -> list[bytes]:
    """What a follower gives out if ``steps`` happen one by one, each while it sleeps; and once more after the last."""
    left: list[Callable[[], object]] = [_nothing, *steps, _nothing]

    def sleep(_seconds: float) -> None:
        left.pop(0)()

    follower = Follower(path, sleep=sleep)
    blocks = []
    try:
        for block in follower.blocks():
            blocks.append(block)
            if not left:
                break
    finally:
        follower.close()
    return b"".join(blocks).splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    path.write_bytes(b"old\n")
    return path


def append(path: Path, data: bytes) -> Callable[[], object]:
    def write() -> None:
        with path.open("ab") as file:
            file.write(data)

    return write


def rotate(path: Path, number: int, *, is_packed: bool = False) -> Callable[[], object]:
    """As the logger does it: renamed, begun anew, and soon compressed."""

    def move() -> None:
        target = path.with_name(ROTATED.format(number))
        path.rename(target)
        path.write_bytes(b"first of %d\n" % (number + 1))
        if is_packed:
            Path(f"{target}.gz").write_bytes(gzip.compress(target.read_bytes()))
            target.unlink()

    return move


def together(*steps: Callable[[], object]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def test_what_is_appended(path: Path) -> None:
    assert followed(path, append(path, b"a\nb\n"), append(path, b"c\n")) == [b"a", b"b", b"c"]


def test_no_line_is_given_out_before_its_end(path: Path) -> None:
    assert followed(path, append(path, b"a\nbe"), append(path, b"gun\n")) == [b"a", b"begun"]


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_rotation(path: Path, is_packed: bool) -> None:
    steps = (
        append(path, b"a\n"),
        together(append(path, b"b\n"), rotate(path, 1, is_packed=is_packed)),
        append(path, b"c\n"),
    )
    assert followed(path, *steps) == [b"a", b"b", b"first of 2", b"c"]


def test_several_rotations_at_once(path: Path) -> None:
    burst = [
        step
        for number in (1, 2, 3, 4)
        for step in (append(path, b"in %d\n" % number), rotate(path, number, is_packed=number < 3))
    ]
    found = followed(path, together(*burst), append(path, b"z\n"), rotate(path, 5), append(path, b"zz\n"))
    expected = [b"in 1", b"first of 2", b"in 2", b"first of 3", b"in 3", b"first of 4", b"in 4", b"first of 5"]
    assert found == [*expected, b"z", b"first of 6", b"zz"]


def test_a_reader_that_stood_still_while_what_it_read_was_deleted(path: Path) -> None:
    def delete_oldest() -> None:
        path.with_name(ROTATED.format(1)).unlink()

    burst = together(rotate(path, 1), rotate(path, 2), rotate(path, 3), delete_oldest)
    assert followed(path, append(path, b"a\n"), burst) == [b"a", b"first of 2", b"first of 3", b"first of 4"]


def test_a_rotation_by_somebody_else(path: Path) -> None:
    def logrotate() -> None:
        path.rename(path.with_name("logs.1"))
        path.write_bytes(b"new\n")

    assert followed(path, together(append(path, b"a\n"), logrotate), append(path, b"b\n")) == [b"a", b"new", b"b"]


def test_a_file_that_is_not_there_yet_or_no_more(path: Path) -> None:
    path.unlink()
    steps = append(path, b"a\n"), together(path.unlink, append(path, b"b\n")), path.unlink, append(path, b"c\n")
    assert followed(path, *steps) == [b"a", b"b", b"c"]


def test_a_file_that_is_rotated_before_it_is_seen(path: Path) -> None:
    path.unlink()
    steps = together(append(path, b"a\n"), rotate(path, 1), append(path, b"b\n"), rotate(path, 2, is_packed=True))
    assert followed(path, steps, append(path, b"c\n")) == [b"a", b"first of 2", b"b", b"first of 3", b"c"]


def test_a_rotation_that_has_not_yet_made_the_new_file(path: Path) -> None:
    def move() -> None:
        path.rename(path.with_name(ROTATED.format(1)))

    steps = together(append(path, b"a\n"), move), append(path, b"b\n"), rotate(path, 2), append(path, b"c\n")
    assert followed(path, *steps) == [b"a", b"b", b"first of 3", b"c"]


def test_a_file_that_is_emptied(path: Path) -> None:
    def empty() -> None:
        path.write_bytes(b"x\n")

    assert followed(path, append(path, b"a\nb\n"), empty, append(path, b"c\n")) == [b"a", b"b", b"x", b"c"]


def test_a_torn_end_that_is_cut_off(path: Path) -> None:
    """As the logger does when it starts again, or when there is no room for a whole block."""
    path.write_bytes(b"a line that is longer than the beginning that is compared, to tell a file that was emptied\n")
    size = path.stat().st_size

    def cut() -> None:
        with path.open("r+b") as file:
            file.truncate(size)

    steps = (
        append(path, b"torn"),
        cut,
        append(path, b"b\n"),
        append(path, b"half of a block\n"),
        cut,
        append(path, b"c\n"),
    )
    assert followed(path, *steps)[-1] == b"c"
    assert followed(path, append(path, b"torn"), cut, append(path, b"b\n")) == [b"b"]


def test_the_past_and_the_present_meet_without_a_gap(path: Path) -> None:
    rotate(path, 1)()
    follower = Follower(path, sleep=lambda _: None)
    append(path, b"later\n")()
    rotate(path, 2)()
    append(path, b"latest\n")()
    with opened(path) as parts:
        past = b"".join(block for part in follower.before(parts) for block in part.blocks())
        backward = [block for part in reversed(follower.before(parts)) for block in part.blocks_backward()]
    assert past == b"old\nfirst of 2\n"
    assert b"".join(reversed(backward)) == past
    blocks = follower.blocks()
    assert b"".join(next(blocks) for _ in range(4)) == b"later\nfirst of 3\nlatest\n"
    follower.close()
