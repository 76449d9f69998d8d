"""The command line: what it prints, and how it ends when something is wrong. Never with a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cbw.signals import SAME_WISH_S
from tests.ports import free_port

from .conftest import HOST, Broker, Log, Start, StartBroker, StartWorker, broker_of
from .program import PATIENCE_S, SOON_S, Program, environment, wait_until

RUNS = {
    "broker": ("broker", 0, 0, "--listen", HOST),
    "worker": ("worker", "W1", HOST, 1),
    "client": ("client", "C1", 1, HOST, 1),
}


# --- when all is well


def test_the_system_by_hand(start: Start, broker: Broker) -> None:
    """Broker, demonstration worker and demonstration client, as in the lab."""
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0.01).wait_for("W1 works for")
    client = start("client", "C1", 3, HOST, broker.client_port)
    assert client.exit_code() == 0
    assert [line.partition("  (")[0] for line in client.lines] == [f"C1-{n} -> C1-{n} W1" for n in (1, 2, 3)]


def test_ipv6(start: Start) -> None:
    program = start("broker", 0, 0, "--listen", "::1")
    if not Path("/proc/net/if_inet6").exists():
        program.wait_for("cannot listen on ::1")
        return
    broker = broker_of(program)
    start("worker", "W1", "::1", broker.worker_port, "--work-time", 0).wait_for("connected")
    client = start("client", "C1", 1, "::1", broker.client_port)
    assert client.exit_code() == 0
    assert start("call", "--broker", f"[::1]:{broker.client_port}", "--service", "", "/dev/null").exit_code() == 0


def test_ids_after_the_host(start: Start, broker: Broker) -> None:
    """HN is the host's name alone, none is host and process; the broker's place comes from the environment."""
    name = socket.gethostname()
    place = {"BROKER_HOST": HOST, "BROKER_PORT": str(broker.worker_port), "CBW_WORKER_WORK_TIME_S": "60"}
    start("worker", "HN", **place).wait_for(f"WOR_{name} works for {HOST}:{broker.worker_port}")
    client = start("client", **(place | {"BROKER_PORT": str(broker.client_port), "CBW_CLIENT_TIMEOUT_S": "0.5"}))
    assert client.exit_code() == 1, "the worker takes longer than the client has"
    assert client.count(f"CLI_{name}_{client.pid}-1 failed") == 1, client


def test_call(start: Start, broker: Broker, start_worker: StartWorker, tmp_path: Path) -> None:
    start_worker("W1", "echo", "fail=fail", "double=double")
    (tmp_path / "body").write_bytes(b"from a file")
    call = ("call", "--broker", broker.address)
    assert_ends(start(*call, stdin=b"hello"), 0, out="hello")
    assert_ends(start(*call, "--service", "", tmp_path / "body"), 0, out="from a file")
    assert_ends(start(*call, "double", "21"), 0, out="42")
    assert_ends(start(*call, "double", "number:=21"), 0, out="42")
    assert_ends(start(*call, "--priority", 9, stdin=b"soon"), 0, out="soon")
    assert_ends(start(*call, "--service", "fail", stdin=b"raise"), 1, error="KeyError: 'nothing there'")
    assert_ends(start(*call, "--service", "double", stdin=b"x"), 2, error="the body does not fit")
    late = start(*call, "--service", "none", "--timeout", 2)
    assert_ends(late, 1)
    text = "the deadline passed before a worker came that serves 'none'"
    assert late.count(text) or late.count("the broker does not say where the request is"), late


def test_a_folder_may_have_the_name_of_a_service(
    start: Start, broker: Broker, start_worker: StartWorker, tmp_path: Path
) -> None:
    """As a package of Python and the service that it serves often have. A file of that name is rather a body."""
    start_worker("W1", "double=double")
    call = ("call", "--broker", broker.address, "double")
    (tmp_path / "double").mkdir()
    assert_ends(start(*call, stdin=b"21", folder=tmp_path), 0, out="42")
    (tmp_path / "double").rmdir()
    (tmp_path / "double").touch()
    assert_ends(start(*call, stdin=b"21", folder=tmp_path), 2, error="double is a file, and no service was named")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], *([role, "--help"] for role in RUNS)])
def test_help(start: Start, arguments: list[str]) -> None:
    assert_ends(start(*arguments), 0)


# --- when it is not


def assert_ends(program: Program, code: int, *, out: str | None = None, error: str = "") -> None:
    """``program`` ends with ``code``, having printed exactly ``out``, and an error that contains ``error``."""
    assert program.exit_code() == code, program
    assert out is None or "\n".join(program.lines) == out, program
    assert error in "\n".join(program.errors), program
    assert code == 0 or program.errors, "it ends without a word"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["broker", "x"],
        ["broker", 99999],
        ["broker", 1, 2, "log", 4, 5],
        ["broker", 1, 2, "log", "port"],
        ["broker", 19998, 19998],
        ["logger", "x"],
        ["logger", 65535],
        ["logger", 0, "--fsync", "sometimes"],
        ["broker", "--liveness", "soon"],
        ["broker", "--liveness", "nan"],
        ["worker", "W1", HOST, 9999, "--work-time", "nan"],
        ["up", "--work-time", "nan"],
        ["worker", "W1", HOST, 9999, "--work-time", "inf"],  # no thread sleeps for ever
        ["up", "--work-time", "inf"],
        ["up", "--scale", "cli=99999999"],
        ["bench", "--seconds", "nan"],
        ["broker", "--attempts-max", 0],
        ["worker", "W1"],
        ["worker", "W1", HOST, "x"],
        ["worker", "W1", "", 9999],
        ["worker", "W1", f"{HOST}:9999"],
        ["worker", "W1", "no host", 9999],
        ["worker", "W1", "*", 9999],
        ["worker", "W1", "[::1]:9999"],
        ["worker", "W1", "[::1", 9999],
        ["worker", "W1", HOST, 9999, "--logger-host", "a b"],
        ["worker", "W1", HOST, 9999, "--logger-host", f"{HOST}:9995"],
        ["worker", "W1", HOST, 9999, "--logger-host", HOST, "--logger-port", 65535],
        ["worker", "W1", HOST, 9999, "--processes", 10_000],
        ["broker", 0, 0, HOST, 0],
        ["broker", 0, 0, HOST, 65535],
        ["up", "--client-port", 19998, "--worker-port", 19998],
        ["up", "--log-port", 65535],
        ["bench", "--body-bytes", 1 << 40],
        ["bench", "--broker", ""],
        ["verify", "--broker", ""],
        ["worker", "W1", HOST, 9999, "--concurrency", 0],
        ["worker", "x" * 201, HOST, 9999],
        ["worker", "W\udcff", HOST, 9999],
        ["worker", "W1", "\udcff", 9999],
        ["client", "C\udcff", 1, HOST, 9998],
        ["client", "C1", 1, "\udcff", 9998],
        ["call", "--service", "\udcff", __file__],
        ["call", "--broker", "\udcff:9998", "s", "x"],
        ["logs", __file__, "--grep", "\udcff"],
        ["logs", __file__, "--client", "\udcff"],
        ["logs", "story", "\udcff/1", __file__],
        ["doctor", "\udcff"],
        ["client", "C1", "many"],
        ["client", "C1", -1],
        ["client", "C1", 1, "a/b", 9998],
        ["client", "x" * 201, 1, HOST, 9998],
        ["call", "--service", "s", "/no/such/file"],
        ["call", "--service", "s", __file__, "another"],
        ["call", __file__],
        ["call", "s", "article=tea", "3"],
        ["call", "s", "count:=three"],
        ["call", "s", "count:=3", "count=4"],
        ["wroker"],
        ["call", "--priority", "10", "s", "x"],
        ["call", "--broker", "x:y"],
        ["call", "--broker", ""],
        ["call", "--broker", f"{HOST}:9998:1"],
        ["call", "--broker", f"{HOST}:0"],
        ["call", "--deadline", 1, "s", "x"],
        ["call", "--detach", "--ticket", "", "s", "x"],
        ["result"],
        ["result", "x" * 201],
        ["result", "\udcff"],
        ["result", "t", "--broker", "x:y"],
    ],
    ids=lambda arguments: " ".join(str(argument)[:20] for argument in arguments),
)
def test_wrong_arguments(start: Start, shared: Broker, arguments: list[object]) -> None:
    """Where an id is refused it is the broker that refuses it."""
    ports = {9999: shared.worker_port, 9998: shared.client_port}
    arguments = [ports.get(argument, argument) if isinstance(argument, int) else argument for argument in arguments]
    if arguments == ["worker", "W1"]:
        assert_ends(start(*arguments, BROKER_PORT="many"), 2, error="BROKER_PORT")
    else:
        assert_ends(start(*arguments), 2)


@pytest.mark.parametrize("place", [(0, 1), (1, 0)], ids=["frontend", "backend"])
def test_a_port_that_is_in_use(start: Start, shared: Broker, place: tuple[int, int]) -> None:
    ports = [(0, shared.client_port)[place[0]], (0, shared.worker_port)[place[1]]]
    second = start("broker", *ports, "--listen", HOST)
    assert_ends(second, 3, error=f"port {max(ports)} is in use")
    assert second.count("ss -ltnp")


def test_an_address_that_is_not_of_this_machine(start: Start) -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        assert_ends(start("broker", 0, 0, "--listen", host), 3, error=f"{host!r} is no address of this machine")
    for role in (["broker", 0, 0], ["logger", 0]):
        assert_ends(start(*role, "--listen", "\udcff"), 3, error="not a host name")
    assert_ends(start("broker", 0, 0, LOGGER_HOST="\udcff"), 2, error="is no host")


def test_a_logger_whose_host_is_unknown(start: Start) -> None:
    start("broker", 0, 0, LOGGER_HOST="no.such.host.invalid").wait_for(
        "the logger's host 'no.such.host.invalid' does not"
    )


def test_the_current_folder_is_gone(tmp_path: Path) -> None:
    code = "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['cbw', 'logger', '0']; from cbw.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the current folder is not there any more" in done.stderr


def test_an_unknown_host(start: Start) -> None:
    """The library tries on, as the name may be known later; whoever waits at a terminal is told at once."""
    worker = start("worker", "W1", "no.such.host.invalid", 9999)
    client = start("client", "C1", 1, "no.such.host.invalid", 9998, "--timeout", 0.5)
    call = start("call", "--broker", "no.such.host.invalid:9998", "--timeout", 0.5)
    worker.wait_for("'no.such.host.invalid' does not resolve")
    client.wait_for("'no.such.host.invalid' does not resolve")
    assert_ends(client, 3, error="'no.such.host.invalid' does not resolve")
    assert_ends(call, 3, error="'no.such.host.invalid' does not resolve")
    assert worker.terminate() < SOON_S


def test_nobody_listens(start: Start) -> None:
    client = start("client", "C1", 1, HOST, 1, "--timeout", 0.3)
    call = start("call", "--broker", f"{HOST}:1", "--timeout", 0.3)
    assert_ends(client, 3, error=f"no broker at {HOST}:1 in 0.3 s")
    assert_ends(call, 3, error=f"no broker at {HOST}:1 in 0.3 s")


def test_the_wrong_one_of_the_two_ports(start: Start, shared: Broker) -> None:
    client = start("client", "C1", 1, HOST, shared.worker_port)
    worker = start("worker", "W1", HOST, shared.client_port)
    assert_ends(client, 2, error=f"this port is for workers; clients connect to port {shared.client_port}")
    assert_ends(worker, 2, error=f"this port is for clients; workers connect to port {shared.worker_port}")


def test_a_client_says_whom_it_waits_for(start: Start) -> None:
    client = start("client", "C1", 10, HOST, 1, "--timeout", 3)
    call = start("call", "--broker", f"{HOST}:1", "--timeout", 3)
    for program in (client, call):
        program.wait_for(f"waiting for a broker at {HOST}:1")
        assert_ends(program, 3, error=f"no broker at {HOST}:1 in 3 s")
    assert not client.count("C1-2")
    assert_ends(start("call", BROKER_HOST=""), 2, error="where is the broker? Give its host with --broker")


def test_a_client_says_that_there_is_no_worker(start_broker: StartBroker, start: Start) -> None:
    broker = start_broker()
    client = start("client", "C1", 1, HOST, broker.client_port)
    client.wait_for(f"waiting for a worker: the broker at {HOST}:{broker.client_port} has none, up to 60 s for each")
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 0)
    client.wait_for("C1-1 -> C1-1 W1")


def test_a_call_says_that_nobody_serves_what_it_asks(start_broker: StartBroker, start: Start) -> None:
    """It waits all the same, as a worker may come."""
    broker = start_broker()
    call = start("call", "--broker", broker.address, "--service", "ecko", stdin=b"hi")
    call.wait_for(f"waiting for a worker for ecko: the broker at {broker.address} has none, up to 60 s")
    start("worker", "W1", HOST, broker.worker_port, "--handler", "ecko=handlers:echo")
    assert call.exit_code() == 0 and call.count("hi") == 1, call


def test_a_call_of_a_slow_service_says_nothing(start_broker: StartBroker, start: Start) -> None:
    broker = start_broker()
    start("worker", "W1", HOST, broker.worker_port, "--work-time", 3)
    call = start("call", "--broker", broker.address, stdin=b"hi")
    assert call.exit_code() == 0 and call.lines == ["hi W1"], call


def test_a_client_says_that_another_has_its_id(start_broker: StartBroker, start: Start) -> None:
    broker = start_broker()
    first = start("client", "EXT", 1, HOST, broker.client_port)
    first.wait_for("waiting for a worker")
    second = start("client", "EXT", 1, HOST, broker.client_port)
    second.wait_for("waiting for its turn, as a client called 'EXT' lives")
    assert_ends(second, 3, error="a client called 'EXT' lives")


def test_a_full_disk_under_the_output(broker: Broker, start_worker: StartWorker) -> None:
    start_worker("W1", "echo")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cbw", "call", "--broker", broker.address],
            input=b"x",
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
            timeout=PATIENCE_S,
        )
    assert (done.returncode, done.stderr) == (1, b"cbw: No space left on device\n")


def test_an_answer_and_the_prompt_of_a_terminal(broker: Broker, start_worker: StartWorker) -> None:
    """The answer ends its line there, and nowhere else."""
    start_worker("W1", "echo")
    here, there = os.openpty()
    command = [sys.executable, "-m", "cbw", "call", "--broker", broker.address]
    subprocess.run(command, input=b"x", stdout=there, env=environment(), check=True, timeout=PATIENCE_S)
    os.close(there)
    assert os.read(here, 10) == b"x\r\n"
    os.close(here)


@pytest.mark.parametrize("no_colour", ["", "1"])
def test_colours_of_a_terminal(no_colour: str) -> None:
    here, there = os.openpty()
    ports = ["--client-port", "0", "--worker-port", "0", "--log-port", "0"]
    subprocess.run(
        [sys.executable, "-m", "cbw", "up", "--scale", "cli=0", "--scale", "wor=0", "--until-done", *ports],
        stdout=there,
        env={**environment(), "NO_COLOR": no_colour, "CBW_STATUS_PORT": "0"},
        check=True,
        timeout=PATIENCE_S,
    )
    os.close(there)
    assert (b"\x1b[36m" in os.read(here, 10_000)) is (not no_colour)
    os.close(here)


# --- the end


@pytest.mark.parametrize("role", RUNS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(start: Start, role: str, number: signal.Signals) -> None:
    """Roles end well. A client that waits for an answer stops waiting; Ctrl-C tells that it was interrupted."""
    program = start(*RUNS[role])
    if role == "client":
        wait_until(lambda: threads(program.pid) > 2, "it waits for an answer")
    else:
        program.wait_for({"broker": "serves clients", "worker": "works for"}[role])
    program.signal(number)
    code = program.exit_code(within_s=SOON_S)
    assert code == (130 if role == "client" and number is signal.SIGINT else 0), program


def threads(pid: int) -> int:
    """How many threads a process has; ZeroMQ makes two."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(
    second: signal.Signals, start: Start, broker: Broker, start_worker: StartWorker, log: Log
) -> None:
    worker = start_worker("W1", "hang")
    start("call", "--broker", broker.address, stdin=b"for ever")
    log.wait_for("begun for ever")
    worker.signal(signal.SIGINT)
    time.sleep(2 * SAME_WISH_S)
    worker.signal(second)
    assert worker.exit_code(within_s=SOON_S) == -second


