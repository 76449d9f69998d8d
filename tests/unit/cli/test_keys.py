"""``cbw keys``: what it makes, what it refuses, what it prints."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from cbw.cli.main import main
from cbw.keys.allowed import ALLOWED, Allowed
from cbw.keys.key_file import read_pair, write_pair
from cbw.transport.curve import new_pair


class Cbw:
    """Runs ``cbw keys ...`` in a folder of keys."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0, is_new: bool = False) -> str:
        arguments = ["keys", *words, *([] if is_new else ["--keys", str(self.folder)])]
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = self._capsys.readouterr()
        assert ended.value.code == code, said
        return said.out + said.err

    @property
    def names(self) -> list[str]:
        return [key.name for key in Allowed(self.folder / ALLOWED).keys]


@pytest.fixture
def cbw(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cbw:
    monkeypatch.delenv("CBW_KEYS", raising=False)
    cbw = Cbw(tmp_path / "keys", capsys)
    cbw("new", str(cbw.folder), is_new=True)
    return cbw


def test_new(cbw: Cbw) -> None:
    assert cbw.names == ["broker", "client", "worker", "logger", "admin"]
    assert cbw.folder.stat().st_mode & 0o777 == 0o700
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in [*cbw.folder.glob("*.key_secret"), cbw.folder / "status.token"]
    )
    assert "is not empty" in cbw("new", str(cbw.folder), code=2, is_new=True)
    assert "no user" in cbw("new", str(cbw.folder / "other"), "--owner", "no-such-user", code=2, is_new=True)


def test_add_and_list(cbw: Cbw) -> None:
    assert "anna.key_secret" in cbw("add", "anna", "--role", "client", "--service", "price", "--service", "")
    allowed = {key.name: key for key in Allowed(cbw.folder / ALLOWED).keys}
    assert allowed["anna"].services == ("price", "")
    assert allowed["anna"].public == read_pair(cbw.folder / "anna.key_secret").public
    assert cbw("list").splitlines()[-1] == 'anna    client  price ""'


def test_add_only_a_public_key(cbw: Cbw, tmp_path: Path) -> None:
    write_pair(tmp_path, "bert", new_pair())
    cbw("add", "bert", "--role", "worker", "--public", str(tmp_path / "bert.key"))
    cbw("add", "carl", "--role", "worker", "--public", new_pair().public)
    assert cbw.names[-2:] == ["bert", "carl"] and not list(cbw.folder.glob("bert*"))
    assert "is allowed already: it is that of bert" in cbw(
        "add", "dora", "--role", "client", "--public", str(tmp_path / "bert.key"), code=2
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["../x", "--role", "client"], "cannot be a name"),
        (["client", "--role", "client"], "there is a key called client already"),
        (["x", "--role", "client", "--service", "a b"], "it has blanks"),
        (["x", "--role", "clown"], "clown"),
        (["x", "--role", "broker", "--service", "a"], "a key of role broker is for no services"),
        (["x", "--role", "logger", "--service", "a"], "a key of role logger is for no services"),
        (["x", "--role", "client", "--public", "/nowhere"], "No such file"),
    ],
)
def test_what_cannot_be_added(cbw: Cbw, words: list[str], error: str) -> None:
    assert error in cbw("add", *words, code=2) and len(cbw.names) == 5


def test_revoke(cbw: Cbw) -> None:
    cbw("revoke", "worker")
    assert "worker" not in cbw.names and not list(cbw.folder.glob("worker*"))
    assert "no key called worker is allowed" in cbw("revoke", "worker", code=2)
    cbw("revoke", "broker")
    assert (cbw.folder / "broker.key_secret").exists(), "its clients know it by this key"


def test_secrets_for_kubernetes(cbw: Cbw) -> None:
    cbw("add", "Anna_1", "--role", "client")
    secrets = {one["metadata"]["name"]: one for one in yaml.safe_load_all(cbw("secret"))}
    assert {name: sorted(one["data"]) for name, one in secrets.items()} == {
        "cbw-keys-broker": ["allowed", "broker.key", "broker.key_secret", "logger.key", "status.token"],
        "cbw-keys-client": ["broker.key", "client.key_secret", "logger.key", "status.token"],
        "cbw-keys-worker": ["broker.key", "logger.key", "status.token", "worker.key_secret"],
        "cbw-keys-logger": ["allowed", "broker.key", "logger.key", "logger.key_secret", "status.token"],
        "cbw-keys-admin": ["admin.key_secret", "broker.key", "logger.key", "status.token"],
        "cbw-keys-anna-1": ["Anna_1.key_secret", "broker.key", "logger.key", "status.token"],
    }
    data = secrets["cbw-keys-client"]["data"]["client.key_secret"]
    assert base64.b64decode(data) == (cbw.folder / "client.key_secret").read_bytes()


def test_it_needs_a_folder(cbw: Cbw, tmp_path: Path) -> None:
    assert "Give it with --keys DIR, or set CBW_KEYS" in cbw("list", code=2, is_new=True)
    assert "cbw keys new" in cbw("list", "--keys", str(tmp_path), code=2, is_new=True)
