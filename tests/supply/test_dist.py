"""When two builds are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from supply.dist import NotSoError, need_same


def built(folder: Path, **files: bytes) -> list[Path]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def test_the_same_bytes(tmp_path: Path) -> None:
    need_same(built(tmp_path / "1", a=b"x", b=b"y"), built(tmp_path / "2", a=b"x", b=b"y"), "twice")


def test_other_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotSoError, match="twice: b has other bytes"):
        need_same(built(tmp_path / "1", a=b"x", b=b"y"), built(tmp_path / "2", a=b"x", b=b"z"), "twice")


def test_so_is_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotSoError, match=r"twice: \['a'\] instead of \['a', 'b'\]"):
        need_same(built(tmp_path / "1", a=b"x", b=b"y"), built(tmp_path / "2", a=b"x"), "twice")
