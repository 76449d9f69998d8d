"""Errors of requests as their clients see them: which request it was, what went wrong, and for programs why."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cbw
from cbw.observe.trace import LogTarget, Trace
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start, StartBroker, broker_of
from .program import wait_until

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


@pytest.mark.parametrize("arguments", [["find", "tea:=1", "tea:=2"], ["find", "tea:={"], ["find", "--header", "x"]])
def test_what_makes_no_sense_as_json(start: Start, arguments: list[str]) -> None:
    """A program that reads errors as JSON need not read any other, whether the broker was asked or not."""
    call = start("call", *arguments, "--json")
    assert call.exit_code() == 2
    (line,) = call.errors
    assert json.loads(line)["error"] == "UsageError"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["dead", "list", "--older-than", "x"], "no length of time"),
        (["dead", "requeue", "--ttl", "0s", "--all"], "--ttl"),
        (["purge", "s", "--older-than", "x"], "no length of time"),
        (["requests", "--limit", "0"], "--limit"),
        (["call", "--priority", "11"], "--priority"),
        (["ps", "--nothing"], "--nothing"),
        (["ps", "--broker", "x:y"], "no port"),
        (["logs", "stats", "nowhere"], "nowhere"),
        (["journal", "info", "nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_as_json(start: Start, arguments: list[str], error: str) -> None:
    program = start(*arguments, "--json")
    assert program.exit_code() in {1, 2}
    (line,) = program.errors
    assert error in json.loads(line)["text"]


def test_dead_letters_into_a_folder(start: Start, broker: Broker, tmp_path: Path) -> None:
    program = start("dead", "export", tmp_path, "--broker", broker.address)
    assert program.exit_code() == 2 and program.errors[-1].startswith("Error: Could not open file"), program


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


# --- where it was when its time was over

TRIES = 20
"""A broker that stands still for 0.05 s says nothing in time, as may happen on a busy machine: then it is asked once more."""
SNAIL = """\
import time


def echo(body: bytes) -> bytes:
    return body


def slow(body: bytes) -> bytes:
    time.sleep(60)
    return body
