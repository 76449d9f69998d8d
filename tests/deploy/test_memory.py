"""Roles in containers with little memory, which are fed more than that: they go on, and the broker refuses what is too much."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import zmq

import cbw
from tests.live.program import wait_until

from .engine import address_of, must

pytestmark = pytest.mark.timeout(300)
Run = Callable[..., str]
MIB = 1 << 20
MEMORY = 128 * MIB
LIMITED = ("--detach", "--memory", MEMORY, "--memory-swap", MEMORY)


@pytest.mark.parametrize(("body_bytes", "count"), [(MIB, 300), (20_000, 15_000)], ids=["large bodies", "small bodies"])
def test_a_broker_that_is_fed_more_than_its_memory_says_busy(
    body_bytes: int, count: int, images: dict[str, str], run: Run
) -> None:
    assert body_bytes * count > 2 * MEMORY
    broker = run(*LIMITED, images["imbroker"])
    host = address_of(inspect(broker))
    wait_until(lambda: "serves clients" in must("logs", broker), "it serves")
    body = os.urandom(body_bytes)
    with cbw.Client(f"{host}:9998", timeout=None) as client:  # it is told at once that it is refused
        futures = [client.submit(body) for _ in range(count)]
        wait_until(
            lambda: has_ended(broker) or left(futures) * body_bytes <= MEMORY // 10, "what does not fit is refused"
        )
        assert not has_ended(broker)
        waits = [future for future in futures if not future.done()]
        assert all(isinstance(future.exception(), cbw.Busy) for future in futures if future not in waits)
        assert waits, "what fits is accepted"
        run("--detach", "-e", f"BROKER_HOST={host}", "-e", "CBW_WORKER_WORK_TIME_S=0", images["imworker"])
        assert all(future.result(timeout=120).startswith(body) for future in waits), "and is answered"
    assert not has_ended(broker)


def test_a_broker_tells_the_limits_that_it_took_from_its_memory(images: dict[str, str], run: Run) -> None:
    broker = run(*LIMITED, "-e", "CBW_VERBOSE=1", "-e", "CBW_BROKER_BODY_BYTES_MAX=1000", images["imbroker"])
    wait_until(lambda: f"memory limit: {MEMORY} bytes" in must("logs", broker), "it prints the limit")
    status = status_of(broker)
    assert status["memory_limit_bytes"] == MEMORY
    assert status["limits"]["requests_bytes_max"] == MEMORY // 10
    assert status["limits"]["body_bytes_max"] == 1000, "what is given explicitly stays"


def test_a_logger_that_is_fed_more_than_its_memory_writes_all_of_it(
    images: dict[str, str], run: Run, tmp_path: Path
) -> None:
    logger = run(*LIMITED, "-v", f"{tmp_path}:/tmp/cbwlog", images["imlogger"])
    host = address_of(inspect(logger))
    wait_until(lambda: "text on port 9995" in must("logs", logger), "it listens")
    context: zmq.Context[Any] = zmq.Context()
    peers = [context.socket(zmq.PUSH) for _ in range(4)]
    try:
        for peer in peers:
            peer.setsockopt(zmq.SNDTIMEO, 60_000)
            peer.connect(f"tcp://{host}:9995")
        count = 3 * MEMORY // MIB
        for number in range(count):
            peers[number % len(peers)].send(b"x" * MIB)
        wait_until(lambda: has_ended(logger) or lines_in(logger) == count, "all lines are in the log", within_s=120)
        assert not has_ended(logger)
    finally:
        context.destroy(linger=0)


def inspect(container: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(must("inspect", container))[0]
    return found


def status_of(container: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{address_of(inspect(container))}:9997/status.json", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def lines_in(logger: str) -> int:
    """How many lines it has taken; 0 while it is too busy to tell."""
    try:
        return int(status_of(logger)["counts"]["text_lines"])
    except urllib.error.HTTPError:
        return 0


def left(futures: list[Future[bytes]]) -> int:
    return sum(not future.done() for future in futures)


def has_ended(container: str) -> str:
    """How the container has ended; empty while it runs."""
    state = inspect(container)["State"]
    return "" if state["Running"] else f"exit code {state['ExitCode']}, out of memory: {state['OOMKilled']}"
