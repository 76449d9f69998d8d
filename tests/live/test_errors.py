"""Errors of requests as their clients see them: which request it was, what went wrong, and for programs why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import cbw
from cbw.observe.trace import LogTarget, Trace

from .conftest import HOST, Broker, Connect, Start, StartBroker, broker_of

SHOP = """\
import cbw


def find(article: str) -> int:
    raise cbw.Failure("not_found", f"no {article}", data={"article": article})


async def find_later(article: str) -> int:
    return find(article)


def broken(article: str) -> int:
    return {}[article]


def endless(body: bytes) -> bytes:
    return body * 1000
"""


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that serves it."""
    (tmp_path / "shop.py").write_text(SHOP)
    return {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=str)
@pytest.mark.parametrize("handler", ["find", "find_later"])
def test_a_failure_reaches_every_client_and_prints_no_traceback(
    start: Start, broker: Broker, connect: Connect, shop: dict[str, str], handler: str, options: list[object]
) -> None:
    worker = start(
        "worker", "W1", HOST, broker.worker_port, f"--handler=find=shop:{handler}", *options, "--verbose", **shop
    )
    worker.wait_for("connected")
    with pytest.raises(cbw.Failure) as failed:
        connect(broker, id="C1").call("tea", "find")

    async def ask() -> cbw.Failure:
        async with cbw.AsyncClient(broker.address) as client:
            with pytest.raises(cbw.Failure) as failed:
                await client.call("tea", "find")
            return failed.value

    for failure in (failed.value, asyncio.run(ask())):
        assert (failure.code, failure.text, failure.data) == ("not_found", "no tea", {"article": "tea"})
    assert failed.value.request == "C1/1"
    call = start("call", "find", "tea", "--broker", broker.address)
    assert call.exit_code() == 1
    assert call.errors == ["cbw: not_found: no tea", '     {"article":"tea"}']
    if not options:  # child processes print no routine
        worker.wait_for("W1 done", "(not_found: no tea)")
    assert not worker.count("Traceback") and not worker.count("W1 error"), worker


def test_an_error_as_json(start: Start, broker: Broker, shop: dict[str, str]) -> None:
    start("worker", "W1", HOST, broker.worker_port, "--handler=find=shop:find", **shop).wait_for("connected")
    call = start("call", "find", "tea", "--broker", broker.address, "--json")
    assert call.exit_code() == 1
    (line,) = call.errors
    told: dict[str, Any] = json.loads(line)
    assert told.pop("request").endswith("/1")
    assert told == {
        "error": "Failure",
        "kind": "not_found",
        "code": "not_found",
        "text": "no tea",
        "data": {"article": "tea"},
        "service": "find",
    }


def test_an_answer_over_the_limit(
    start: Start, start_broker: StartBroker, connect: Connect, shop: dict[str, str]
) -> None:
    broker = start_broker("--body-bytes-max", 10_000)
    start("worker", "W1", HOST, broker.worker_port, "--handler=shop:endless", **shop).wait_for("connected")
    client = connect(broker)
    with pytest.raises(cbw.AnswerTooBig, match="--body-bytes-max"):
        client.call(b"too long" * 10)
    assert client.call(b"x") == b"x" * 1000


def test_a_broker_that_sends_tracebacks(
    start: Start, start_broker: StartBroker, connect: Connect, shop: dict[str, str]
) -> None:
    broker = start_broker("--send-tracebacks")
    start("worker", "W1", HOST, broker.worker_port, "--handler=shop:broken", **shop).wait_for("connected")
    with pytest.raises(cbw.HandlerFailed) as failed:
        connect(broker).call("tea")
    assert "return {}[article]" in failed.value.traceback
    call = start("call", "", "tea", "--broker", broker.address)
    assert call.exit_code() == 1 and call.count("return {}[article]"), call


def test_the_story_of_a_failed_request_has_the_traceback(start: Start, tmp_path: Path, shop: dict[str, str]) -> None:
    logs = tmp_path / "logs" / "logs"
    line = start("logger", 0, logs).wait_for("text on port")
    log_port = int(line.split("text on port ")[1].split(",")[0])
    broker = broker_of(start("broker", 0, 0, HOST, log_port))
    to_log = {"LOGGER_HOST": HOST, "LOGGER_PORT": str(log_port)}
    worker = start("worker", "W1", HOST, broker.worker_port, "--handler=shop:broken", **shop, **to_log)
    worker.wait_for("connected")
    trace = Trace(is_printing=False, name="C1", log=LogTarget(HOST, log_port))
    with cbw.Client(broker.address, id="C1", trace=trace) as client, pytest.raises(cbw.HandlerFailed) as failed:
        client.call("tea")
    worker.terminate()  # it delivers what it has recorded
    story = start("logs", "story", failed.value.request, logs)
    assert story.exit_code() == 0, story
    assert story.count("return {}[article]") == 1 and story.count("KeyError: 'tea'") >= 2, story
