"""The token of the status pages: what a file may hold, and who may read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbw.errors import UsageError
from cbw.keys.status_token import STATUS_TOKEN, read_token, write_token


def test_what_is_written_is_read_and_new_each_time(tmp_path: Path) -> None:
    write_token(tmp_path)
    first = read_token(tmp_path / STATUS_TOKEN)
    write_token(tmp_path)
    assert len(first) >= 40 and read_token(tmp_path / STATUS_TOKEN) != first
    assert (tmp_path / STATUS_TOKEN).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o666])
def test_one_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    write_token(tmp_path)
    (tmp_path / STATUS_TOKEN).chmod(mode)
    with pytest.raises(UsageError, match=rf"others may read the secret token .*{mode:04o}") as found:
        read_token(tmp_path / STATUS_TOKEN)
    assert "chmod 600" in found.value.advice


@pytest.mark.parametrize(
    "text",
    ["", "\n", "short", "x" * 15, "two words of which it is made", "sixteen-letters-ä", "a" * 20 + "\nX-Header: b"],
)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="no token in it") as found:
        read_token(path)
    assert not text.strip() or text not in str(found.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the token .*No such file") as found:
        read_token(tmp_path / "token")
    assert "cbw keys new" in found.value.advice


def test_blanks_around_it_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("  0123456789abcdef==\r\n")
    path.chmod(0o600)
    assert read_token(path) == "0123456789abcdef=="
