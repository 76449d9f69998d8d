"""Brokers with a journal: killed, stopped, on a full disk; what was accepted goes on, and nothing is run again without need."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import cbw
from tests.ports import free_port

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker
from .program import PATIENCE_S, Program

StartAgain = Callable[[Broker], Broker]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the journal is."""
    return tmp_path / "journal"


@pytest.fixture
def broker(start_broker: StartBroker, folder: Path) -> Broker:
    """A broker with a journal."""
    return start_broker("--journal", folder)


@pytest.fixture
def start_again(start_broker: StartBroker, folder: Path) -> StartAgain:
    """Start a broker on the ports and the journal of one that has ended."""
    return lambda old: start_broker("--journal", folder, client_port=old.client_port, worker_port=old.worker_port)


def are_waiting(broker: Broker, service: str = "") -> None:
    """Wait until the broker tells of requests that nobody serves: what waits is stored."""
    broker.program.wait_for("unserved", service)


def test_what_waits_survives_sigkill(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect
) -> None:
    client = connect(broker)
    futures = [client.submit(f"{number}") for number in range(1000)]
    client.submit("the last", "nobody serves this")
    are_waiting(broker, "nobody serves this")
    broker.program.kill()
    second = start_again(broker)
    second.program.wait_for("goes on with its journal: 1001 requests")
    start_worker("W1", "echo", at=second)
    assert [future.result(PATIENCE_S) for future in futures] == [b"%d" % number for number in range(1000)]


def test_a_worker_goes_on_with_its_task(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect, log: Log
) -> None:
    for number in range(2):
        start_worker(f"W{number}", "echo_slowly")
    client = connect(broker)
    futures = [client.submit(f"2 {name}") for name in ("one", "two", "three")]
    log.wait_for("begun 2 one")
    log.wait_for("begun 2 two")
    time.sleep(0.5)  # until that is stored
    broker.program.kill()
    start_again(broker)
    assert [future.result(PATIENCE_S) for future in futures] == [b"2 one", b"2 two", b"2 three"]
    assert [log.count(f"begun 2 {name}") for name in ("one", "two", "three")] == [1, 1, 1]


def test_a_worker_that_died_with_the_broker(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect, log: Log
) -> None:
    worker = start_worker("W1", "echo_slowly")
    client = connect(broker)
    future = client.submit("1 one")
    log.wait_for("begun 1 one")
    time.sleep(0.5)
    broker.program.kill()
    worker.kill()
    second = start_again(broker)
    start_worker("W2", "echo_slowly", at=second)
    assert future.result(PATIENCE_S) == b"1 one"
    second.program.wait_for("was not back in time")
    assert log.count("begun 1 one") == 2 and second.program.count("was not back in time") == 1


def test_killed_again_and_again_under_load(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect, log: Log
) -> None:
    """Nothing is lost, nothing is answered twice, and no request is run again whose answer a client has."""
    for number in range(2):
        start_worker(f"W{number}", "note_done", options=["--concurrency", 2])
    is_over = threading.Event()
    answered: list[set[str]] = [set(), set()]

    def load(name: int) -> int:
        client, count = connect(broker), 0
        while not is_over.is_set():
            bodies = [f"{name}-{count + number}" for number in range(200)]
            for body, answer in zip(bodies, client.map(bodies, window=50), strict=True):
                assert answer == body.encode()
                answered[name].add(body)
            count += len(bodies)
        return count

    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load, name) for name in range(2)]
        try:
            for _ in range(8):
                time.sleep(0.4)
                broker.program.kill()
                broker = start_again(broker)
        finally:
            is_over.set()
        counts = [each.result(PATIENCE_S) for each in loads]
    assert [len(each) for each in answered] == counts
    done = log.lines
    assert len(set(done)) == sum(counts)
    assert len(done) - len(set(done)) < 8 * 60, "only what ran when a broker died may run twice"


def test_a_stopped_broker_keeps_what_waits(
    broker: Broker, start_worker: StartWorker, start_again: StartAgain, connect: Connect
) -> None:
    client = connect(broker)
    assert not client.submit("x").done()
    future = client.submit("kept")
    are_waiting(broker)
    broker.program.signal(signal.SIGTERM)
    assert broker.program.exit_code() == 0
    second = start_again(broker)
    second.program.wait_for("goes on with its journal: 2 requests")
    start_worker("W1", "echo", at=second)
    assert future.result(PATIENCE_S) == b"kept"


def test_a_client_that_ended_leaves_nothing(
    start: Start, broker: Broker, start_again: StartAgain, start_worker: StartWorker, connect: Connect
) -> None:
    client = cbw.Client(broker.address)
    client.submit("x")
    are_waiting(broker)
    client.close()
    time.sleep(0.6)  # until it is stored that nobody wants it any more
    broker.program.kill()
    second = start_again(broker)
    second.program.wait_for("goes on with its journal: 0 requests, 0 answers")


