"""Ids and names of services: those that cannot be are refused where their caller sees it."""

from __future__ import annotations

import enum
from typing import Any

import pytest

import cbw

from .conftest import HOST, RunAsync
from .program import PATIENCE_S


@pytest.mark.parametrize(
    "service", ["\udcff", None, 5, b"echo", "x" * 201], ids=["not UTF-8", "None", "5", "bytes", "long"]
)
def test_a_service_that_cannot_be(client: cbw.Client, run_async: RunAsync, service: Any) -> None:
    """It is refused where its caller sees it, and nothing else is touched."""
    before = client.submit("before", "echo")
    for ask in (client.call, client.submit, lambda *request: list(client.map([b"x"], *request[1:]))):
        with pytest.raises(cbw.UsageError, match="cannot be a service"):
            ask(b"x", service)

    async def use(other: cbw.AsyncClient) -> None:
        with pytest.raises(cbw.UsageError, match="cannot be a service"):
            await other.call(b"x", service)
        assert await other.call(b"x", "echo") == b"x"

    run_async(use)
    assert before.result(PATIENCE_S) == b"before"
    assert client.submit("after", "echo").result(PATIENCE_S) == b"after"
    assert client.call("after that", "echo") == b"after that"


def test_ids_and_services_that_cannot_be() -> None:
    for make in (cbw.Client, cbw.AsyncClient, cbw.Worker):
        for name in ("", "\udcff", "x" * 201):
            with pytest.raises(cbw.UsageError, match="cannot be an id"):
                make(f"{HOST}:1", id=name)
    with pytest.raises(cbw.UsageError, match="cannot be a service"):
        cbw.Worker(f"{HOST}:1").add("\udcff", len)
    with pytest.raises(cbw.UsageError, match="is no host"):
        cbw.Client("\udcff:9998")


class Service(enum.StrEnum):
    """A user's list of services."""

    ECHO = "echo"


def test_a_service_of_a_users_list(client: cbw.Client) -> None:
    assert client.call(b"x", Service.ECHO) == b"x"
