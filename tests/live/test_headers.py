"""Headers: they travel with a request, whichever way it goes, and are bounded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker
from .contract import describe
from .program import PATIENCE_S, Program, wait_until

HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tenant": "señor"}


def serve(start: Start, broker: Broker, log: Log) -> Program:
    before = broker.program.count("worker ready", " worker W1")
    worker = start("worker", "W1", HOST, broker.worker_port, "--app", "contract:archive", CBW_TEST_LOG=str(log.path))
    broker.program.wait_for("worker ready", " worker W1", count=before + 1)
    return worker


def test_headers_reach_the_handler_of_every_kind_of_request(
    start: Start, broker: Broker, connect: Connect, log: Log
) -> None:
    serve(start, broker, log)
    client = connect(broker)
    assert client.call(describe.with_options(headers=HEADERS))["headers"] == HEADERS
    assert client.call(describe)["headers"] == {}
    told = client.submit(b"", "archive.describe", headers=HEADERS, returns=dict[str, Any]).result()
    assert told["headers"] == HEADERS
    many = list(client.map([b"", b""], "archive.describe", headers=HEADERS, returns=dict[str, Any]))
    assert [one["headers"] for one in many] == [HEADERS, HEADERS]
    ticket = client.start(b"", "archive.describe", headers=HEADERS)
    assert client.result(ticket, returns=dict[str, Any])["headers"] == HEADERS

    async def ask() -> list[Any]:
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as other:
            mapped = [one async for one in other.map([b""], "archive.describe", headers=HEADERS)]
            return [await other.call(describe.with_options(headers=HEADERS)), *map(json.loads, mapped)]

    assert [one["headers"] for one in asyncio.run(ask())] == [HEADERS, HEADERS]


def test_headers_on_the_command_line(start: Start, broker: Broker, log: Log) -> None:
    serve(start, broker, log)
    where = ("--broker", broker.address)
    call = start("call", *where, "archive.describe", "{}", "--header", "a=1", "--header", "b=x=y")
    assert call.exit_code() == 0
    assert json.loads(call.lines[0])["headers"] == {"a": "1", "b": "x=y"}
    for wrong, said in (("a", "'a' is no header"), ("a=1", "'a' is there twice"), ("=x", "a header without a name")):
        call = start("call", *where, "archive.describe", "{}", "--header", "a=1", "--header", wrong)
        assert call.exit_code() == 2
        assert call.count(said) == 1


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({str(number): "" for number in range(33)}, "33 headers; a request has at most 32"),
        ({"a": "x" * 8192}, "headers of 8193 bytes"),
        ({"": "x"}, "a header without a name"),
        ({"a": 1}, "must be texts"),
        (5, "must be texts"),
        ("ab", "must be texts"),
        ({"a": "x\udcff"}, "must be texts that UTF-8 can hold"),
        ({"\udcff": "x"}, "must be texts that UTF-8 can hold"),
    ],
)
def test_what_is_too_much_is_refused_by_the_client(shared: Broker, connect: Connect, headers: Any, said: str) -> None:
    with pytest.raises(cbw.UsageError, match=said):
        connect(shared).call(b"x", "echo", headers=headers)
    with pytest.raises(cbw.UsageError, match=said):
        connect(shared).start(b"x", "echo", headers=headers)


def test_headers_survive_the_broker(
    start: Start, start_broker: StartBroker, connect: Connect, log: Log, tmp_path: Path
) -> None:
    options = ("--journal", str(tmp_path / "journal"))
    broker = start_broker(*options)
    client = connect(broker)
    waiting = client.submit(b"", "archive.describe", headers=HEADERS, returns=dict[str, Any])
    ticket = client.start(b"", "archive.describe", headers=HEADERS)
    wait_until(lambda: ticket.is_durable, "the broker has both")
    broker.program.kill()
    again = start_broker(*options, client_port=broker.client_port, worker_port=broker.worker_port)
    serve(start, again, log)
    assert client.result(ticket, returns=dict[str, Any])["headers"] == HEADERS
    assert waiting.result()["headers"] == HEADERS
