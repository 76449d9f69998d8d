"""Handlers of every kind: what they are given, and what becomes of a request whose handler is bad."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import cbw

from .conftest import HOST, Broker, Connect, Log, Start, StartBroker, StartWorker, handler_options
from .program import PATIENCE_S, SOON_S, environment, wait_until

# --- what they are given


@pytest.mark.parametrize(
    ("service", "body", "answer"),
    [
        ("echo", b"\0\xff", b"\0\xff"),
        ("upper", "straße", "STRASSE"),
        ("double", 21, 42),
        ("mirror", {"x": 1, "y": 2}, {"x": 2, "y": 1}),
        ("mirror", {"x": 1}, {"x": 0, "y": 1}),
        ("total", [1, 2, 3], 6),
        ("power", {"base": 3, "exponent": 4}, 81),
        ("power", {"base": 3}, 9),
        ("power", 3, 9),
        ("tripled", 4, 12),
        ("seventh", "the", "the 7"),
        ("subclass", b"x", b"x"),
        ("nothing", b"", b""),
    ],
)
def test_parameters(client: cbw.Client, service: str, body: Any, answer: Any) -> None:
    assert client.call(body, service, returns=type(answer)) == answer


@pytest.mark.parametrize(
    ("service", "body"),
    [
        ("upper", b"\xff"),
        ("double", "many"),
        ("double", b""),
        ("double", b"\xff"),
        ("double", "1.5"),
        ("mirror", {"y": 1}),
        ("mirror", b"[1, 2]"),
        ("mirror", b"{" * 10_000),
        ("total", b"[" * 100_000),
        ("total", [1, "2"]),
        ("depth", b"[" * 100_000),
        ("pick", {"name": "x"}),
        ("power", {"exponent": 2}),
        ("tripled", 3),
        ("power", {"base": 3, "exponnet": 4}),
        ("nothing", b"ignored"),
    ],
)
def test_a_body_that_does_not_fit(client: cbw.Client, service: str, body: Any) -> None:
    with pytest.raises(cbw.BadRequest, match="the body does not fit"):
        client.call(body, service)
    assert client.call([[], [[]]], "depth", returns=int) == 3


# --- what they do wrong


@pytest.mark.parametrize("service", ["fail", "fail_later"])
@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("raise", "KeyError", "nothing there"),
        ("exit", "SystemExit", "5"),
        ("interrupt", "KeyboardInterrupt", "its own"),
        ("surrogate", "OSError", r"cannot open \\udcff"),
        ("odd", "Odd", "its text cannot be made: ValueError"),
        ("type", "NotEncodable", "object"),
        ("text", "NotEncodable", "surrogates not allowed"),
    ],
)
def test_a_handler_that_raises_or_returns_what_no_body_can_be(
    client: cbw.Client, service: str, kind: str, error: str, text: str
) -> None:
    for _ in range(9):  # more than there are threads, should each cost one
        with pytest.raises(cbw.HandlerFailed, match=text) as failed:
            client.call(kind, service)
        assert failed.value.kind == error
    assert client.call("fine", service) == b"fine"


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_an_async_handler_that_exits_in_a_task_of_its_own(
    options: list[object], broker: Broker, start_worker: StartWorker, connect: Connect
) -> None:
    """Out of which the event loop lets it go; and so it does if the handler stops it."""
    client = connect(broker)
    start_worker("W1", "leave=leave_in_a_task", "echo=echo_async", options=["--concurrency", 4, *options])
    for kind, error in (("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")):
        with pytest.raises(cbw.HandlerFailed) as failed:
            client.call(kind, "leave")
        assert failed.value.kind == error
    client.call("stop", "leave")
    assert list(client.map(["x"] * 100, "echo")) == [b"x"] * 100


def test_a_child_process_that_returns_nearly_bytes(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    start_worker("W1", "subclass", options=["--processes", 1])
    assert connect(broker).call(b"x") == b"x"


def test_a_worker_runs_once(broker: Broker) -> None:
    worker = cbw.Worker(f"{HOST}:{broker.worker_port}")
    worker.add("", lambda body: body)
    worker.stop()
    worker.run()
    with pytest.raises(cbw.UsageError, match="runs once"):
        worker.run()


@pytest.mark.parametrize("wrong", [{"concurrency": 1.5}, {"concurrency": "2"}, {"processes": -1}, {"concurrency": 0}])
def test_numbers_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(cbw.UsageError, match="must be a whole number"):
        cbw.Worker(**wrong)


def test_an_async_handler_that_is_cancelled_by_itself(client: cbw.Client) -> None:
    """That is its own failure: the client has not cancelled anything."""
    with pytest.raises(cbw.HandlerFailed, match="CancelledError"):
        client.call("cancelled", "fail_later")


def test_a_handler_that_prints(broker: Broker, start_worker: StartWorker, connect: Connect) -> None:
    worker = start_worker("W1", "fail")
    assert connect(broker).call("print") == b"print"
    worker.wait_for("a handler may print")


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_an_answer_that_is_too_big(
    options: list[object], start: Start, connect: Connect, start_broker: StartBroker, start_worker: StartWorker
) -> None:
    """An error for whoever asked, and not the end of the worker's connection again and again."""
    broker = start_broker("--body-bytes-max", 1000)
    worker = start_worker("W1", "fail", options=options, at=broker)
    client = connect(broker)
    with pytest.raises(cbw.AnswerTooBig, match="3000000 bytes"):
        client.call("big")
    assert client.call("fine") == b"fine"
    assert worker.count("disconnected") == 0


