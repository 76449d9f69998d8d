"""Brokers, workers and clients for one test, or for all. What is started is ended, and none may leave a traceback."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq

import cbw
from cbw.transport.router import Router

from .program import PATIENCE_S, Program, wait_until

HOST = "127.0.0.1"
PARENT_KILLED = "EOFError: Ran out of input"
"""The end of the traceback of a child of ``--processes`` whose worker was killed in the very moment in which it started it."""
LASTS_S = 3 * PATIENCE_S
"""Time of a client for an answer: what waits while a test looks at it must not end meanwhile, on a busy machine."""
Start = Callable[..., Program]
Connect = Callable[..., cbw.Client]
Use = Callable[[cbw.AsyncClient], Awaitable[None]]
RunAsync = Callable[[Use], None]


def tracebacks(program: Program) -> int:
    """How many tracebacks it has printed of its own: those of handlers stand indented below what failed."""
    return sum(line.startswith("Traceback") for line in program.lines)


@dataclass
class Broker:
    """A running broker and its ports."""

    program: Program
    client_port: int
    worker_port: int

    @property
    def address(self) -> str:
        """For clients."""
        return f"{HOST}:{self.client_port}"


class Log:
    """What the handlers of a test's workers have noted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[str]:
        """All of it."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, start: str, count: int = 1) -> str:
        """Wait until ``count`` lines begin with ``start``; the last of them."""
        wait_until(lambda: self.count(start) >= count, f"{count} times {start!r} in {self.lines}")
        return [line for line in self.lines if line.startswith(start)][count - 1]

    def count(self, start: str) -> int:
        """How many lines begin with ``start``."""
        return sum(line.startswith(start) for line in self.lines)


StartBroker = Callable[..., Broker]
StartWorker = Callable[..., Program]
StartLogger = Callable[..., tuple[Program, int]]


@contextlib.contextmanager
def programs() -> Iterator[Start]:
    """Starts programs; at the end those that run are killed, and all are looked at."""
    started: list[Program] = []

    def start(*arguments: object, **options: Any) -> Program:
        started.append(Program(*arguments, **options))
        return started[-1]

    try:
        yield start
    finally:
        for program in reversed(started):
            program.kill()
        for program in started:
            print(program)
    for program in started:
        assert tracebacks(program) <= program.count(PARENT_KILLED), f"a traceback: {program}"


@pytest.fixture
def start() -> Iterator[Start]:
    """``start("broker", 0, 0)``: a program of ours."""
    with programs() as start:
        yield start


def broker_of(program: Program) -> Broker:
    """The broker that ``program`` is, once it listens."""
    ports = re.findall(r"port (\d+)", program.wait_for("serves clients on port"))
    return Broker(program, int(ports[0]), int(ports[1]))


@pytest.fixture
def start_broker(start: Start) -> StartBroker:
    """``start_broker("--attempts-max", 1)``: a broker that listens, on free ports or those given."""

    def start_one(*options: object, client_port: int = 0, worker_port: int = 0) -> Broker:
        return broker_of(start("broker", client_port, worker_port, "--listen", HOST, *options))

    return start_one


@pytest.fixture
def broker(start_broker: StartBroker) -> Broker:
    """A broker with its default settings."""
    return start_broker()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of keys, as ``cbw keys new`` makes it."""
    folder = tmp_path_factory.mktemp("made") / "keys"
    program = Program("keys", "new", folder)
    assert program.exit_code() == 0, program
    return folder


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    folder = tmp_path / "keys"
    folder.mkdir(0o700)
    for path in made.iterdir():
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(path.stat().st_mode & 0o777)
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """What the handlers note."""
    return Log(tmp_path / "log")


@pytest.fixture
def router() -> Iterator[Router]:
    """A broker's socket alone, in the test's own process."""
    context: zmq.Context[Any] = zmq.Context()
    router = Router(context, HOST, 0, body_bytes_max=1000)
    yield router
    router.close()
    context.term()


def handler_options(handlers: tuple[str, ...]) -> list[str]:
    """``"echo"`` serves the nameless service, ``"double=double"`` one of that name."""
    specs = [(service, name) for service, _, name in (handler.rpartition("=") for handler in handlers)]
    return [f"--handler={service}=handlers:{name}" for service, name in specs]


