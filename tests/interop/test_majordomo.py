"""Clients and workers of Majordomo 0.1 and 0.2, in Python, in Node and of PyPI's ``majortomo``, with each other and with ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import zmq

from cbw import Client

from .conftest import HOST, Broker, Start
from .program import PATIENCE_S, Program

WORK_MS = 2
REQUESTS = 2

WORKERS: dict[str, tuple[object, ...]] = {
    "py-01": ("mdp_worker.py", "0.1"),
    "py-02": ("mdp_worker.py", "0.2"),
    "js-01": ("mdp_worker.js", "0.1"),
    "js-02": ("mdp_worker.js", "0.2"),
    "majortomo": ("majortomo_worker.py",),
}
"""Each serves the service of this name."""
CLIENTS: dict[str, tuple[object, ...]] = {
    "py-01": ("mdp_client.py", "0.1"),
    "py-02": ("mdp_client.py", "0.2"),
    "js-01": ("mdp_client.js", "0.1"),
    "js-02": ("mdp_client.js", "0.2"),
    "majortomo": ("majortomo_client.py",),
}


_numbers = itertools.count(1)


def start_workers(start: Start, port: int, **environment: object) -> dict[str, Program]:
    """A worker of each kind. It answers ``<message> <service>``."""
    return {
        service: start(*program, service, service, HOST, port, WORK_MS, **environment)
        for service, program in WORKERS.items()
    }


@pytest.fixture
def asking(shared_broker: Broker) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER of the test itself at the clients' port, of an identity that no other test has."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.setsockopt_string(zmq.IDENTITY, f"ASKING{next(_numbers)}")
        socket.connect(f"tcp://{HOST}:{shared_broker.front}")
        yield socket


def reply(socket: zmq.Socket[bytes]) -> list[bytes]:
    assert socket.poll(int(PATIENCE_S * 1000)), "no reply"
    return socket.recv_multipart()


def test_every_client_with_every_worker(shared_broker: Broker, start: Start) -> None:
    """A client of each kind asks a worker of each kind, one of ours, and through the nameless service one of the lab."""
    start_workers(start, shared_broker.back)
    start("worker", "ours", HOST, shared_broker.back, "--handler", "ours=handlers:sign")
    start("guide_worker.js", "nameless", HOST, shared_broker.back, WORK_MS, READY_BYTE=1)
    services = [*WORKERS, "ours", ""]
    clients = {
        name: start(*program, ",".join(services), name, REQUESTS, HOST, shared_broker.front)
        for name, program in CLIENTS.items()
    }
    with Client(f"{HOST}:{shared_broker.front}") as ours:
        for service in services:
            answer = ours.call(b"C-1", service, timeout=PATIENCE_S)
            assert answer == f"C-1 {service or 'nameless'}".encode()
    for name, client in clients.items():
        assert client.finish() == [
            f"{service} {name}-{number} {service or 'nameless'}"
            for service in services
            for number in range(1, REQUESTS + 1)
        ]


def test_the_examples_of_majortomo_as_they_are(shared_broker: Broker, start: Start) -> None:
    """Its own command, a worker and a client."""
    start("majortomo.echo", "-b", f"tcp://{HOST}:{shared_broker.back}", "worker")
    client = start(
        "majortomo.echo", "-b", f"tcp://{HOST}:{shared_broker.front}", "client", "-m", "hello", "-r", 2, "-d", 0
    )
    client.finish()
    assert len(client.said_anywhere("32mGot response: [b'hello']")) == 2, "green: it is what was sent"


@pytest.mark.parametrize("worker", ["py-02", "js-02", "majortomo"])
def test_parts_of_an_answer(worker: str, shared_broker: Broker, start: Start) -> None:
    """Clients of 0.2 get them as they come, all others only the end."""
    service = f"parts-{worker}"
    start(*WORKERS[worker], service, "W1", HOST, shared_broker.back, WORK_MS, PARTS=2)
    clients = [
        start(*CLIENTS[name], service, "C", 2, HOST, shared_broker.front)
        for name in ("py-01", "py-02", "js-02", "majortomo")
    ]
    for client in clients:
        assert client.finish() == [f"{service} C-1 W1", f"{service} C-2 W1"]
    assert clients[0].said("part") == []
    for client in clients[1:]:
        assert client.said("part") == [f"{service} C-{number} part {part}" for number in (1, 2) for part in (1, 2)]
    with Client(f"{HOST}:{shared_broker.front}") as ours:
        assert ours.call(b"C-3", service, timeout=PATIENCE_S) == b"C-3 W1"
        parts = ours.stream(b"C-4", service, timeout=PATIENCE_S, returns=str)
        assert list(parts) == ["C-4 part 1", "C-4 part 2", "C-4 W1"]


def test_a_handler_that_yields_sends_parts_to_majordomo_clients(shared_broker: Broker, start: Start) -> None:
    """All of its parts come as such, and an empty end. Others get a list."""
    start("worker", "Y1", HOST, shared_broker.back, "--handler", "yields=handlers:spell")
    for name in ("py-02", "js-02", "majortomo"):
        client = start(*CLIENTS[name], "yields", "C", 1, HOST, shared_broker.front)
        assert client.finish() == ["yields "]
        assert client.said("part") == [f"yields {letter}" for letter in "C-1"]
    assert start(*CLIENTS["py-01"], "yields", "C", 1, HOST, shared_broker.front).finish() == ['yields ["C","-","1"]']


def test_a_handler_that_yields_goes_on_as_a_majordomo_client_reads(
    shared_broker: Broker, start: Start, asking: zmq.Socket[bytes]
) -> None:
    """It cannot say for how many parts it has room, so it has room if nothing waits for it in the broker."""
    start("worker", "Y2", HOST, shared_broker.back, "--handler", "many=handlers:count")
    asking.send_multipart([b"MDPC02", b"\x01", b"many", b"500"])
    parts = [reply(asking) for _ in range(500)]
    assert parts == [[b"MDPC02", b"\x02", b"many", b"%d" % number] for number in range(500)]
    assert reply(asking) == [b"MDPC02", b"\x03", b"many", b""]


def test_a_lab_client_is_served_by_a_majordomo_worker(shared_broker: Broker, start: Start) -> None:
    """One that serves the nameless service."""
    start("mdp_worker.py", "0.1", "", "W1", HOST, shared_broker.back, WORK_MS)
    client = start("req_client.py", "C1", 2, HOST, shared_broker.front)
    assert client.finish() == ["C1-1 W1", "C1-2 W1"]


def test_the_broker_answers_for_its_own_services(
    shared_broker: Broker, start: Start, asking: zmq.Socket[bytes]
) -> None:
    """RFC 8."""
    start("mdp_worker.py", "0.2", "there", "W1", HOST, shared_broker.back, WORK_MS)
    asking.send_multipart([b"MDPC02", b"\x01", b"there", b"hi"])
    assert reply(asking) == [b"MDPC02", b"\x03", b"there", b"hi W1"]
    for service, body, code in (
        (b"mmi.service", b"there", b"200"),
        (b"mmi.service", b"not there", b"404"),
        (b"mmi.broker", b"", b"501"),
    ):
        asking.send_multipart([b"MDPC02", b"\x01", service, body])
        assert reply(asking) == [b"MDPC02", b"\x03", service, code]


def test_a_worker_cannot_take_a_service_of_the_broker(shared_broker: Broker, start: Start) -> None:
    """It is disconnected, and tries again; that is the RFC's way."""
    worker = start("mdp_worker.py", "0.1", "mmi.mine", "W1", HOST, shared_broker.back)
    worker.wait_for("disconnected", 2)
    shared_broker.program.wait_for("services that begin with mmi. are the broker's own", is_anywhere=True)


