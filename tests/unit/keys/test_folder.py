"""Which key a role takes from the folder of keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbw.errors import UsageError
from cbw.keys.folder import KeyFolder, link_keys
from cbw.keys.key_file import KeyPair, write_pair


def pair(letter: str) -> KeyPair:
    return KeyPair(letter * 40, letter.upper() * 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("broker", "client", "anna"):
        write_pair(tmp_path, name, pair(name[0]))
    return tmp_path


def test_a_role_takes_the_key_of_its_name(folder: Path) -> None:
    assert KeyFolder(folder).pair("client", "admin") == pair("c")
    assert KeyFolder(folder).pair("admin", "client") == pair("c")
    assert KeyFolder(folder).public("broker") == pair("b").public


def test_or_the_one_that_it_is_given(folder: Path) -> None:
    keys = link_keys(folder / "anna.key_secret", "broker", "client")
    assert keys is not None and keys.own == pair("a") and keys.server == pair("b").public


def test_or_the_only_one(folder: Path) -> None:
    for name in ("client.key_secret", "broker.key_secret"):
        (folder / name).unlink()
    assert KeyFolder(folder).pair("worker") == pair("a")


def test_it_does_not_guess(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no worker.key_secret, and 3 others") as found:
        KeyFolder(folder).pair("worker")
    assert "--keys" in found.value.advice
    with pytest.raises(UsageError, match=r"logger.key: No such file"):
        KeyFolder(folder).public("logger")


def test_without_keys(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("CBW_KEYS", raising=False)
    assert link_keys(None, "broker", "client") is None
    monkeypatch.setenv("CBW_KEYS", str(folder))
    assert link_keys(None, "broker", "client") is not None
    assert link_keys("", "broker", "client") is None
    with pytest.raises(UsageError, match="no folder of keys at /nowhere") as found:
        link_keys("/nowhere", "broker", "client")
    assert "cbw keys new" in found.value.advice
