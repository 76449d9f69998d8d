"""What is told to whoever asks at an address where something else than a broker listens."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import zmq

import cbw
from cbw.transport.listening import Listener, what_listens
from tests.ports import free_port

from .conftest import HOST, Broker, Start
from .listener import listening
from .program import wait_until

TIMEOUT_S = 1


@contextmanager
def web_server() -> Iterator[int]:
    """One that answers as web servers do: to requests of HTTP."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def saying(words: bytes) -> AbstractContextManager[int]:
    """A server that says ``words`` to everybody, and takes in what it is told."""
    return listening(lambda peer: peer.sendall(words))


@contextmanager
def bound(kind: int, *, has_keys: bool = False) -> Iterator[int]:
    """A socket of ZeroMQ."""
    with zmq.Context() as context, context.socket(kind) as socket_:
        socket_.linger = 0
        if has_keys:
            socket_.curve_server = True
            socket_.curve_secretkey = zmq.curve_keypair()[1]
        yield socket_.bind_to_random_port(f"tcp://{HOST}")


def asked(start: Start, port: int) -> str:
    """What ``cbw call`` says in the end."""
    program = start("call", "--broker", f"{HOST}:{port}", "--timeout", TIMEOUT_S, "echo", "hello")
    assert program.exit_code() in (1, 2, 3), program
    return "".join(program.errors)


@pytest.mark.parametrize("kind", ["ROUTER", "PULL", "REP", "PUB", "DEALER"])
def test_a_socket_of_zeromq(kind: str) -> None:
    with bound(getattr(zmq, kind)) as port:
        found = what_listens(HOST, port)
    assert found.kind == kind and found.speaks_zeromq and found.is_there


def test_a_socket_that_wants_keys() -> None:
    with bound(zmq.ROUTER, has_keys=True) as port:
        assert what_listens(HOST, port).kind == "CURVE"


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "other", "'SSH-2.0-OpenSSH_9.2'"),
        (b"", "silent", "says nothing"),
        (b"\xff", "ZMQ", "ZeroMQ"),
        (b"\x1b[31m\xfe\r\n", "other", r"\\u001b[31m\\xfe"),
        (b"HTTP/1.0 400 Bad Request\r\nServer: lab\r\n\r\n", "http", "HTTP: lab"),
    ],
)
def test_a_program_of_another_kind(words: bytes, kind: str, text: str) -> None:
    with saying(words) as port:
        found = what_listens(HOST, port)
    assert found.kind == kind and text in found.text, found


def test_nothing() -> None:
    assert what_listens(HOST, free_port()) == Listener("nothing", "nothing listens")
    assert what_listens("no-such-host.invalid", 1).kind == "nothing"


def test_asking_is_no_message() -> None:
    """A broker of the lab ends with an exception at a message of another form."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port(f"tcp://{HOST}")
        for _ in range(3):
            assert what_listens(HOST, port).kind == "ROUTER"
        assert not router.poll(200)


def test_call_says_what_listens_instead(start: Start) -> None:
    with web_server() as port:
        said = asked(start, port)
    assert "a web server listens (HTTP: BaseHTTP/" in said and f"cbw doctor {HOST}:{port}" in said
    with bound(zmq.PULL) as port:
        assert "a PULL socket of ZeroMQ listens, which only takes in: a logger, perhaps" in asked(start, port)
    with saying(b"") as port:
        assert "something listens that says nothing" in asked(start, port)
    assert "nothing listens" in asked(start, free_port())


def test_a_broker_of_another_kind(start: Start) -> None:
    """It does not know CBW/1, as the lab's does not: the client says so, soon and at the end; and so does the doctor."""
    with bound(zmq.ROUTER) as port:
        program = start("client", "C1", 1, HOST, port, "--timeout", 4)
        wait_until(lambda: "waiting for a broker" in "".join(program.errors), "it says what it waits for")
        assert "a ROUTER socket of ZeroMQ listens that does not answer in CBW/1" in "".join(program.errors)
        assert program.exit_code() == 3
        assert "perhaps one of the lab" in program.errors[-2]
        doctor = start("doctor", f"{HOST}:{port}", "--worker-port", free_port())
        assert doctor.exit_code() == 1
        assert "does not answer in CBW/1 within 3 s: a ROUTER socket" in "".join(doctor.lines)


def test_the_other_ports_of_ours(start: Start, broker: Broker, tmp_path: Path) -> None:
    assert f"clients connect to port {broker.client_port}" in asked(start, broker.worker_port)
    port = free_port()
    logger = start("logger", port, tmp_path / "log", "--listen", HOST)
    logger.wait_for("logs to")
    assert "a logger, perhaps" in asked(start, port)
    assert "this port is a logger's, for records; give the broker's port" in asked(start, port + 1)


def test_the_status_page(start: Start) -> None:
    page = free_port()
    broker = start("broker", 0, 0, "--listen", HOST, "--status-port", page)
    broker.wait_for("serves clients")
    assert "a web server listens" in asked(start, page)


def test_the_library_says_how_to_find_out() -> None:
    with (
        bound(zmq.PULL) as port,
        cbw.Client(f"{HOST}:{port}", timeout=0.2) as client,
        pytest.raises(cbw.Expired) as caught,
    ):
        client.call("hello", "echo")
    assert "cbw doctor HOST:PORT" in caught.value.advice
    assert caught.value.advice in caught.value.__notes__
