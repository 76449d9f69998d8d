"""Programs that fork: their children have copies of sockets and locks, and none of the threads behind them."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker
from .program import PATIENCE_S, SOON_S, environment, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
_fork = multiprocessing.get_context("fork")


def in_child(do: Callable[[], object]) -> str:
    """What ``do()`` returns in a forked process, or raises there, as text."""
    said = _fork.SimpleQueue()

    def run() -> None:
        try:
            said.put(str(do()))
        except Exception as error:
            said.put(f"{type(error).__name__}: {error}")

    child = _fork.Process(target=run)
    child.start()
    try:
        child.join(PATIENCE_S)
        assert child.exitcode == 0
        return str(said.get())
    finally:
        child.kill()


def test_a_client_is_closed_in_the_child_and_lives_on_in_the_parent(shared: Broker, client: cbw.Client) -> None:
    waits = client.submit("0.5 x", "sleep")  # its thread reads the socket meanwhile
    assert in_child(lambda: client.call("x", "echo")).startswith("Closed: this client was made before")
    assert in_child(client.close) == "None"
    assert waits.result(PATIENCE_S) == b"0.5 x"
    assert client.call("x", "echo") == b"x"


def test_an_async_client_is_closed_in_the_child(shared: Broker) -> None:
    async def main() -> None:
        async with cbw.AsyncClient(shared.address, timeout=PATIENCE_S) as client:
            assert await client.call("x", "echo") == b"x"
            said = in_child(lambda: client._session.submit("echo", [b"x"], None, print))
            assert said.startswith("Closed: this client was made before")
            assert await client.call("x", "echo") == b"x"

    asyncio.run(main())


def test_a_killed_worker_whose_child_lives_on_is_noticed_at_once(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Its connection ends with it, and not when its child ends, or when it has missed three beats."""
    broker = start_broker("--liveness", 10 * PATIENCE_S)
    victim = start_worker("W1", "fork_and_wait", at=broker)
    future = connect(broker).submit("x")
    child = int(log.wait_for("begun").split()[1])
    start_worker("W2", "echo", at=broker)
    try:
        victim.signal(signal.SIGKILL)
        assert future.result(PATIENCE_S) == b"x"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_killed_client_whose_child_lives_on_is_started_again(
    broker: Broker, connect: Connect, tmp_path: Path
) -> None:
    """With its id, which nobody else has any more."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time, cbw\n"
        f'client = cbw.Client("{broker.address}", id="SHOP")\n'
        "client.submit('x')\n"
        "while not client.has_met_broker: time.sleep(0.01)\n"
        "if child := os.fork(): print(child, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment()) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            began_at = time.monotonic()
            again = connect(broker, id="SHOP")
            again.submit("y")
            wait_until(lambda: again.has_met_broker, "it is welcome")
            assert time.monotonic() - began_at < SOON_S
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_client_of_the_childs_own(shared: Broker, client: cbw.Client) -> None:
    def ask() -> bytes:
        with cbw.Client(shared.address, timeout=PATIENCE_S) as other:
            return other.call("from the child", "echo")

    assert client.call("from the parent", "echo") == b"from the parent"
    assert in_child(ask) == "b'from the child'"


def test_what_parent_and_children_log_is_there_once(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "logs"
    port = int(start("logger", 0, path).wait_for("text on port").split("text on port ")[1].split(",")[0])
    handler = cbw.LogHandler(HOST, port, name="SHOP")
    shop = logging.getLogger("shop that forks")
    shop.propagate = False
    shop.addHandler(handler)

    def log(who: str) -> int:
        for number in range(100):
            shop.error("%s %d", who, number)
        return handler._sender.close()

    try:
        shop.error("before")
        assert in_child(lambda: log("first child")) == "0"
        assert in_child(lambda: log("second child")) == "0"
        shop.error("between")
        assert log("parent") == 0
    finally:
        shop.removeHandler(handler)
        handler.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    texts = [line["text"] for line in lines if line["event"] == "log"]
    children = [f"{who} {number}" for who in ("first child", "second child", "parent") for number in range(100)]
    assert sorted(texts) == sorted(["before", "between", *children])
    assert len({line["boot"] for line in lines if line["event"] == "log"}) == 3
    assert not any(line["event"] in ("gap", "duplicates") for line in lines)
