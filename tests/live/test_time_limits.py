"""A handler that takes longer than it may: its client is told, and its slot is free again as soon as it can be."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start
from .program import PATIENCE_S, Program, environment, wait_until

SLOW = """\
import asyncio
import os
import time
from pathlib import Path

import cbw

HERE = Path(__file__).parent


def hang(body: str) -> str:
    while not (HERE / body).exists():
        time.sleep(0.02)
    return "at last"


def obey(body: str, attempt: cbw.Context) -> None:
    while not attempt.is_cancelled:
        time.sleep(0.02)


def echo(body: str) -> str:
    return f"{body} {os.getpid()}"


def nap(body: str) -> str:
    time.sleep(3)
    return body


def hang_once(body: str, attempt: cbw.Context) -> str:
    return hang("never") if not attempt.retries else f"try {attempt.retries}"


async def wait(body: str) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
        (HERE / "cleaned").touch()


async def block(body: str) -> None:
    time.sleep(60)


async def echo_later(body: str) -> str:
    return body
"""
StartSlow = Callable[..., Program]


@pytest.fixture
def start_slow(start: Start, broker: Broker, tmp_path: Path) -> StartSlow:
    """Starts a worker for these functions of :data:`SLOW`, each of which may take ``limit_s`` seconds."""
    (tmp_path / "slow.py").write_text(SLOW)

    def start_one(*names: str, options: tuple[object, ...] = (), limit_s: float = 1.0) -> Program:
        handlers = [part for name in names for part in ("--handler", f"{name}=slow:{name}")]
        worker = start(
            *("worker", "W1", HOST, broker.worker_port, *handlers, "--time-limit", limit_s, *options),
            PYTHONPATH=str(tmp_path),
        )
        worker.wait_for("connected")
        return worker

    return start_one


def status(port: int) -> Any:
    with urllib.request.urlopen(f"http://{HOST}:{port}/status.json", timeout=PATIENCE_S) as page:
        return json.load(page)


def exceed(client: cbw.Client, service: str, body: str = "never") -> cbw.TimeLimit:
    with pytest.raises(cbw.TimeLimit) as failed:
        client.call(body, service)
    return failed.value


def test_a_thread_is_reported_and_gives_its_slot_back_when_it_returns(
    start_slow: StartSlow, connect: Connect, broker: Broker, tmp_path: Path
) -> None:
    port = free_port()
    worker = start_slow("hang", "echo", options=("--concurrency", 2, "--status-port", port))
    client = connect(broker)
    error = exceed(client, "hang", "go")
    assert error.kind == "TimeLimit"
    assert "'hang'" in str(error) and "1 s" in str(error) and "--time-limit" in str(error)
    worker.wait_for("W1 error", "TimeLimit")
    worker.wait_for("W1 stuck", "cannot be ended")
    worker.wait_for("time.sleep(0.02)")  # what the thread is doing
    stuck = status(port)
    assert stuck["stuck"] == 1 and stuck["counts"]["tasks_overdue"] == 1 and stuck["ready"]
    assert stuck["stuck_tasks"][0]["service"] == "hang" and "in hang" in stuck["stuck_tasks"][0]["stack"]
    assert client.call("on", "echo").startswith(b"on")  # the other slot
    (tmp_path / "go").touch()
    worker.wait_for("W1 unstuck", "its slot is free again")
    wait_until(lambda: status(port)["stuck"] == 0, "the slot to be free")
    assert worker.count("W1 error") == 1, worker


def test_a_thread_that_obeys_is_not_stuck(start_slow: StartSlow, connect: Connect, broker: Broker) -> None:
    worker = start_slow("obey", "echo")
    client = connect(broker)
    exceed(client, "obey")
    assert client.call("on", "echo").startswith(b"on")
    exceed(client, "obey")
    assert not worker.count("W1 stuck"), worker


def test_a_worker_of_which_all_threads_are_stuck_ends_with_a_code_of_its_own(
    start_slow: StartSlow, connect: Connect, broker: Broker
) -> None:
    worker = start_slow("hang")
    exceed(connect(broker), "hang")
    assert worker.exit_code() == 8
    assert worker.count("no handler can run any more"), worker
    assert broker.program.wait_for("worker left", "W1")


def test_or_stays_if_it_is_only_to_report(
    start_slow: StartSlow, connect: Connect, broker: Broker, tmp_path: Path
) -> None:
    worker = start_slow("hang", "echo", options=("--on-stuck", "report"))
    client = connect(broker)
    exceed(client, "hang", "go")
    worker.wait_for("W1 stuck")
    waiting = client.submit("on", "echo")
    (tmp_path / "go").touch()
    assert waiting.result(PATIENCE_S).startswith(b"on")
    assert worker.is_running


def test_sigterm_does_not_wait_for_a_stuck_thread(start_slow: StartSlow, connect: Connect, broker: Broker) -> None:
    worker = start_slow("hang", options=("--grace", 600, "--concurrency", 2))
    exceed(connect(broker), "hang")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == 0


def test_an_async_handler_is_cancelled_and_may_clean_up(
    start_slow: StartSlow, connect: Connect, broker: Broker, tmp_path: Path
) -> None:
    worker = start_slow("wait", "echo_later")
    client = connect(broker)
    exceed(client, "wait")
    assert client.call("on", "echo_later") == b"on"
    assert (tmp_path / "cleaned").exists()
    worker.wait_for("await asyncio.sleep(60)")
    assert not worker.count("W1 stuck"), worker


def test_an_async_handler_that_blocks_its_loop_is_stuck(
    start_slow: StartSlow, connect: Connect, broker: Broker
) -> None:
    worker = start_slow("block")
    exceed(connect(broker), "block")
    worker.wait_for("W1 stuck", "event loop")
    worker.wait_for("time.sleep(60)")
    assert worker.exit_code() == 8


@pytest.mark.parametrize("name", ["hang", "block"])
def test_a_child_process_is_ended_and_replaced(
    start_slow: StartSlow, connect: Connect, broker: Broker, name: str
) -> None:
    echo = "echo" if name == "hang" else "echo_later"
    worker = start_slow(name, echo, options=("--processes", 1), limit_s=2.0)
    client = connect(broker)
    exceed(client, name)
    assert client.call("on", echo).startswith(b"on")
    worker.wait_for("W1 stuck", "is ended, and another started")
    assert worker.is_running


def test_a_child_process_is_not_ended_before_its_other_tasks(connect: Connect, broker: Broker, tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(
        "import cbw, slow\n"
        f"worker = cbw.Worker('{HOST}:{broker.worker_port}', id='W2', processes=1, concurrency=2)\n"
        "worker.service('hang', time_limit_s=0.5)(slow.hang)\n"
        "worker.service('nap')(slow.nap)\n"
        "if __name__ == '__main__':\n"
        "    worker.run()\n"
    )
    (tmp_path / "slow.py").write_text(SLOW)
    running = subprocess.Popen([sys.executable, program], cwd=tmp_path, env=environment())
    try:
        client = connect(broker)
        napping = client.submit("well rested", "nap")
        exceed(client, "hang")
        assert napping.result(PATIENCE_S) == b"well rested"
    finally:
        running.terminate()
        assert running.wait(PATIENCE_S) == 0


TASKS = """\
import time
from pathlib import Path