# --- handlers that end their process


def test_a_handler_that_ends_its_process_is_given_up_after_three_attempts(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """With threads each attempt costs a worker."""
    client = connect(broker)
    workers = [start_worker(f"W{number}", "crash") for number in range(4)]
    with pytest.raises(cbw.GaveUp, match="3 workers failed at it"):
        client.call("exit")
    assert log.count("begun exit") == 3
    wait_until(lambda: sum(worker.is_running for worker in workers) == 1, "three have ended")
    assert client.call("fine") == b"fine"


def test_a_handler_that_ends_its_process_in_a_child_process(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """With processes it costs nobody anything."""
    client = connect(broker)
    worker = start_worker("W1", "crash", options=["--processes", 2])
    bodies = ["exit", *(f"{number}" for number in range(50)), "kill", *(f"{number}" for number in range(50, 100))]
    answers = list(client.map(bodies, returns=str, return_errors=True))
    errors = [answers.pop(51), answers.pop(0)]
    assert answers == [f"{number}" for number in range(100)]
    assert all(isinstance(error, cbw.GaveUp) for error in errors)
    assert "ended by SIGKILL" in str(errors[0])
    assert "exited with 7" in str(errors[1])
    assert (log.count("begun exit"), log.count("begun kill")) == (3, 3)
    assert worker.is_running
    assert broker.program.count("worker lost") == 0


def test_a_second_attempt_knows_that_it_is_one(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    start_worker("W1", "crash_once", options=["--processes", 1])
    assert connect(broker).call("x") == b"x"
    assert log.lines == ["attempt 1", "attempt 2"]


def test_a_program_whose_children_would_start_it_again(broker: Broker, connect: Connect, tmp_path: Path) -> None:
    """It says what is missing, and no request has lost an attempt to it."""
    program = tmp_path / "unguarded.py"
    program.write_text(
        "import cbw\n"
        f'worker = cbw.Worker("{HOST}:{broker.worker_port}", processes=2)\n'
        "@worker.service()\n"
        "def echo(body: bytes) -> bytes:\n"
        "    return body\n"
        "worker.run()\n"
    )
    waiting = connect(broker).submit(b"x")
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert 'Write if __name__ == "__main__":' in ended.stderr
    assert not waiting.done()
    assert broker.program.count("died") + broker.program.count("crashed") == 0


def test_a_child_process_that_cannot_import_its_handlers(start: Start, broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "parents_only.py").write_text(
        "import multiprocessing\n"
        'assert multiprocessing.current_process().name == "MainProcess", "not in a child"\n'
        "def echo(body: bytes) -> bytes:\n"
        "    return body\n"
    )
    options = ["--handler", "parents_only:echo", "--processes", 2]
    worker = start("worker", "W1", HOST, broker.worker_port, *options, PYTHONPATH=str(tmp_path))
    assert worker.exit_code() == 2
    assert worker.count("the handler's process exited with 1 before it was ready"), worker
    assert worker.count("not in a child"), worker
    worker.errors.clear()  # the child's traceback is what the user needs


# --- handlers that take long


def test_a_worker_whose_handler_computes_keeps_beating(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Four seconds of pure Python, while a silent worker is lost after three. A quick handler may turn slow, too."""
    client = connect(broker)
    start_worker("W1", "compute")
    client.call(0.0)
    assert client.call(4.0, returns=int) > 0
    assert broker.program.count("worker lost") == 0
    assert log.count("begun compute") == 2


def test_handlers_that_hold_the_gil(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """In threads that silences the whole worker, and it is lost. In processes it does not."""
    broker = start_broker("--liveness", 1.5)
    client = connect(broker)
    silent = start_worker("SILENT", "threads=hold_gil", at=broker)
    start_worker("BEATING", "processes=hold_gil", options=["--processes", 1], at=broker)
    in_process = client.submit(2.5, "processes")
    in_thread = client.submit(2.5, "threads")
    log.wait_for("begun hold", 2)
    broker.program.wait_for("worker lost", "SILENT", "silent for 1.5 s")
    silent.wait_for("SILENT stood still", "GIL", "--processes")  # when it is back
    silent.kill()
    assert in_process.result(PATIENCE_S) == b"held"
    start_worker("OTHER", "threads=hold_gil", options=["--processes", 1], at=broker)
    assert in_thread.result(PATIENCE_S) == b"held"
    assert not broker.program.count("worker lost", "BEATING")
    assert not broker.program.count("worker lost", "OTHER")


def test_the_error_of_one_that_holds_the_gil_says_what_to_change(
    start_broker: StartBroker, start_worker: StartWorker, connect: Connect
) -> None:
    broker = start_broker("--liveness", 1.5, "--attempts-max", 1)
    start_worker("SILENT", "hold_gil", at=broker)
    with pytest.raises(cbw.GaveUp, match=r"silent for 1\.5 s.*GIL.*--processes"):
        connect(broker).call(4, timeout=PATIENCE_S)


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_what_waits_for_a_handler_that_has_turned_slow_goes_to_another_worker(
    options: list[object], broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """Hundreds were handed out ahead of a worker that had been quick; and waiting for its handler costs no CPU time."""
    client = connect(broker)
    workers = [start_worker(f"W{number}", "hang", options=options) for number in (1, 2)]
    for _ in client.map(["quick"] * 8000):
        pass
    hanging = client.submit("for ever", timeout=PATIENCE_S)
    log.wait_for("begun for ever")
    spent_s = sum(worker.cpu_s for worker in workers)
    began_at = time.monotonic()
    assert all(answer == b"quick" for answer in client.map(["quick"] * 300))
    assert time.monotonic() - began_at < SOON_S
    time.sleep(1.0)
    assert sum(worker.cpu_s for worker in workers) - spent_s < 0.5
    hanging.cancel()


@pytest.mark.parametrize("first", ["for ever", "quick"])
@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_a_handler_that_hangs(
    first: str, options: list[object], broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """The client's time ends the wait, others are served, and SIGTERM ends the worker after its grace.

    A worker that has taken its handler for a quick one runs it in the thread that serves the socket.
    """
    client = connect(broker)
    worker = start_worker("W1", "hang", "fine=echo", options=["--concurrency", 2, "--grace", 0.3, *options])
    assert client.call("x", "fine") == b"x"  # a child process takes a moment to start
    for _ in range(50 if first == "quick" else 0):
        assert client.call("quick") == b"quick"
    hanging = client.submit(first + "!", timeout=1.5)
    log.wait_for("begun")
    assert client.call("x", "fine") == b"x"
    with pytest.raises(cbw.Expired):
        hanging.result(PATIENCE_S)
    assert client.call("x", "fine") == b"x"
    assert worker.terminate() < SOON_S


def test_an_async_handler_that_blocks_its_loop(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    client = connect(broker)
    worker = start_worker("W1", "block", options=["--concurrency", 2, "--grace", 0.3])
    hanging = client.submit("x", timeout=1.5)
    log.wait_for("begun block")
    with pytest.raises(cbw.Expired):
        hanging.result(PATIENCE_S)
    assert worker.terminate() < SOON_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_of_one_s_own_drains_too(
    number: signal.Signals, broker: Broker, connect: Connect, tmp_path: Path
) -> None:
    """``Worker.run`` takes the signals for which the program has no handlers."""
    program = tmp_path / "program.py"
    program.write_text(
        "import cbw, time\n"
        f'worker = cbw.Worker("{HOST}:{broker.worker_port}")\n'
        "@worker.service()\n"
        "def nap(seconds: float) -> str:\n"
        '    print("begun", flush=True)\n'
        "    time.sleep(seconds)\n"
        '    return "rested"\n'
        "worker.run()\n"
        'print("drained")\n'
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=environment()) as worker:
        assert worker.stdout
        future = connect(broker).submit("1")
        assert worker.stdout.readline() == b"begun\n"
        worker.send_signal(number)
        assert future.result(PATIENCE_S) == b"rested"
        assert worker.communicate(timeout=PATIENCE_S)[0] == b"drained\n" and worker.returncode == 0


def test_what_hangs_is_given_to_another_when_its_worker_is_stopped(
    broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    client = connect(broker)
    worker = start_worker("W1", "echo_slowly", options=["--grace", 0.1])
    future = client.submit("1.5 x")
    log.wait_for("begun 1.5 x")
    worker.signal(signal.SIGTERM)
    assert worker.exit_code(within_s=SOON_S) == 0
    start_worker("W2", "echo_slowly")
    assert future.result(PATIENCE_S) == b"1.5 x"


@pytest.mark.parametrize("options", [[], ["--processes", 1]], ids=["threads", "processes"])
def test_what_a_stopped_worker_has_not_begun_is_given_to_another_at_once(
    options: list[object], broker: Broker, start_worker: StartWorker, connect: Connect, log: Log
) -> None:
    """It is not kept for the grace time, in which the worker may finish what it has begun."""
    client = connect(broker)
    worker = start_worker("W1", "hang", options=["--grace", 2 * PATIENCE_S, *options])
    for _ in client.map(["quick"] * 2000):
        pass
    hanging = client.submit("for ever")
    log.wait_for("begun for ever")
    quick = [client.submit("quick") for _ in range(50)]
    worker.signal(signal.SIGTERM)
    start_worker("W2", "hang")
    assert all(future.result(SOON_S) == b"quick" for future in quick)
    assert worker.is_running
    hanging.cancel()


# --- handlers that cannot be


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        ("handlers", "'handlers' is no handler"),
        ("nowhere:echo", "no module named 'nowhere'"),
        ("./handlers.py:echo", "Write handlers:echo."),
        ("imports_nothing:echo", "imports_nothing imports it: no module named 'nothing_like_this'"),
        ("exits:echo", "does not import: SystemExit"),
        ("handlers:nothing_like_this", "nothing_like_this"),
        ("handlers:LOG", "cannot be a handler"),
    ],
)
def test_a_handler_that_is_none(start: Start, handler: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "imports_nothing.py").write_text("import nothing_like_this")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    worker = start("worker", "W1", HOST, 1, "--handler", handler, PYTHONPATH=str(tmp_path))
    assert worker.exit_code() == 2
    assert worker.count(text), worker


def test_a_handler_that_cannot_go_to_a_child_process(start: Start) -> None:
    worker = start("worker", "W1", HOST, 1, *handler_options(("nameless",)), "--processes", 1)
    assert worker.exit_code() == 2
    assert worker.count("a handler cannot go to a child process") and worker.count("Define it with def"), worker


def test_async_and_sync_handlers_in_one_worker(start: Start, broker: Broker, connect: Connect, log: Log) -> None:
    options = handler_options(("echo", "sleep=sleep"))
    start("worker", "W1", HOST, broker.worker_port, *options, CBW_TEST_LOG=str(log.path))
    broker.program.wait_for("worker ready", " worker W1:async")
    client = connect(broker)
    assert client.call(b"x") == b"x"
    assert client.call(0, "sleep")