@pytest.mark.parametrize(
    "frames",
    [
        [b"", b"MDPC01", b"service without a body"],
        [b"", b"MDPC03", b"service", b"body"],
        [b"id", b"MDPC02", b"\x01", b"service", b"", b"body"],
        [b"", b"", b"MDPC02", b"\x01", b"service", b"body"],
        [b"", b"MDPW01", b"\x01", b"service"],
    ],
)
def test_the_frames_of_a_majordomo_client_never_reach_a_lab_worker(
    frames: list[bytes], shared_broker: Broker, start: Start, asking: zmq.Socket[bytes]
) -> None:
    """What no dialect knows is refused, and the trace says so; what comes next is served."""
    asking_id = asking.getsockopt_string(zmq.IDENTITY)
    told = f"bad message client {asking_id} "
    name = f"W_{asking_id}"  # of its own: the broker would take it for one that comes back, and may give it a task too early
    worker = start("guide_worker.py", name, HOST, shared_broker.back, WORK_MS)
    asking.send_multipart(frames)
    asking.send_multipart([b"", b"hi"])
    assert reply(asking) == [b"", f"hi {name}".encode()]
    assert len(worker.said("task", at_least=1)) == 1
    assert len(shared_broker.program.said_anywhere(told, at_least=1)) == 1


@pytest.mark.parametrize(
    ("ready", "bad", "disconnect"),
    [
        ([b"", b"MDPW01", b"\x01", b"bad-1"], [b"", b"MDPW01", b"\x02", b"1", b"", b"x"], [b"", b"MDPW01", b"\x05"]),
        ([b"MDPW02", b"\x01", b"bad-2"], [b"MDPW02", b"\x09"], [b"MDPW02", b"\x06"]),
        ([b"MDPW02", b"\x01", b"bad-3"], [b"what", b"is", b"this"], [b"MDPW02", b"\x06"]),
        ([b"MDPW02", b"\x01", b"bad-4"], [b"MDPW02", b"\x01", b"bad-4"], [b"MDPW02", b"\x06"]),
    ],
)
def test_a_worker_that_does_not_keep_to_the_rfc(
    ready: list[bytes],
    bad: list[bytes],
    disconnect: list[bytes],
    shared_broker: Broker,
    start: Start,
    asking: zmq.Socket[bytes],
) -> None:
    """It gets a DISCONNECT and nothing more; another worker answers what it had in hand."""
    service = ready[-1]
    with zmq.Context() as context, context.socket(zmq.DEALER) as worker:
        worker.linger = 0
        worker.connect(f"tcp://{HOST}:{shared_broker.back}")
        worker.send_multipart(ready)
        asking.send_multipart([b"", b"MDPC01", service, b"hi"])
        assert reply(worker)[-1] == b"hi"
        worker.send_multipart(bad)
        assert reply(worker) == disconnect
        start("mdp_worker.py", "0.2", service.decode(), "W2", HOST, shared_broker.back, WORK_MS)
        assert reply(asking) == [b"", b"MDPC01", service, b"hi W2"]
        assert not worker.poll(0)