import cbw

HERE = Path(__file__).parent
shop = cbw.Service("shop")


@shop.lifespan
def place():
    with open(HERE / "lifespans", "a") as file:
        print("opened", file=file)
    yield HERE
    with open(HERE / "lifespans", "a") as file:
        print("closed", file=file)


@shop.task(time_limit_s=1, concurrency=1)
def hang(context: cbw.Context, body: str) -> str:
    while not (context.state / body).exists():
        time.sleep(0.02)
    return "at last"


@shop.task()
def echo(body: str) -> str:
    return body
"""


@pytest.fixture
def start_tasks(start: Start, broker: Broker, tmp_path: Path) -> Callable[..., Program]:
    """Starts a worker for the service of :data:`TASKS`, which registers twice: ``hang`` has a concurrency of its own."""
    (tmp_path / "tasks.py").write_text(TASKS)

    def start_one(*options: object) -> Program:
        worker = start(
            *("worker", "W1", HOST, broker.worker_port, "--app", "tasks:shop", *options), PYTHONPATH=str(tmp_path)
        )
        broker.program.wait_for("worker ready", " worker W1", count=2)
        return worker

    return start_one


def test_a_task_of_a_service_has_a_limit_of_its_own(
    start_tasks: Callable[..., Program], connect: Connect, broker: Broker, tmp_path: Path
) -> None:
    port = free_port()
    worker = start_tasks("--on-stuck", "report", "--status-port", port)
    client = connect(broker)
    exceed(client, "shop.hang", "go")
    worker.wait_for("W1:shop.hang stuck")
    state = status(port)
    assert (state["stuck"], state["counts"]["tasks_overdue"]) == (1, 1)
    assert [task["service"] for task in state["stuck_tasks"]] == ["shop.hang"]
    assert state["reason"] == "all handlers have exceeded their time limits, and run on"
    assert client.call("on", "shop.echo") == b"on"  # it shares no slot with the one that is stuck
    (tmp_path / "go").touch()
    worker.wait_for("W1:shop.hang unstuck")
    wait_until(lambda: status(port)["stuck"] == 0, "the slot to be free")


def test_a_worker_exits_if_one_of_its_tasks_can_run_no_more_and_closes_its_lifespans(
    start_tasks: Callable[..., Program], connect: Connect, broker: Broker, tmp_path: Path
) -> None:
    worker = start_tasks()
    exceed(connect(broker), "shop.hang", "never")
    assert worker.exit_code() == 8
    assert worker.count("W1:shop.hang: no handler can run any more"), worker
    assert (tmp_path / "lifespans").read_text().split() == ["opened", "closed"]
    assert broker.program.wait_for("worker left", "W1", count=2)


def test_a_child_process_with_a_lifespan_is_ended_and_replaced(
    start_tasks: Callable[..., Program], connect: Connect, broker: Broker
) -> None:
    worker = start_tasks("--processes", 1)
    client = connect(broker)
    for _ in range(2):
        exceed(client, "shop.hang", "never")
    worker.wait_for("W1:shop.hang stuck", "is ended, and another started", count=2)
    assert client.call("on", "shop.echo") == b"on"
    assert worker.is_running


def test_it_is_tried_again_if_the_service_says_so(start_slow: StartSlow, connect: Connect, broker: Broker) -> None:
    start_slow(
        "hang_once", options=("--concurrency", 2, "--retry-on", "cbw:TimeLimit", "--retries", 2, "--backoff", 0.01)
    )
    assert connect(broker).call("x", "hang_once") == b"try 1"


def test_it_is_not_run_again_by_itself(start_slow: StartSlow, connect: Connect, broker: Broker, tmp_path: Path) -> None:
    worker = start_slow("hang", options=("--concurrency", 3, "--verbose"))
    exceed(connect(broker), "hang")
    worker.wait_for("W1 stuck")
    time.sleep(1.0)
    assert worker.count("W1 begun") == 1, worker


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), "5"])
def test_a_limit_that_is_none(limit: Any) -> None:
    with pytest.raises(cbw.UsageError, match="time_limit_s"):
        cbw.Worker().service("x", time_limit_s=limit)(lambda body: body)
