"""Key files: ours, pyzmq's, and those that are refused."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import zmq.auth

from cbw.errors import UsageError
from cbw.keys.key_file import KeyPair, read_pair, read_public, write_pair

PAIR = KeyPair("a" * 40, "b" * 40)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_pair(tmp_path, "anna", PAIR)
    assert read_pair(tmp_path / "anna.key_secret") == PAIR
    assert read_public(tmp_path / "anna.key") == read_public(tmp_path / "anna.key_secret") == PAIR.public
    assert (tmp_path / "anna.key_secret").stat().st_mode & 0o777 == 0o600
    assert PAIR.secret not in (tmp_path / "anna.key").read_text()


def test_pyzmq_and_we_read_each_others_files(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(str(tmp_path), "theirs")
    Path(secret).chmod(0o600)
    assert read_pair(Path(secret)) == KeyPair(*(half.decode() for half in zmq.auth.load_certificate(secret) if half))
    assert read_public(Path(public)) == read_pair(Path(secret)).public
    write_pair(tmp_path, "ours", PAIR)
    assert zmq.auth.load_certificate(str(tmp_path / "ours.key_secret")) == (b"a" * 40, b"b" * 40)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o620, 0o666])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    write_pair(tmp_path, "anna", PAIR)
    (tmp_path / "anna.key_secret").chmod(mode)
    for read in (read_pair, read_public):
        with pytest.raises(UsageError, match=f"others may read the secret key .*{mode:04o}") as found:
            read(tmp_path / "anna.key_secret")
        assert "chmod 600" in found.value.advice and PAIR.secret not in "".join(traceback.format_exception(found.value))


def test_a_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    for text, error in (
        ("", "no public-key in it"),
        ('curve\n    public-key = "short"\n', "x.key:2: the public-key is not 40 characters"),
        ('curve\n    public-key = "' + "~" * 40 + '"\n', "x.key:2"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=error):
            read_public(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_public(path)
    with pytest.raises(UsageError, match="No such file"):
        read_public(tmp_path / "y.key")


def test_a_secret_is_never_printed() -> None:
    assert PAIR.secret not in repr(PAIR) + str(PAIR) + f"{[PAIR]}"
