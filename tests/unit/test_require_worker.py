"""``require_worker``: a request that does not wait for a worker to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import cbw
from cbw.core import messages
from cbw.core.client.events import Submitted
from cbw.testing import MemoryClient, System
from tests.unit.core.client.test_core import WELCOME, DrivenClient


@pytest.fixture
def system() -> System:
    return System()


def call(client: MemoryClient, service: str) -> Any:
    return client.call(b"tea", service, require_worker=True)


def start(client: MemoryClient, service: str) -> Any:
    return client.result(client.start(b"tea", service, require_worker=True))


@pytest.mark.parametrize("ask", [call, start])
def test_it_ends_at_once_if_nobody_serves_it(system: System, ask: Callable[[MemoryClient, str], Any]) -> None:
    system.worker({"price": lambda body: body})
    with pytest.raises(cbw.Expired) as expired:
        ask(system.client("C1"), "prize")
    assert (expired.value.kind, system.now) == ("no_worker", 0.0)
    assert expired.value.text == "no worker here serves 'prize'; did you mean 'price'?"
    assert system.broker.requests.count == 0 and not system.broker.tickets.rows


@pytest.mark.parametrize("ask", [call, start])
def test_it_is_like_any_other_if_somebody_does(system: System, ask: Callable[[MemoryClient, str], Any]) -> None:
    system.worker({"price": lambda body: body}, work_time_s=5)
    client = system.client("C1")
    waiting = client.submit(b"first", "price")
    assert ask(client, "price") == b"tea" and system.now == 10.0 and waiting.is_ended


def test_others_still_wait(system: System) -> None:
    client = system.client("C1")
    waiting = client.submit(b"tea", "price")
    with pytest.raises(cbw.Expired):
        call(client, "price")
    system.worker({"price": lambda body: body})
    assert waiting.result() == b"tea"


def test_what_the_broker_has_already_goes_on_without_a_worker(system: System) -> None:
    worker = system.worker({"price": lambda body: body}, work_time_s=5)
    client = system.client("C1")
    request = client.submit(b"tea", "price", require_worker=True)
    worker.kill()
    client.cut()
    client.mend()
    assert not request.is_ended
    system.worker({"price": lambda body: body})
    assert request.result() == b"tea"


def submitted(client: DrivenClient) -> None:
    client.step(Submitted(1, "s", [b"x"], 5.0, "sink", requires_worker=True), now=0.0)


def test_it_is_sent_to_a_broker_that_knows_such_requests() -> None:
    client = DrivenClient()
    client.connected(0.0)
    submitted(client)
    assert [type(message) for message in client.take_sent()] == [messages.ClientHello]
    client.received(messages.Welcome("BRO", "boot", 3.0, 1000, refuses_unserved=True), now=1.0)
    assert client.take_sent() == [messages.RequestIfServed(1, "s", b"x", 4.0)]


def test_an_earlier_broker_gets_it_as_any_other() -> None:
    client = DrivenClient()
    client.connected(0.0)
    client.received(WELCOME, now=0.0)
    client.take_sent()
    submitted(client)
    assert client.take_sent() == [messages.Request(1, "s", b"x", 5.0)]