# --- the command line


def test_looking_into_a_journal(start: Start, broker: Broker, folder: Path, connect: Connect) -> None:
    client = connect(broker)
    futures = [client.submit(b"\xff" * 1000, "some service") for _ in range(500)]
    are_waiting(broker, "some service")
    broker.program.kill()
    broker.program.exit_code()
    info = run("info", folder, "--json")
    assert '"requests":500' in info and '"some service":{"waiting":500,"running":0}' in info
    assert "500 some service" in run("info", folder)
    assert "as they were written" in run("check", folder)
    lines = [json.loads(line) for line in run("export", folder).splitlines()]
    accepted = [line for line in lines if line["kind"] == "RequestAccepted"]
    assert len(accepted) == 500 and base64.b64decode(accepted[0]["body"][0]) == b"\xff" * 1000
    run("compact", folder)
    assert run("info", folder, "--json").count('"requests":500') == 1
    assert not any(future.done() for future in futures)


def test_a_broker_goes_on_with_a_journal_of_which_nothing_was_needed(
    broker: Broker, start_again: StartAgain, start_worker: StartWorker, folder: Path, connect: Connect
) -> None:
    broker.program.terminate()
    run("compact", folder)
    assert '"batches":0' in run("info", folder, "--json")
    again = start_again(broker)
    start_worker("W1", "echo", at=again)
    assert connect(again).call("x") == b"x"


def run(*arguments: object) -> str:
    """``cbw journal``, which must end with 0; what it prints."""
    command = [sys.executable, "-m", "cbw", "journal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_no_journal(tmp_path: Path) -> None:
    for name in ("info", "check", "compact", "export"):
        command = [sys.executable, "-m", "cbw", "journal", name, str(tmp_path / "nowhere")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and "no journal in" in done.stderr
    assert not (tmp_path / "nowhere").exists()


# --- what it refuses


def failed(start: Start, *options: object) -> Program:
    program = start("broker", 0, 0, "--listen", HOST, *options)
    program.exit_code()
    return program


def test_a_journal_in_use(start: Start, broker: Broker, folder: Path) -> None:
    second = failed(start, "--journal", folder)
    assert second.exit_code() == 3
    assert second.count("journal") and second.count(str(broker.program.pid))


def test_a_journal_that_is_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    program = failed(start, "--journal", tmp_path / "file")
    assert program.exit_code() != 0 and program.count(str(tmp_path / "file"))


def test_a_damaged_journal(start: Start, broker: Broker, folder: Path, connect: Connect) -> None:
    client = connect(broker)
    client.submit("x" * 100_000)
    are_waiting(broker)
    broker.program.signal(signal.SIGTERM)
    assert broker.program.exit_code() == 0
    path = folder / "journal.db"
    data = bytearray(path.read_bytes())
    middle = data.index(b"xxxxxxxxxx" * 100)
    data[middle : middle + 10] = b"y" * 10
    path.write_bytes(data)
    program = failed(start, "--journal", folder)
    assert program.exit_code() == 1 and program.count("checksum")


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of 4 MB at ``path``."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="only root may mount a disk")
def test_a_full_disk(
    start: Start, start_broker: StartBroker, start_worker: StartWorker, connect: Connect, tmp_path: Path
) -> None:
    """It refuses with the reason, answers nothing early but who only looks at it, and goes on when there is room."""
    with small_disk(tmp_path / "disk") as disk:
        port = free_port()
        broker = start_broker("--journal", disk / "journal", "--status-port", port)
        start_worker("W1", "echo", at=broker)
        client = connect(broker)
        assert client.call("before") == b"before"

        def status() -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status.json", timeout=PATIENCE_S) as page:
                return json.load(page)

        ballast = disk / "ballast"
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(4 << 20))
        stuck = client.submit(b"x" * 400_000)
        broker.program.wait_for("journal stalled")
        with pytest.raises(cbw.Busy, match="journal"):
            client.call("meanwhile", timeout=1)
        with pytest.raises(cbw.Busy, match="journal"):
            client.call({"all": True}, service="cbw.dead.drop", timeout=1)
        assert not stuck.done()
        for command in ("ps", "requests", "services"):
            assert start(command, "--broker", broker.address).exit_code() == 0, command
        told = client.call(service="cbw.status", returns=dict)
        assert "No space left" in told["refusal"], told
        told = status()
        assert told["verdict"]["kind"] == "stalled" and "No space left" in told["refusal"], told
        ballast.unlink()
        assert stuck.result(PATIENCE_S) == b"x" * 400_000
        broker.program.wait_for("journal stalled (it stores again)")
        told = status()
        assert (told["verdict"]["kind"], told["refusal"]) == ("idle", ""), told
        assert client.call("afterwards") == b"afterwards"