@pytest.fixture
def start_worker(start: Start, broker: Broker, log: Log) -> StartWorker:
    """``start_worker("W1", "echo", "double=double", options=["--processes", 2])``: a worker that is registered."""

    def start_one(id: str, *handlers: str, options: list[object] | None = None, at: Broker | None = None) -> Program:
        place = at or broker
        before = place.program.count("worker ready", f" worker {id}")
        arguments = [*handler_options(handlers), *(options or [])]
        worker = start("worker", id, HOST, place.worker_port, *arguments, CBW_TEST_LOG=str(log.path))
        place.program.wait_for("worker ready", f" worker {id}", count=before + 1)
        return worker

    return start_one


@contextlib.contextmanager
def clients() -> Iterator[Connect]:
    """Makes clients, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def connect(broker: Broker, **options: Any) -> cbw.Client:
            client = cbw.Client(broker.address, **({"timeout": LASTS_S} | options))
            stack.callback(client.close)  # at once: what a test has left in flight has no end
            return client

        yield connect


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The log's file."""
    return tmp_path / "logs" / "logs"


@pytest.fixture
def start_logger(start: Start, logs: Path) -> StartLogger:
    """``start_logger("--fsync", "always", port=0)``: a logger that listens, and its text port."""

    def start_one(*options: object, port: int = 0) -> tuple[Program, int]:
        logger = start("logger", port, logs, *options)
        line = logger.wait_for("text on port")
        return logger, int(line.split("text on port ")[1].split(",")[0])

    return start_one


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(broker)``: a client of the library, in the test's own process."""
    with clients() as connect:
        yield connect


def completed(start: Start, *words: str, **variables: str) -> list[str]:
    """What Tab offers in place of the last of the ``words`` behind ``cbw``, which may be empty."""
    typed = {"COMP_WORDS": " ".join(("cbw", *words)), "COMP_CWORD": str(len(words)), "_CBW_COMPLETE": "bash_complete"}
    asked = start(**typed, **variables)
    assert asked.exit_code() == 0 and not asked.errors
    return [line.partition(",")[2] for line in asked.lines if line.startswith("plain,")]


# --- one healthy system for all tests that harm nobody

SERVICES = (
    "echo",
    "upper",
    "double",
    "mirror",
    "total",
    "pick",
    "depth",
    "power",
    "tripled",
    "seventh",
    "subclass",
    "nothing",
    "attempt",
    "fail",
)
ASYNC_SERVICES = ("sleep", "fail_later")


@pytest.fixture(scope="session")
def shared_log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """What the handlers of the shared system note."""
    return Log(tmp_path_factory.mktemp("shared") / "log")


@pytest.fixture(scope="session")
def shared(shared_log: Log) -> Iterator[Broker]:
    """A broker with two workers of each kind, whose services are called like the handlers."""
    with programs() as start:
        broker = broker_of(start("broker", 0, 0, "--listen", HOST))
        for number in (1, 2):
            for kind, services in (("SYNC", SERVICES), ("ASYNC", ASYNC_SERVICES)):
                options = handler_options(tuple(f"{name}={name}" for name in services))
                variables = {"CBW_TEST_LOG": str(shared_log.path)}
                start("worker", f"{kind}{number}", HOST, broker.worker_port, "--concurrency", 4, *options, **variables)
        broker.program.wait_for("worker ready", count=4)
        yield broker


@pytest.fixture(scope="session")
def client(shared: Broker) -> Iterator[cbw.Client]:
    """A client of the shared system, for tests that need nothing special of theirs."""
    with clients() as connect:
        yield connect(shared)


@pytest.fixture
def run_async(shared: Broker) -> RunAsync:
    """Runs an async function with a client of the shared system, in a loop whose every complaint is a failure."""

    def run(use: Use) -> None:
        complaints: list[object] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with cbw.AsyncClient(shared.address, timeout=PATIENCE_S) as client:
                await use(client)

        asyncio.run(main(), debug=False)
        assert complaints == []

    return run
