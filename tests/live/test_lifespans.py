"""What services open in each process: when, where, and that it is closed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from .conftest import HOST, Broker, Connect, Log, Start
from .contract import describe, fetch, fetch_slowly, look_up, use
from .program import Program, wait_until


def serve(start: Start, broker: Broker, log: Log, *options: object, sessions: int, **variables: str) -> Program:
    worker = start("worker", "W1", HOST, broker.worker_port, *options, CBW_TEST_LOG=str(log.path), **variables)
    broker.program.wait_for("worker ready", " worker W1", count=sessions)
    return worker


def test_what_is_opened_is_the_state_of_all_tasks_and_is_closed_at_sigterm(
    start: Start, broker: Broker, connect: Connect, log: Log
) -> None:
    apps = ("--app", "contract:depot", "--app", "contract:archive")
    worker, client = serve(start, broker, log, *apps, sessions=3), connect(broker)
    assert log.lines == [f"opened depot in {worker.pid}", f"opened archive in {worker.pid}"]
    article, is_open, loop = client.call(fetch, "tea").split()
    assert (article, is_open) == ("tea", "True")
    assert client.call(fetch_slowly, 0.0) == int(loop)  # though its concurrency is its own
    assert client.call(look_up, "tea") == "tea archive"
    running = client.submit(fetch_slowly, 1.0)
    log.wait_for("fetches", count=2)
    worker.terminate()
    assert running.result() == int(loop)
    assert log.lines[-3:] == ["fetched True", f"closed archive in {worker.pid}", f"closed depot in {worker.pid}"]


def test_what_takes_long_to_open_is_told_and_no_broker_is_blamed(start: Start, broker: Broker, tmp_path: Path) -> None:
    """As a model that is loaded: the broker was said to be of another kind, as the worker had not spoken to it yet."""
    (tmp_path / "model.py").write_text(
        "import pathlib, time, cbw\n"
        'model = cbw.Service("model")\n'
        "@model.lifespan\n"
        "def load():\n"
        f"    while not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
        "        time.sleep(0.05)\n"
        "    yield\n"
        "@model.task()\n"
        "def ask(text: str) -> str:\n"
        "    return text\n"
    )
    worker = start("worker", "W1", HOST, broker.worker_port, "--app", "model", PYTHONPATH=str(tmp_path))
    worker.wait_for("waiting for the lifespan of model")
    (tmp_path / "go").touch()
    broker.program.wait_for("worker ready", " worker W1")
    assert worker.count("waiting for") == 1


def test_each_child_process_opens_its_own(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    worker = serve(start, broker, log, "--app", "contract:archive", "--processes", 2, sessions=1)
    log.wait_for("opened archive", count=2)
    assert connect(broker).call(look_up, "tea") == "tea archive"
    wait_until(lambda: worker.is_running, "it runs")
    worker.terminate()
    assert log.count("closed archive") == 2
    assert log.count(f"opened archive in {worker.pid}") == 0


def test_a_child_closes_what_is_async(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    worker = serve(start, broker, log, "--app", "contract:depot", "--processes", 1, sessions=2)
    assert connect(broker).call(fetch, "tea").startswith("tea True")
    log.wait_for("opened depot", count=2)
    worker.terminate()
    assert log.count("closed depot") == 2


def test_a_child_closes_what_it_has_opened_before_it_is_ready(start: Start, broker: Broker, log: Log) -> None:
    worker = serve(start, broker, log, "--app", "contract:slow", "--processes", 1, sessions=1)
    log.wait_for("opened slow")
    worker.terminate()
    assert log.count("closed slow") == 1


def test_a_child_that_is_replaced_closes_its_own(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    bounds = ("--processes", 1, "--max-tasks-per-child", 2)
    worker, client = serve(start, broker, log, "--app", "contract:archive", *bounds, sessions=1), connect(broker)
    assert [client.call(look_up, "tea") for _ in range(5)] == ["tea archive"] * 5
    worker.wait_for("W1 child replaced", "--max-tasks-per-child", count=2)
    log.wait_for("opened archive", count=3)
    assert log.count("closed archive") >= 2
    worker.terminate()
    assert log.count("closed archive") == log.count("opened archive")


def test_a_lifespan_that_fails_ends_the_worker_with_its_traceback(start: Start, broker: Broker) -> None:
    worker = start("worker", "W1", HOST, broker.worker_port, "--app", "contract:broken")
    assert worker.exit_code() == 3
    assert worker.count("the lifespan of broken failed: ConnectionError: no database at db:5432") == 1
    assert worker.count("in open_nothing") == 1
    assert worker.count("File ") == 1, "no lines but those of the lifespan"


def test_a_lifespan_that_fails_in_a_child(start: Start, broker: Broker) -> None:
    worker = start("worker", "W1", HOST, broker.worker_port, "--app", "contract:broken", "--processes", 1)
    assert worker.exit_code() == 3
    assert worker.count("the lifespan of broken failed: ConnectionError: no database at db:5432") >= 1
    assert worker.count("exited with 3 before it was ready") == 1 and not worker.count("__main__")


def test_a_state_that_is_none(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    serve(start, broker, log, "--app", "contract:broken", sessions=1, CBW_TEST_WORKS="1")
    assert connect(broker).call(use, "tea") == "tea"


def test_a_context_tells_of_the_request(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    serve(start, broker, log, "--app", "contract:archive", sessions=1)
    client = connect(broker, id="C1")
    told = client.call(describe.with_options(timeout=30))
    assert 0 < told.pop("time_left") < 30  # type: ignore[operator]
    assert told == {
        "request": "C1/1",
        "client": "C1",
        "service": "archive.describe",
        "attempt": 1,
        "retries": 0,
        "is_cancelled": False,
        "headers": {},
        "has_deadline": True,
    }
    ticket = client.start(describe.with_options(ticket="T1"))
    told = client.result(ticket, returns=dict[str, object])
    assert (told["request"], told["client"], told["has_deadline"]) == ("ticket/T1", "", False)


def test_a_second_signal_ends_a_worker_whose_lifespan_does_not_close(start: Start, broker: Broker, log: Log) -> None:
    worker = serve(start, broker, log, "--app", "contract:stuck", sessions=1)
    worker.signal(signal.SIGTERM)
    log.wait_for("closes for ever")
    time.sleep(1.0)  # a signal that comes sooner counts as one with the first
    worker.signal(signal.SIGTERM)
    assert worker.exit_code() == -signal.SIGTERM