def test_a_signal_that_comes_twice_at_once_is_one(
    start: Start, broker: Broker, start_worker: StartWorker, log: Log
) -> None:
    """As `timeout` and service managers tell a process, and tell it again with its group."""
    worker = start_worker("W1", "echo_slowly")
    call = start("call", "--broker", broker.address, stdin=b"1 x")
    log.wait_for("begun 1 x")
    worker.signal_at_once(signal.SIGTERM, signal.SIGINT)
    worker.signal(signal.SIGTERM)
    assert worker.exit_code(within_s=SOON_S) == 0
    assert call.exit_code() == 0 and call.lines == ["1 x"]


@pytest.mark.parametrize("options", [["--verbose"], ["--verbose", "--concurrency", "2"]])
def test_what_a_handler_s_thread_prints_that_nobody_reads_any_more(
    options: list[str], start: Start, broker: Broker
) -> None:
    """As in ``cbw worker --verbose | head -1``: the worker ends, and is no worker that is there and never answers."""
    command = [sys.executable, "-m", "cbw", "worker", "W1", HOST, str(broker.worker_port), "--work-time", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as worker:
        assert worker.stdout and worker.stderr
        try:
            broker.program.wait_for("worker ready")
            worker.stdout.close()
            start("call", "--broker", broker.address, stdin=b"x")
            assert worker.wait(PATIENCE_S) == 1
            assert b"Traceback" not in worker.stderr.read()
        finally:
            worker.kill()


def test_a_demonstration_that_nobody_watches_any_more(start: Start, broker: Broker) -> None:
    """Its clients do not care."""
    command = [sys.executable, "-m", "cbw", "worker", "W1", HOST, str(broker.worker_port), "--work-time", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as worker:
        assert worker.stdout
        try:
            broker.program.wait_for("worker ready")
            worker.stdout.close()
            call = start("call", "--broker", broker.address, stdin=b"x")
            assert call.exit_code() == 0 and call.lines == ["x W1"]
        finally:
            worker.kill()


@pytest.mark.parametrize("role", ["broker", "worker"])
def test_signals_that_come_at_once_are_heard(start: Start, role: str) -> None:
    """The kernel may give them to any thread that takes signals."""
    programs = [start(*RUNS[role], "--status-port", free_port(), "--logger-host", HOST) for _ in range(6)]
    for program in programs:
        program.wait_for({"broker": "serves clients", "worker": "works for"}[role])
    for program in programs:
        program.signal_at_once(signal.SIGTERM, signal.SIGINT)
    assert [program.exit_code() for program in programs] == [0] * 6


NOTED = """
import signal, sys, threading
from cbw.cli.main import main
def take():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
threading.Thread(target=take, daemon=True).start()
main()
"""
"""It gives a signal to a thread that is not the main one, which sleeps on."""


@pytest.mark.parametrize("role", [*RUNS, "logger"])
def test_a_signal_that_wakes_nobody_is_heard(role: str, tmp_path: Path) -> None:
    """Python only notes it; so it does with one that comes just before the main thread falls asleep."""
    words = {**RUNS, "logger": ("logger", 0, tmp_path / "logs", "--listen", HOST)}[role]
    command = [sys.executable, "-c", NOTED, *map(str, words)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as program:
        assert program.stdin and program.stdout
        try:
            if role == "client":
                wait_until(
                    lambda: threads(program.pid) > 3, "it waits for an answer, as the thread for the signal does"
                )
            else:
                program.stdout.readline()
            time.sleep(1)
            program.stdin.close()
            assert program.wait(SOON_S) == (130 if role == "client" else 0)
        finally:
            program.kill()


def test_an_output_that_nobody_reads_any_more(start: Start, broker: Broker) -> None:
    """As in ``cbw broker | head -1``."""
    command = [sys.executable, "-m", "cbw", "worker", "W1", HOST, str(broker.worker_port), "--work-time", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as worker:
        assert worker.stdout and worker.stderr
        try:
            broker.program.wait_for("worker ready")
            worker.stdout.close()
            broker.program.kill()  # so it has something to say
            assert worker.wait(PATIENCE_S) == 1
            assert b"Traceback" not in worker.stderr.read()
        finally:
            worker.kill()
