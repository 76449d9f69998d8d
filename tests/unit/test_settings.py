"""The names of settings, and addresses as people give them."""

from __future__ import annotations

import pytest

from cbw import settings
from cbw.addresses import address
from cbw.errors import UsageError
from cbw.settings import CLIENT_PORT, Setting

ALL = [one for value in vars(settings).values() for one in (value if isinstance(value, tuple) else (value,))]
SETTINGS = [one for one in ALL if isinstance(one, Setting)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bro:1234", ("bro", 1234)),
        ("bro", ("bro", CLIENT_PORT)),
        ("bro:", ("bro", CLIENT_PORT)),
        (":1234", ("127.0.0.1", 1234)),
        (None, ("127.0.0.1", CLIENT_PORT)),
        ("10.0.0.2:1234", ("10.0.0.2", 1234)),
        ("[::1]:1234", ("::1", 1234)),
        ("[::1]", ("::1", CLIENT_PORT)),
        ("::1", ("::1", CLIENT_PORT)),
        ("fd00::2:1234", ("fd00::2", 1234)),
        ("fd00:0:0:0:0:0:0:2", ("fd00:0:0:0:0:0:0:2", CLIENT_PORT)),
    ],
)
def test_an_address(text: str | None, found: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER_HOST", "BROKER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert address(text, "client") == found


@pytest.mark.parametrize(
    "text", ["bro:x", "bro:0", "bro:65536", "two words:1", "a/b:1", "", "[::1:1", "1.2.3.4:5:6", "*:1"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        address(text, "client")


def test_variables_that_listen_are_not_named_like_those_that_connect() -> None:
    hosts = {one.environment for one in SETTINGS if one.environment.endswith("_HOST")}
    assert hosts == {"BROKER_HOST", "LOGGER_HOST"}, "_HOST says where to connect"
    listens = {one.environment for one in SETTINGS if "listen" in one.name}
    assert listens == {"CBW_BROKER_LISTEN", "CBW_LOGGER_LISTEN", "CBW_STATUS_LISTEN"}, "_LISTEN says where to listen"
