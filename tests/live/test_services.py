"""Services that callers and workers share: the same functions, imported by both."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import Future
from typing import Any

import pytest

import cbw
from cbw.cli.services import LISTED_COLUMNS

from . import contract
from .conftest import HOST, Broker, Connect, Log, Start, StartWorker
from .contract import Line, maybe, meet, price, total, upper, wait
from .program import PATIENCE_S, Program, wait_until
from .terminal import run_on_a_terminal

PRICE = "shop.price(article: str, count: int = 1) -> int"
SESSIONS = 3
"""In which the shop's tasks register: plain, async, and ``meet`` with a concurrency of its own."""


def serve(
    start: Start, broker: Broker, log: Log, *options: object, id: str = "W1", sessions: int = SESSIONS
) -> Program:
    before = broker.program.count("worker ready", f" worker {id}")
    worker = start(
        "worker", id, HOST, broker.worker_port, "--app", "contract:shop", *options, CBW_TEST_LOG=str(log.path)
    )
    broker.program.wait_for("worker ready", f" worker {id}", count=before + sessions)
    return worker


@pytest.fixture
def shop(start: Start, broker: Broker, log: Log) -> Program:
    """A worker that serves the shop."""
    return serve(start, broker, log)


@pytest.mark.usefixtures("shop")
def test_a_client_calls_the_functions_that_it_imports(broker: Broker, connect: Connect, log: Log) -> None:
    client = connect(broker)
    assert client.call(price, "tea", count=3) == 1470
    assert client.call(price, article="coffee") == 750
    assert client.call(total, [Line("tea"), Line("coffee", 2)], currency="USD") == {"USD": 1990}
    assert log.lines == ["audited total"]
    assert client.call(wait, 0.0) == "waited 0.0 s"
    assert client.call(maybe, None) is None
    assert client.call(maybe, 7) == 7
    assert client.call(upper, b"\xffx") == b"\xffX"
    assert client.submit(price, "tea").result() == 490
    assert list(client.map(price, ["tea", "coffee"])) == [490, 750]
    assert list(client.map(price, ["tea", "coffee"], [2, 3], window=1)) == [980, 2250]
    ticket = client.start(price.with_options(ticket="T1", deadline_s=30), "tea", 2)
    assert (ticket, client.result(ticket, returns=int)) == ("T1", 980)


@pytest.mark.usefixtures("shop")
def test_an_async_client_does_the_same(broker: Broker) -> None:
    async def ask() -> list[Any]:
        async with cbw.AsyncClient(broker.address, timeout=PATIENCE_S) as client:
            answers: list[Any] = [await client.call(price, "tea", count=3), await client.submit(maybe, None)]
            answers += [one async for one in client.map(price, ["tea", "coffee"])]
            ticket = await client.start(price, "tea")
            return [*answers, await client.result(ticket, returns=int)]

    assert asyncio.run(ask()) == [1470, None, 490, 750, 490]


@pytest.mark.usefixtures("shop")
def test_a_task_is_a_service_that_anybody_can_call_by_its_name(broker: Broker, connect: Connect) -> None:
    client = connect(broker)
    assert client.call({"article": "tea", "count": 2}, "shop.price", returns=int) == 980
    assert client.call("tea", "shop.price", returns=int) == 490
    assert client.call([{"article": "tea"}], "shop.sum") == b'{"EUR":490}'


@pytest.mark.usefixtures("shop")
def test_errors_come_back(broker: Broker, connect: Connect) -> None:
    client = connect(broker)
    with pytest.raises(cbw.HandlerFailed) as caught:
        client.call(price, "milk")
    assert (caught.value.kind, caught.value.service) == ("KeyError", "shop.price")
    with pytest.raises(TypeError, match="price: missing a required argument: 'article'"):
        client.call(price)  # type: ignore[call-overload]
    with pytest.raises(cbw.BadAnswer):
        client.submit("tea", "shop.price", returns=dict[str, int]).result()
    with pytest.raises(cbw.Expired):
        client.call(wait.with_options(timeout=0.5), 30)


@pytest.mark.usefixtures("shop")
def test_each_task_has_its_concurrency_and_none_holds_up_another(broker: Broker, connect: Connect) -> None:
    client = connect(broker)
    busy: list[Future[Any]] = [client.submit(contract.linger, 30.0), client.submit(wait, 30.0)]
    waiting = [client.submit(meet, 3) for _ in range(3)]
    assert [one.result() for one in waiting] == [3, 3, 3]
    assert not any(one.done() for one in busy)
    for one in busy:
        one.cancel()


