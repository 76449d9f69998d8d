"""Handlers that fail and are called again, with real workers and brokers; and requests that are to wait."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cbw
from cbw.contract.retrying import Retrying
from cbw.core import messages
from cbw.core.messages import Status
from cbw.core.worker.events import TasksFinished
from cbw.worker.handler import Handler
from cbw.worker.pools import make_pool
from cbw.worker.processes import ProcessPool
from tests.ports import free_port

from . import handlers
from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker
from .owner import Owner
from .program import PATIENCE_S, wait_until
from .test_status import metrics, status
from .test_tickets import printed

QUICKLY = ["--retry-on", "handlers:FlakyError", "--backoff", 0.2, "--backoff-max", 0.2]
SLOWLY = ["--backoff", 1.5, "--backoff-max", 1.5]
FLAKY = Retrying(2, (handlers.FlakyError,), (1.0, 2.0))


@pytest.mark.parametrize("handler", [handlers.fail_twice, handlers.fail_twice_async])
@pytest.mark.parametrize("processes", [0, 1])
def test_every_pool_tells_that_a_handler_is_to_be_called_again(handler: Callable[..., object], processes: int) -> None:
    owner, served = Owner(), {"": Handler("", handler, FLAKY)}
    pool = ProcessPool(served, processes, 1, owner) if processes else make_pool(served, 1, owner)
    try:
        wait_until(pool.is_ready, "it is ready")
        ends = []
        for used in range(4):
            pool.begin([messages.Task(used + 1, "", b"x", None, 1, retries=used)])
            (answer,) = owner.next(TasksFinished).answers
            ends.append((answer.status, answer.retry_after_s is not None))
        assert ends == [(Status.RETRY, True), (Status.RETRY, True), (Status.OK, False), (Status.OK, False)]
    finally:
        pool.close()


def test_it_works_at_the_third_try(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    start_worker("W1", "fail_twice", options=QUICKLY)
    began_at = time.monotonic()
    assert connect(broker).call("tea") == b"tea"
    assert 0.4 <= time.monotonic() - began_at < PATIENCE_S
    assert log.lines == ["try 0 of tea", "try 1 of tea", "try 2 of tea"]


def test_it_may_ask_for_that_itself(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    start_worker("W1", "ask_for_more_time", options=["--processes", 2])
    assert connect(broker).call("tea") == b"tea"
    assert len(log.lines) == 3


def test_never_by_default(broker: Broker, start_worker: StartWorker, connect: Connect, log: Log) -> None:
    start_worker("W1", "fail_twice")
    with pytest.raises(cbw.HandlerFailed, match=r"FlakyError: no luck with tea\nrequest "):
        connect(broker).call("tea")
    assert log.lines == ["try 0 of tea"]


def test_the_error_says_how_often_it_was_tried(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    start_worker("W1", "fail_twice", options=[*QUICKLY, "--retries", 1])
    with pytest.raises(cbw.HandlerFailed, match=r"FlakyError: no luck with tea \(tried 2 times\)"):
        connect(broker).call("tea")


@pytest.mark.parametrize("moment", ["delayed", "due"])
def test_retries_go_on_across_a_sigkill_of_the_broker(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log, tmp_path: Path, moment: str
) -> None:
    """Killed while the request is delayed; or killed then, and back only when it would have been due."""
    broker = start_broker("--journal", tmp_path / "journal")
    options = ["--retry-on", "handlers:FlakyError", "--backoff", 1, "--backoff-max", 1]
    start_worker("W1", "fail_twice", options=options, at=broker)
    future = connect(broker).submit("tea")
    log.wait_for("try 0 of tea")
    time.sleep(0.6)  # until that is stored
    for tries in (1, 2):
        broker.program.kill()
        if moment == "due":
            time.sleep(1.1)
        ports = {"client_port": broker.client_port, "worker_port": broker.worker_port}
        broker = start_broker("--journal", tmp_path / "journal", **ports)
        log.wait_for(f"try {tries} of tea")
        time.sleep(0.6)
    assert future.result(PATIENCE_S) == b"tea"
    assert log.lines == ["try 0 of tea", "try 1 of tea", "try 2 of tea"]


def test_a_waiting_retry_survives_a_sigkill_and_is_seen(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log, tmp_path: Path
) -> None:
    port = free_port()
    options = ("--journal", tmp_path / "journal", "--status-port", port)
    broker = start_broker(*options)
    options_of_worker = ["--backoff", 3, "--backoff-max", 3, "--retry-on", "handlers:FlakyError"]
    start_worker("W1", "s=fail_twice", options=options_of_worker, at=broker)
    future = connect(broker).submit("tea", "s")

    def is_seen() -> bool:
        told, found = status(port), metrics(port)
        services = {each["service"]: each["delayed"] for each in told["services"]}
        return (told["delayed"], services.get("s"), found["cbw_broker_requests_delayed", "s"]) == (1, 1, 1)

    for tries in (0, 1):
        log.wait_for(f"try {tries} of tea")
        wait_until(is_seen, "the status page and the metrics tell of the retry that waits")
        time.sleep(0.6)  # until it is stored
        broker.program.kill()
        ports = {"client_port": broker.client_port, "worker_port": broker.worker_port}
        broker = start_broker(*options, **ports)
        assert is_seen(), "after the restart too"
        assert log.count("try") == tries + 1
    assert future.result(PATIENCE_S) == b"tea"
    assert log.lines == ["try 0 of tea", "try 1 of tea", "try 2 of tea"]
    assert status(port)["delayed"] == 0


def test_used_up_retries_are_counted_across_a_sigkill_and_kept_as_a_dead_letter(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log, tmp_path: Path
) -> None:
    broker = start_broker("--journal", tmp_path / "journal")
    options = [*SLOWLY, "--retry-on", "handlers:FlakyError", "--retries", 1]
    start_worker("W1", "s=fail_twice", options=options, at=broker)
    future = connect(broker, id="C1").submit("tea", "s")
    log.wait_for("try 0 of tea")
    time.sleep(0.6)  # until that is stored
    broker = killed_and_started(broker, start_broker, tmp_path)
    with pytest.raises(
        cbw.HandlerFailed, match=r"no luck with tea \(tried 2 times\); kept as dead letter \S+, see"
    ) as caught:
        future.result(PATIENCE_S)
    found = re.search(r"cbw dead show (\S+)", str(caught.value))
    assert found
    broker = killed_and_started(broker, start_broker, tmp_path)
    command = [sys.executable, "-m", "cbw", "dead", "show", found[1], "--broker", broker.address]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for words in (
        "request   C1/1",
        "given up ",
        "FlakyError: no luck with tea (tried 2 times)",
        "attempt 1 by W1",
        "attempt 2 by W1",
    ):
        assert shown.count(words) == 1, shown
    assert shown.count('raise FlakyError(f"no luck with {body}")') == 2, "the tracebacks"
    assert log.lines == ["try 0 of tea", "try 1 of tea"]


def test_the_deadline_ends_a_retry_that_waits(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log, tmp_path: Path
) -> None:
    broker = start_broker("--journal", tmp_path / "journal")
    options = ["--backoff", 3, "--backoff-max", 3, "--retry-on", "handlers:FlakyError"]
    worker = start_worker("W1", "fail_twice", options=options, at=broker)
    client = connect(broker)
    began_at = time.monotonic()
    with pytest.raises(cbw.HandlerFailed, match=r"\(tried once: the deadline is before the next try"):
        client.call("tea", timeout=2.9)
    assert time.monotonic() - began_at < 2.9, "nobody waits for what would come too late"
    ticket = client.start("milk", deadline_s=4.5)
    log.wait_for("try 0 of milk")
    time.sleep(0.6)  # until that is stored
    worker.kill()
    broker = killed_and_started(broker, start_broker, tmp_path)
    with pytest.raises(cbw.Expired, match=r"its handler failed once, at last with FlakyError: no luck with milk"):
        client.result(ticket, timeout=PATIENCE_S)


@pytest.mark.parametrize("end", ["retries", "poison"])
def test_a_dead_letter_with_a_ticket_is_sent_again_and_its_answer_fetched(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, log: Log, tmp_path: Path, end: str
) -> None:
    broker = start_broker("--journal", tmp_path / "journal", "--attempts-max", 1)
    at = ("--broker", broker.address)
    if end == "retries":
        worker = start_worker("W1", "s=fail_twice", options=[*QUICKLY, "--retries", 1], at=broker)
    else:
        worker = start_worker("W1", "s=die", at=broker)
    detached = start("call", *at, "--detach", "--service", "s", "--ticket", "mine", stdin=b"tea")
    assert (detached.exit_code(), detached.lines) == (0, ["mine"])
    failed = start("result", "mine", *at)
    assert failed.exit_code() == 1 and failed.count("kept as dead letter") == 1, failed
    worker.kill()
    broker = killed_and_started(broker, start_broker, tmp_path, "--attempts-max", 1)
    (letter,) = printed(start("dead", "list", *at))
    assert letter.split("\t")[2] == "ticket/mine"
    assert start("result", "mine", *at).exit_code() == 1, "that is its answer until it is sent again"
    assert printed(start("dead", "requeue", letter.split("\t")[0], *at)) == ["1 dead letter sent again"]
    broker = killed_and_started(broker, start_broker, tmp_path, "--attempts-max", 1)
    waiting = start("result", "mine", *at)
    start_worker("W2", "s=echo", at=broker)
    assert printed(waiting) == ["tea"]
    assert printed(start("dead", "list", *at)) == []


def killed_and_started(broker: Broker, start_broker: StartBroker, folder: Path, *options: object) -> Broker:
    """The next broker, with the same journal and ports, when the other was killed."""
    broker.program.kill()
    ports = {"client_port": broker.client_port, "worker_port": broker.worker_port}
    return start_broker("--journal", folder / "journal", *options, **ports)


def test_a_request_may_be_delayed(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "echo")
    client, began_at = connect(broker), time.monotonic()
    later = client.submit("later", delay_s=2)
    assert client.call("now") == b"now" and not later.done()
    assert later.result(PATIENCE_S) == b"later" and time.monotonic() - began_at >= 2

    async def ask() -> bytes:
        async with cbw.AsyncClient(broker.address) as other:
            return await other.call("async", delay_s=0.3)

    began_at = time.monotonic()
    assert asyncio.run(ask()) == b"async" and time.monotonic() - began_at >= 0.3


def test_a_request_with_a_ticket_may_be_delayed_and_stays_so_across_a_sigkill(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log, tmp_path: Path
) -> None:
    broker = start_broker("--journal", tmp_path / "journal")
    start_worker("W1", "note_done", at=broker)
    at, began_at = ("--broker", broker.address), time.monotonic()
    detached = start("call", *at, "--detach", "--delay", 5, "--deadline", 30, stdin=b"one")
    (ticket,) = printed(detached)
    client = connect(broker)
    tickets = [ticket, client.start("two", delay_s=3)]

    async def begin() -> str:
        async with cbw.AsyncClient(broker.address) as other:
            return await other.start("three", delay_s=1.5)

    tickets.append(asyncio.run(begin()))
    time.sleep(0.6)
    broker = killed_and_started(broker, start_broker, tmp_path)
    assert [client.result(each) for each in tickets] == [b"one", b"two", b"three"]
    assert time.monotonic() - began_at >= 5 and log.lines == ["three", "two", "one"]
    refused = start("call", *at, "--detach", "--delay", 3, "--deadline", 3)
    assert refused.exit_code() == 2 and refused.count("the delay is 3 s, and the request may take only 3 s") == 1


def test_on_the_command_line_too(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")
    began_at = time.monotonic()
    command = [sys.executable, "-m", "cbw", "call", "--broker", broker.address, "--delay", "0.5"]
    done = subprocess.run(command, input=b"hello", capture_output=True, check=False)
    assert done.stdout == b"hello" and time.monotonic() - began_at >= 0.5
    done = subprocess.run([*command, "--timeout", "0.2"], input=b"hello", capture_output=True, check=False)
    assert done.returncode == 2 and b"the delay is 0.5 s, and the request may take only 0.2 s" in done.stderr


@pytest.mark.parametrize("options", [["--retry-on", "Nonsense"], ["--retry-on", "int"], ["--retries", -1]])
def test_options_that_make_no_sense(start: Start, options: list[object]) -> None:
    program = start("worker", "W1", HOST, 1, "--handler", "handlers:echo", *options)
    assert program.exit_code() == 2
