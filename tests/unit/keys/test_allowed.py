"""The file ``allowed``: what a line says, what is wrong with it, and what happens when it changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cbw.core.key import Key
from cbw.errors import UsageError
from cbw.keys.allowed import Allowed, change, parse, render, write

A, B = "a" * 40, "#" + "b" * 39
KEYS = [Key("client", A, "anna"), Key("worker", B, "bert", ("", "price"))]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "allowed", KEYS)
    assert Allowed(tmp_path / "allowed").keys == KEYS
    assert parse(Path(), render(KEYS) + "\n# worker is no longer here\n\n") == {A: KEYS[0], B: KEYS[1]}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("client", "1 words, where role, public key and name are needed"),
        (f"clown {A} anna", "'clown' is no role"),
        ("client short anna", "the public key of anna is not 40 characters of Z85"),
        (f"client {A} ../anna", "cannot be a name"),
        (f"client {B} other\nclient {B} again", "the key of again is here twice"),
        (f"client {B} first", "the name of first is here twice"),
    ],
)
def test_a_wrong_line_is_named(line: str, error: str) -> None:
    text = f"# keys\nclient {A} first\n{line}\n"
    with pytest.raises(UsageError, match=error) as found:
        parse(Path("/keys/allowed"), text)
    assert str(found.value).startswith(f"/keys/allowed:{text.rstrip().count(chr(10)) + 1}: ")


def test_changes_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "allowed"
    write(path, KEYS)
    allowed = Allowed(path)
    assert allowed.refresh() == set()
    write(path, [KEYS[0], Key("worker", B, "bert", ("price",))])
    assert allowed.refresh() == {B}, "its services are others now"
    write(path, [Key("worker", B, "bert", ("price",))])
    assert allowed.refresh() == {A} and allowed.get(A) is None
    write(path, [*KEYS])
    assert allowed.refresh() == {B} and allowed.get(A) == KEYS[0], "to allow a key again ends nothing of its own"


def test_changes_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    """Each reads the file when the one before has written it: ``cbw keys add`` may run twice at once."""
    path, more = tmp_path / "allowed", Key("worker", "m" * 40, "more")
    write(path, KEYS)
    other = threading.Thread(target=change, args=(path, lambda keys: [*keys, more]))

    def slowly(keys: list[Key]) -> list[Key]:
        other.start()
        other.join(0.2)  # it wants to write meanwhile
        return [*keys, Key("client", "s" * 40, "slow")]

    change(path, slowly)
    other.join()
    assert [key.name for key in Allowed(path).keys] == [*(key.name for key in KEYS), "slow", "more"]


def test_a_file_that_is_replaced_is_read(tmp_path: Path) -> None:
    """As a Kubernetes volume does: the name is a symbolic link to another file, which may have the same time and size."""
    for folder, key in (("one", KEYS[0]), ("two", Key("client", "c" * 40, "anna"))):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "allowed", [key])
        os.utime(tmp_path / folder / "allowed", (1, 1))
    path = tmp_path / "allowed"
    path.symlink_to("one/allowed")
    allowed = Allowed(path)
    path.unlink()
    path.symlink_to("two/allowed")
    assert allowed.refresh() == {A}


def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "allowed"
    write(path, KEYS)
    allowed = Allowed(path)
    path.write_text("nonsense\n")
    assert allowed.refresh() == set() and "allowed:1: 1 words" in allowed.problem and allowed.get(A)
    path.unlink()
    assert allowed.refresh() == set() and "No such file" in allowed.problem and allowed.get(A)
    write(path, KEYS[:1])
    assert allowed.refresh() == {B} and allowed.problem == ""


def test_it_is_written_in_place(tmp_path: Path) -> None:
    """A container into which this one file is mounted would not see another one."""
    path = tmp_path / "allowed"
    write(path, KEYS)
    inode = path.stat().st_ino
    write(path, KEYS[:1])
    assert path.stat().st_ino == inode and path.read_text() == render(KEYS[:1])


def test_there_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*allowed: No such file") as found:
        Allowed(tmp_path / "allowed")
    assert "cbw keys new" in found.value.advice
