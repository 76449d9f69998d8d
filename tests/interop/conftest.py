"""The broker under test, and the programs of others around it. What a test starts is ended with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import zmq

from tests.ports import free_port

from .program import HERE, PATIENCE_S, Program, command_of
from .proxy import Proxy

HOST = "127.0.0.1"
IMPATIENT = ("--answer-timeout", 0.5, "--liveness", 1.5)
"""Options of a broker that notices silence soon."""
FAILED = pytest.StashKey[bool]()
Start = Callable[..., Program]


@dataclass
class Broker:
    """A running broker: ``front`` is the port of the clients, ``back`` that of the workers."""

    program: Program
    front: int
    back: int


StartBroker = Callable[..., Broker]
StartProxy = Callable[..., Proxy]


@pytest.fixture(scope="session")
def node() -> None:
    """Node and the packages of ``package-lock.json``."""
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed (apt-get install nodejs npm)")
    if (HERE / "node_modules" / "zeromq").is_dir():
        return
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=HERE, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        pytest.skip(f"npm ci failed in {HERE}: {done.stderr[-500:]}")


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """``start("lab_worker.js", "W1", HOST, port)``: a program of this folder, or ``"worker"``: one of ours.

    Keyword arguments are environment variables.
    """
    programs: list[Program] = []

    def start_program(name: str, *arguments: object, **environment: object) -> Program:
        if name.endswith(".js"):
            request.getfixturevalue("node")
        programs.append(Program(*command_of(name, *arguments), **environment))
        return programs[-1]

    yield start_program
    for program in reversed(programs):
        program.kill()
    if request.node.stash.get(FAILED, False):
        for program in programs:
            print(program)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remember a failure, so that the fixtures can show what the programs printed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def start_broker(start: Start) -> StartBroker:
    """``start_broker("--answer-timeout", 0.5)``: a broker on free ports, that listens."""

    def start_one(*options: object) -> Broker:
        front, back = free_port(), free_port()
        return listening(Broker(start("broker", front, back, *options), front, back))

    return start_one


def listening(broker: Broker) -> Broker:
    """``broker``, once it listens."""
    deadline = time.monotonic() + PATIENCE_S
    while not (_is_listening(broker.front) and _is_listening(broker.back)):
        assert broker.program.is_running(), f"ended: {broker.program}"
        assert time.monotonic() < deadline, f"does not listen: {broker.program}"
        time.sleep(0.01)
    return broker


@pytest.fixture(scope="module")
def _broker_of_module() -> Iterator[Broker]:
    front, back = free_port(), free_port()
    program = Program(*command_of("broker", front, back, *IMPATIENT))
    try:
        yield listening(Broker(program, front, back))
    finally:
        program.kill()


@pytest.fixture
def shared_broker(_broker_of_module: Broker, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One broker for all tests of a module, each with services of its own. Silence is noticed after 1.5 s.

    A worker that is silent at its work has 0.5 s to answer before its silence counts.
    """
    yield _broker_of_module
    if request.node.stash.get(FAILED, False):
        print(_broker_of_module.program)


@pytest.fixture
def broker(start_broker: StartBroker) -> Broker:
    """A broker with its default settings."""
    return start_broker()


@pytest.fixture
def quick_broker(start_broker: StartBroker) -> Broker:
    """A broker that gives a plain worker little time to answer."""
    return start_broker("--answer-timeout", 0.4)


@pytest.fixture
def proxy() -> Iterator[StartProxy]:
    """``proxy(port)``: a way to ``port`` that can be cut; ``proxy(port, delay_s=0.02)``: a slow one."""
    proxies: list[Proxy] = []

    def start_proxy(target: int, delay_s: float = 0.0) -> Proxy:
        proxies.append(Proxy(target, delay_s))
        return proxies[-1]

    yield start_proxy
    for one in proxies:
        one.close()


class Peer:
    """A client in the test itself, with a REQ or a DEALER socket. A DEALER sees every message that reaches it."""

    def __init__(self, socket: zmq.Socket[bytes], port: int) -> None:
        self._socket = socket
        self._handshakes = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        socket.connect(f"tcp://{HOST}:{port}")

    def ask(self, body: str, *request_ids: bytes) -> None:
        """Send a request, in the envelope of a REQ socket or behind ``request_ids``."""
        empty = [] if self._socket.type == zmq.REQ else [*request_ids, b""]
        self._socket.send_multipart([*empty, body.encode()])

    def reply(self, *, within_s: float = PATIENCE_S) -> str | None:
        """The next reply, or None if there is none in time."""
        if not self._socket.poll(int(within_s * 1000)):
            return None
        return self._socket.recv_multipart()[-1].decode()

    def wait_until_connected(self) -> None:
        """Wait until its side of the first handshake is done."""
        assert self._handshakes.poll(int(PATIENCE_S * 1000)), "not connected"

    def close(self) -> None:
        """End it, as a program that crashes would. Safe to call twice."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()  # now: once the socket is closed, the next may get its monitor's name too soon
        self._handshakes.close()
        self._socket.close()


Connect = Callable[..., Peer]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(zmq.REQ, "CLI", port)``: a client of the test itself."""
    with zmq.Context() as context:
        peers: list[Peer] = []

        def connect_one(kind: int, name: str, port: int) -> Peer:
            one = context.socket(kind)
            one.linger = 0
            one.setsockopt_string(zmq.IDENTITY, name)
            peers.append(Peer(one, port))
            return peers[-1]

        yield connect_one
        for peer in peers:
            peer.close()


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