"""


def told(ask: Callable[[], cbw.Expired]) -> cbw.Expired:
    """What the broker says of where a request was that ``ask`` has waited for in vain."""
    errors = (ask() for _ in range(TRIES))
    return next(error for error in errors if error.kind != "unreachable")


def sync_call(address: str, service: str, timeout: float = 0.5) -> cbw.Expired:
    with cbw.Client(address) as client, pytest.raises(cbw.Expired) as expired:
        client.call(b"", service, timeout=timeout)
    return expired.value


def async_call(address: str, service: str, timeout: float = 0.5) -> cbw.Expired:
    async def ask() -> cbw.Expired:
        async with cbw.AsyncClient(address) as client:
            with pytest.raises(cbw.Expired) as expired:
                await client.call(b"", service, timeout=timeout)
            return expired.value

    return asyncio.run(ask())


@pytest.mark.parametrize("call", [sync_call, async_call])
def test_where_a_request_was_when_its_time_was_over(
    start: Start, broker: Broker, tmp_path: Path, call: Callable[..., cbw.Expired]
) -> None:
    (tmp_path / "snail.py").write_text(SNAIL)
    handlers = ["--handler=echo=snail:echo", "--handler=slow=snail:slow"]
    workers = (f"W{number}" for number in range(1, TRIES + 1))

    def ask_a_new_worker() -> cbw.Expired:
        worker = next(workers)
        start("worker", worker, HOST, broker.worker_port, *handlers, "--grace", 0, PYTHONPATH=str(tmp_path))
        broker.program.wait_for(f"worker ready worker {worker}")
        return call(broker.address, "slow", 2)

    begun = told(ask_a_new_worker)
    assert begun.kind == "worker" and re.search(r"worker W\d has had it for", begun.text)
    nobody = told(lambda: call(broker.address, "slwo"))
    assert nobody.kind == "no_worker" and nobody.text.endswith("; did you mean 'slow'?")
    waiting = told(lambda: call(broker.address, "echo"))
    assert waiting.kind == "queue", "a thread cannot be stopped, and has the slot"
    assert call(f"{HOST}:{free_port()}", "echo").kind == "unreachable"


def test_a_living_client_has_the_id(broker: Broker) -> None:
    with cbw.Client(broker.address, id="C1") as one, cbw.Client(broker.address, id="C1") as two:
        asked = one.submit(b"", timeout=60)
        wait_until(lambda: one.has_met_broker, "the first is known")
        with pytest.raises(cbw.Expired, match="a client called 'C1' lives") as expired:
            two.call(b"", timeout=2)
        assert expired.value.kind == "refused"
        asked.cancel()  # nobody serves it, and the client would wait for it


def test_the_command_line_tells_it(start: Start, broker: Broker) -> None:
    start("worker", "W1", HOST, broker.worker_port, "--handler=price=handlers:echo")
    broker.program.wait_for("worker ready worker W1")
    call = ("call", "prize", "tea", "--broker", broker.address, "--timeout", 1)

    def asked(*options: object) -> list[str]:
        program = start(*call, *options)
        assert program.exit_code() == 1
        return program.errors

    text = "the deadline passed before a worker came that serves 'prize'; did you mean 'price'?"
    said = (asked() for _ in range(TRIES))
    assert [f"cbw: {text}"] in said
    as_json = (json.loads(asked("--json")[0]) for _ in range(TRIES))
    assert (
        next(error for error in as_json if error["kind"] != "unreachable").items()
        >= {"kind": "no_worker", "text": text}.items()
    )


def test_a_request_that_waits_for_no_worker_to_come(start: Start, broker: Broker, connect: Connect) -> None:
    start("worker", "W1", HOST, broker.worker_port, "--handler=price=handlers:echo")
    broker.program.wait_for("worker ready worker W1")
    client = connect(broker)
    assert client.call(b"tea", "price", require_worker=True) == b"tea"
    assert list(client.map([b"tea"] * 3, "price", require_worker=True)) == [b"tea"] * 3
    ticket = client.start(b"tea", "price", require_worker=True)
    assert client.result(ticket) == b"tea"

    async def ask() -> list[cbw.Expired]:
        errors = []
        async with cbw.AsyncClient(broker.address, timeout=None) as client:
            assert await client.call(b"tea", "price", require_worker=True) == b"tea"
            for waits in (
                client.call(b"", "prize", require_worker=True),
                client.start(b"", "prize", require_worker=True),
                anext(client.map([b""], "prize", require_worker=True)),
            ):
                with pytest.raises(cbw.Expired) as expired:
                    await waits
                errors.append(expired.value)
        return errors

    with pytest.raises(cbw.Expired) as expired:
        client.call(b"", "prize", timeout=None, require_worker=True)
    for error in (expired.value, *asyncio.run(ask())):
        assert error.kind == "no_worker" and error.text.startswith("no worker here serves 'prize'")


def test_a_broker_that_does_not_let_requests_wait_for_workers(
    start: Start, start_broker: StartBroker, connect: Connect
) -> None:
    broker = start_broker("--unserved", 1)
    with pytest.raises(cbw.Expired, match="no worker here serves 'price'") as expired:
        connect(broker).call(b"", "price", timeout=None)
    assert expired.value.kind == "no_worker"


def test_of_an_expired_request_too_the_command_line_says_where_more_is(start: Start, broker: Broker) -> None:
    """As ``Expired`` is a ``TimeoutError``, it was told as an error of the system, without what to do."""
    call = start("call", "prize", "tea", "--broker", broker.address, "--timeout", 1, LOGGER_HOST=HOST)
    assert call.exit_code() == 1
    assert "The log has more: cbw logs story" in call.errors[-1], call.errors