@pytest.mark.usefixtures("shop")
def test_services_are_listed_with_their_signatures(
    start: Start, broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    start_worker("W2", "echo")
    client = connect(broker)
    waiting = client.submit(b"x", "nobody")
    assert [client.call(price, "tea"), client.call(price, "coffee")] == [490, 750]
    with pytest.raises(cbw.HandlerFailed):
        client.call(price, "milk")
    start("call", "--broker", broker.address, "nobody", "x", "--timeout", 30)
    wait_until(lambda: b'"nobody"' in connect(broker).call(b"", "cbw.services"), "the broker has it")
    listed = start("services", "--broker", broker.address)
    asked = start("services", "--broker", broker.address, "--json")  # soon: a rate is of the last seconds
    assert listed.exit_code() == 0
    rows = {row[0]: row[1:] for row in (line.split("\t") for line in listed.lines)}
    assert rows["(nameless)(body: bytes) -> bytes"][:7] == ["1", "0", "0.0/s", "", "", "0", "0"]
    told = rows[PRICE]
    assert told[:2] == ["1", "0"] and told[5:7] == ["3", "1"], "three answers, of which one was an error"
    assert [text[-1] for text in (*told[2:5], told[7])] == ["s", "s", "s", "s"] and "" not in told
    assert rows["nobody"][:2] in (["0", "1"], ["0", "2"])
    for columns, left_out in ((80, set()), (60, {"answered", "since"})):
        code, shown = run_on_a_terminal("services", "--broker", broker.address, COLUMNS=str(columns))
        table = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown.splitlines()]
        assert code == 0 and max(map(len, table)) <= columns, shown
        assert set(table[0].split()) == {*LISTED_COLUMNS} - left_out
        assert re.search(r"^nobody +0 +[12] +0\.0/s", shown, re.MULTILINE)
    assert asked.exit_code() == 0
    by_name = {one["service"]: one for one in json.loads(asked.lines[0])}
    told = by_name["shop.price"]
    assert (told["workers"], told["result"]) == (1, {"type": "integer"})
    assert (told["answered"], told["failed"], told["running"]) == (3, 1, 0)
    assert 0 < told["p50_s"] <= told["p99_s"] and told["rate"] > 0 and told["age_s"] > 0
    arguments = told["arguments"]["$defs"]["price_body"]
    assert (arguments["required"], arguments["properties"]["count"]) == (["article"], {"type": "integer"})
    assert by_name["shop.meet"]["doc"] == "Returns when so many of these run at once."
    assert by_name["nobody"]["arguments"] is None
    waiting.cancel()


def test_children_serve_a_service(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    serve(start, broker, log, "--processes", 1)
    client = connect(broker)
    assert client.call(price, "tea", count=3) == 1470
    assert client.call(wait, 0.0) == "waited 0.0 s"


def test_a_worker_of_several_sessions_leaves_in_order(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    worker, client = serve(start, broker, log), connect(broker)
    answer = client.submit(contract.linger, 1.0)
    log.wait_for("lingers")
    worker.terminate()
    assert answer.result() is None


def test_a_worker_of_several_sessions_ends_if_one_is_refused(start: Start, broker: Broker, log: Log) -> None:
    serve(start, broker, log)
    second = start("worker", "W1:async", HOST, broker.worker_port, "--app", "contract:shop", CBW_TEST_LOG=str(log.path))
    assert second.exit_code() != 0
    second.wait_for("W1:async")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("contract:nothing", "contract:nothing: module 'contract' has no attribute 'nothing'"),
        ("contract:PRICES", "contract:PRICES is a dict, and no cbw.Service"),
        ("contract:price", "Serve all of its service: --app contract."),
        ("handlers", "handlers has no cbw.Service"),
        ("contract:plain", "the service 'plain' has no tasks"),
        ("nosuch", "no module named 'nosuch'"),
        ("contract.py", "Write contract."),
    ],
)
def test_what_is_no_app_is_refused(start: Start, app: str, said: str) -> None:
    worker = start("worker", "W1", "--app", app)
    assert worker.exit_code() == 2
    assert worker.count(said) == 1


def test_a_service_is_no_handler(start: Start) -> None:
    worker = start("worker", "W1", "--handler", "contract:shop")
    assert worker.exit_code() == 2
    assert worker.count("Service('shop') is a service, and no function") == 1
    assert worker.count("cbw worker --app MODULE") == 1
