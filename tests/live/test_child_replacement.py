"""Child processes that are replaced after so many tasks, or when they have grown; and those that cannot start."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import pytest

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Start, StartBroker
from .program import PATIENCE_S, wait_until

GROWING = """\
import os

kept = []


def grow(body: int) -> str:
    kept.append(bytearray(os.urandom(1)) * body)
    return str(os.getpid())
"""


def test_a_child_has_so_many_tasks_at_most_and_none_is_lost(start: Start, broker: Broker, connect: Connect) -> None:
    port = free_port()
    worker = start(
        *("worker", "W1", HOST, broker.worker_port, "--handler", "handlers:who", "--processes", 2),
        *("--max-tasks-per-child", 5, "--status-port", port),
    )
    children = [answer.decode().split()[-1] for answer in connect(broker).map(["x"] * 30, timeout=PATIENCE_S)]
    assert len(children) == 30
    assert max(children.count(child) for child in children) <= 5
    worker.wait_for("W1 child replaced", "--max-tasks-per-child")
    with urllib.request.urlopen(f"http://{HOST}:{port}/status.json", timeout=PATIENCE_S) as page:
        assert json.load(page)["counts"]["children_replaced"] >= 4
    assert not broker.program.count("attempt failed"), broker.program


def test_a_child_that_has_grown_is_replaced(start: Start, broker: Broker, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "growing.py").write_text(GROWING)
    worker = start(
        *("worker", "W1", HOST, broker.worker_port, "--handler", "growing:grow", "--processes", 1),
        *("--max-memory-per-child", 200 << 20),
        PYTHONPATH=str(tmp_path),
    )
    client = connect(broker)
    first = client.call(1, timeout=PATIENCE_S)
    assert client.call(1, timeout=PATIENCE_S) == first
    assert client.call(300 << 20, timeout=PATIENCE_S) == first
    assert client.call(1, timeout=PATIENCE_S) != first
    worker.wait_for("W1 child replaced", "--max-memory-per-child")
    assert worker.count("W1 child replaced") == 1, worker


def test_children_that_cannot_start_any_more_are_few_and_so_are_the_lines(
    start: Start, start_broker: StartBroker, connect: Connect, tmp_path: Path
) -> None:
    broker = start_broker("--attempts-max", 1)
    module = tmp_path / "breaking.py"
    module.write_text(
        "import os\ndef die(body: bytes) -> bytes:\n    os._exit(3) if body == b'die' else None\n    return body\n"
    )
    worker = start(
        *("worker", "W1", HOST, broker.worker_port, "--handler", "breaking:die", "--processes", 4),
        PYTHONPATH=str(tmp_path),
    )
    client = connect(broker)
    assert client.call(b"live", timeout=PATIENCE_S) == b"live"
    working = module.read_text()
    module.write_text("import os\nos.write(2, b'the disk is away\\n')\nos._exit(9)\n")
    with pytest.raises(cbw.GaveUp):
        client.call(b"die", timeout=PATIENCE_S)
    worker.wait_for("W1 not replaced", "before it was ready")
    time.sleep(5.0)
    assert worker.count("W1 not replaced") <= 5, worker
    assert worker.count("the disk is away") <= 8, worker  # four at once, and then one at a time
    module.write_text(working)
    wait_until(lambda: client.call(b"live", timeout=PATIENCE_S) == b"live", "a child works again")


def test_bounds_for_children_that_there_are_not() -> None:
    with pytest.raises(cbw.UsageError, match="max_tasks_per_child"):
        cbw.Worker(max_tasks_per_child=5)
    with pytest.raises(cbw.UsageError, match="max_memory_per_child is 0"):
        cbw.Worker(processes=1, max_memory_per_child=0)
