"""What Kubernetes sets for services called as ours are in the lab does not stop a role."""

from __future__ import annotations

import os

import pytest

from cbw import addresses, service_links, settings
from cbw.errors import UsageError
from cbw.observe.trace import LogTarget

LINK = "tcp://10.96.0.12:9998"


def test_they_are_ignored_by_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PORT", LINK)
    monkeypatch.setenv("LOGGER_PORT", LINK)
    assert addresses.address("bro", "client") == ("bro", 9998)
    assert addresses.address("bro", "worker") == ("bro", 9999)
    assert LogTarget.from_environment("client") is None
    monkeypatch.setenv("LOGGER_HOST", "log")
    target = LogTarget.from_environment("client", keys="")
    assert target is not None and target.port == settings.LOG_PORT


@pytest.mark.parametrize("name", service_links.LINKED)
def test_the_command_line_forgets_them(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, LINK)
    service_links.forget()
    assert name not in os.environ


def test_all_else_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PORT", "1234")
    service_links.forget()
    assert addresses.address("bro", "worker") == ("bro", 1234)
    monkeypatch.setenv("BROKER_PORT", "tcp://nonsense")
    service_links.forget()
    with pytest.raises(UsageError, match="is no port"):
        addresses.address("bro", "worker")


def test_every_port_of_the_environment_is_among_them() -> None:
    tables = (settings.STATUS, settings.LOG, settings.LOGGER, settings.BROKER, settings.WORKER, settings.CLIENT)
    found = {one.environment for table in tables for one in (*table, settings.BROKER_PORT)}
    assert {name for name in found if name.endswith("_PORT")} == set(service_links.LINKED)
