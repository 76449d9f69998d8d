"""SIGHUP: a trace file that was moved away is not written on, and no role ends."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from .conftest import HOST, Broker, Connect, Start, StartBroker
from .program import PATIENCE_S, Program, wait_until


def rotate(program: Program, trace: Path) -> Path:
    """Move ``trace`` away and tell ``program``, as logrotate does; where it is now."""
    old = trace.with_suffix(".1")
    trace.rename(old)
    program.signal(signal.SIGHUP)
    wait_until(trace.exists, "a new trace file")
    return old


def tells(trace: Path, event: str) -> bool:
    return f'"event":"{event}"' in trace.read_text()


def test_the_broker_begins_a_new_trace(
    start_broker: StartBroker, start: Start, connect: Connect, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    broker = start_broker("--trace", trace)
    wait_until(lambda: tells(trace, "started"), "its first record")
    old = rotate(broker.program, trace)
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0)
    assert connect(broker).call("hello") == b"hello W1"
    wait_until(lambda: tells(trace, "answered"), "the answer in the new trace")
    assert tells(old, "started") and not tells(old, "answered")
    assert broker.program.is_running


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=str)
def test_a_worker_begins_a_new_trace_in_all_its_processes(
    broker: Broker, start: Start, connect: Connect, tmp_path: Path, options: list[object]
) -> None:
    trace = tmp_path / "trace"
    worker = start("worker", "W1", HOST, broker.worker_port, "--work-time", 0, "--trace", trace, *options)
    client = connect(broker)
    assert client.call("one", timeout=PATIENCE_S) == b"one W1"
    old = rotate(worker, trace)
    assert client.call("two", timeout=PATIENCE_S) == b"two W1"
    wait_until(lambda: tells(trace, "done"), "what the handler did in the new trace")
    assert old.read_text().count('"event":"done"') == 1
    assert worker.is_running


def test_a_hangup_of_the_whole_group_ends_no_child_process(broker: Broker, start: Start, connect: Connect) -> None:
    start("worker", "W1", HOST, broker.worker_port, "--handler", "handlers:who", "--processes", 1)
    client = connect(broker)
    child = client.call("", timeout=PATIENCE_S).split()[-1]
    os.kill(int(child), signal.SIGHUP)
    assert client.call("", timeout=PATIENCE_S).split()[-1] == child


def test_a_client_begins_a_new_trace(broker: Broker, start: Start, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    client = start("client", "C1", 1, HOST, broker.client_port, "--trace", trace)
    broker.program.wait_for("unserved")  # it waits for an answer
    old = rotate(client, trace)
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0)
    assert client.exit_code() == 0
    answer = re.compile('"event":"got".*"C1/1"|"C1/1".*"event":"got"')  # it may have asked for a list of services too
    assert answer.search(trace.read_text()) and not answer.search(old.read_text())


def test_where_no_new_trace_can_be_begun_the_old_one_grows_on(
    start_broker: StartBroker, start: Start, connect: Connect, tmp_path: Path
) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    trace = folder / "trace"
    broker = start_broker("--trace", trace)
    moved = folder.rename(tmp_path / "moved")
    broker.program.signal(signal.SIGHUP)
    broker.program.wait_for("no new trace can be begun")
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0)
    assert connect(broker).call("hello") == b"hello W1"
    wait_until(lambda: tells(moved / "trace", "answered"), "the answer in the old trace")
