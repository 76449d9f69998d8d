"""Bytes that no peer of ours would send, on both ports, and more than the broker allows. It serves on, and says why."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest
import zmq

import cbw
from cbw.core import messages
from cbw.transport.sockets import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS
from cbw.wire import native

from .conftest import HOST, Broker, Connect, StartBroker, StartWorker, broker_of, clients, handler_options, programs
from .program import PATIENCE_S, wait_until

Dial = Callable[..., zmq.Socket[bytes]]
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
"""What a ZMTP 3 DEALER says first (RFC 23)."""
assert READY[1] == len(READY) - 2
OLDER = [b"\x01\0\x02\0x", b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\0\0\0\x01x"]
"""ZMTP 1.0 and 2.0 (RFCs 13 and 15): the greeting of a nameless peer, and a message of one frame."""


@pytest.fixture
def dial() -> Iterator[Dial]:
    """``dial(port)``: a DEALER of the test's own."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect(port: int, kind: int = zmq.DEALER, **options: int | bytes) -> zmq.Socket[bytes]:
            one = context.socket(kind)
            sockets.append(one)
            one.linger = 0
            one.rcvtimeo = int(PATIENCE_S * 1000)
            for name, value in options.items():
                one.setsockopt(getattr(zmq, name), value)
            one.connect(f"tcp://{HOST}:{port}")
            return one

        yield connect
        for one in sockets:
            one.close()


pytestmark = pytest.mark.xdist_group("bad input")  # one broker for all tests of this file


@pytest.fixture(scope="module")
def sturdy_for_all() -> Iterator[tuple[Broker, cbw.Client]]:
    """A broker with one worker, and a client, for all tests of this file."""
    with programs() as start, clients() as connect:
        broker = broker_of(start("broker", 0, 0, "--listen", HOST))
        start("worker", "W1", HOST, broker.worker_port, *handler_options(("echo",)))
        broker.program.wait_for("worker ready", "W1")
        yield broker, connect(broker)


@pytest.fixture
def sturdy(sturdy_for_all: tuple[Broker, cbw.Client]) -> Iterator[Broker]:
    """The broker. It serves as well after each test as before, with the same worker and the same client."""
    broker, client = sturdy_for_all
    assert client.call("before") == b"before"
    yield broker
    assert client.call("after") == b"after"
    assert broker.program.is_running
    assert not broker.program.count("worker lost", "W1")


def pack(*batch: object) -> bytes:
    """A batch of anything."""
    return msgspec.msgpack.encode(batch)


BAD: list[list[bytes]] = [
    [b""],
    [b"", b""],
    [b"", b"", b"", b"", b""],
    [b"garbage"],
    [b"\xff" * 1000],
    [bytes([number]) for number in range(1, 200)],
    [native.MAGIC],
    [native.MAGIC, b""],
    [native.MAGIC, b"garbage"],
    [native.MAGIC, b"\xc1"],
    [native.MAGIC, pack()],
    [native.MAGIC, pack([])],
    [native.MAGIC, pack([99, 1])],
    [native.MAGIC, pack([50, 1])],
    [native.MAGIC, pack([10, "C", "boot", "more", 5])],
    [native.MAGIC, pack([10, "", ""])],
    [native.MAGIC, pack([10, "x" * 201, "boot"])],
    [native.MAGIC, pack([10, "C", "boot"], [11, -1, "s", b"", None])],
    [native.MAGIC, pack([10, "D", "boot"], [11, 1 << 63, "s", b"", None])],
    [native.MAGIC, pack([10, "E", "boot"], [11, 1, "s" * 1000, b"", None])],
    [native.MAGIC, pack([10, "F", "boot"], [11, 1, "s", b"", -5.0])],
    [native.MAGIC, pack([10, "G", "boot"], [11, 1, "s", b"", float("nan")])],
    [native.MAGIC, pack([10, "H", "boot"], [11, 1, "s", b"", float("inf")], [12, 1])],
    [native.MAGIC, pack([10, "I", "boot"], [12, 77], [12, -1], [1], [0])],
    [native.MAGIC, pack([20, "W9", "boot", [], 1, 1])],
    [native.MAGIC, pack([20, "W9", "boot", ["s"], 0, 1])],
    [native.MAGIC, pack([20, "W9", "boot", ["s"], 1, -5], [50, 12345, 0, b""], [22, [1, 2, -3]], [21, -1])],
    [native.MAGIC, pack([20, "W8", "boot", ["s"], 1 << 62, 1 << 62], [50, 1, 4, b"\xff"], [50, 1, 9, b""], [1])],
    [native.MAGIC, pack([50, 12345, 0, b""])],
    [native.MAGIC, pack([60, [0]])],
    [native.MAGIC, pack([0], [60, [0]]), b"body"],
    [native.MAGIC, pack([11, 1, "s", b"", None], [60, [7]]), b"body"],
    [native.MAGIC, pack([11, 1, "s", b"", None], [60, [-1]]), b"body"],
    [native.MAGIC, pack([0]), b"a body", b"and another"],
    [native.MAGIC, b"\x91" * 100_000],
    [native.MAGIC, b"\xdf\xff\xff\xff\xff"],
    [b"CBW9", pack([10, "C", "boot"])],
    [b"CBW", pack([10, "C", "boot"])],
    [b"MDPC01", b"echo", b"body"],
]


@pytest.mark.parametrize("side", ["client", "worker"])
def test_messages_that_are_none(side: str, sturdy: Broker, dial: Dial) -> None:
    port = sturdy.client_port if side == "client" else sturdy.worker_port
    for frames in BAD:
        one = dial(port)
        one.send_multipart(frames)
        one.send_multipart([native.MAGIC, pack([0])])  # answered with "hello again", or with a beat
        assert one.poll(int(PATIENCE_S * 1000)), f"no answer after {frames}"
    crowd = dial(port)
    for frames in BAD * 20:
        crowd.send_multipart(frames)
    for kind in (zmq.REQ, zmq.SUB, zmq.PUSH, zmq.PAIR):
        dial(port, kind)


@pytest.mark.parametrize("side", ["client", "worker"])
def test_another_version_is_refused(side: str, sturdy: Broker, dial: Dial) -> None:
    one = dial(sturdy.client_port if side == "client" else sturdy.worker_port)
    one.send_multipart([b"CBW9", b"what version 9 may say"])
    (refused,) = native.to_client(one.recv_multipart())
    assert isinstance(refused, messages.Refused)
    assert refused.reason is messages.Refusal.VERSION
    assert "this is CBW/1" in refused.text


def test_deadlines_that_are_none(broker: Broker, dial: Dial, connect: Connect) -> None:
    """Whatever stands there, the deadlines of others are kept."""
    one = dial(broker.client_port)
    ttls = [float("nan"), float("inf"), 1e300, -1e300, float("-inf"), 0.1, 1e9, float("nan")]
    one.send_multipart([native.MAGIC, pack([10, "C", "boot"], *([11, n, "s", b"", ttl] for n, ttl in enumerate(ttls)))])
    ended: dict[int, messages.Status] = {}
    while len(ended) < 5:
        assert one.poll(int(PATIENCE_S * 1000)), f"only {ended}"
        ended |= {a.id: a.status for a in native.to_client(one.recv_multipart()) if isinstance(a, messages.Answer)}
    assert ended == dict.fromkeys([0, 3, 4, 5, 7], messages.Status.EXPIRED)
    with pytest.raises(cbw.Expired):
        connect(broker).call("x", timeout=0.1)


def test_a_timeout_of_a_century(sturdy: Broker, connect: Connect) -> None:
    """Longer than an operating system can wait at once."""
    client = connect(sturdy)
    future = client.submit("x", "nobody serves this", timeout=3e9)
    assert client.call("x", timeout=3e9) == b"x"
    assert client.call("x", timeout=float("inf")) == b"x"
    assert not future.done()


@contextlib.contextmanager
def tcp(port: int) -> Iterator[socket.socket]:
    """A connection without ZeroMQ."""
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as one:
        yield one


@pytest.mark.parametrize("side", ["client", "worker"])
def test_what_is_no_zmtp(side: str, sturdy: Broker) -> None:
    """Port scanners, browsers, half messages, and promises of a frame that is never sent."""
    port = sturdy.client_port if side == "client" else sturdy.worker_port
    for said in (
        b"",
        b"\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: " + b"a browser " * 40 + b"\r\n\r\n",
        *OLDER,
        b"\x16\x03\x01\x02\x00" + bytes(512),
        bytes(100_000),
        b"\xff" * 100_000,
        GREETING[:20],
        GREETING,
        GREETING + READY[:10],
        GREETING + READY,
        GREETING + READY + b"\x01\x04CBW1",  # the first frame of two
        GREETING + READY + b"\0\xff" + b"half",
        GREETING + READY + b"\x02" + struct.pack(">Q", 1 << 62),
        GREETING + READY + b"\x02" + struct.pack(">Q", (1 << 63) - 1) + bytes(1000),
        GREETING + READY + b"\x04\x05\x04PINGx" * 10,
        GREETING.replace(b"NULL", b"EVIL") + READY,
    ):
        with tcp(port) as one, contextlib.suppress(ConnectionError):
            one.sendall(said)
            one.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                while one.recv(4096):
                    pass
    opened = [socket.create_connection((HOST, port), timeout=PATIENCE_S) for _ in range(200)]
    for one in opened:
        one.close()


@pytest.mark.parametrize("side", ["client", "worker"])
def test_bytes_of_any_kind(side: str, sturdy: Broker) -> None:
    """What might be ZMTP, of any version, up to some byte."""
    random = Random(1)
    port = sturdy.client_port if side == "client" else sturdy.worker_port
    pieces = [GREETING, READY, *OLDER, b"\x01\x04CBW1", b"\0\x05hello", b"\x01\0", b"\0\0", b"\x04\x05\x04PING"]
    for _ in range(300):
        said = b"".join(random.choice([*pieces, random.randbytes(4)]) for _ in range(random.randrange(1, 6)))
        with tcp(port) as one, contextlib.suppress(ConnectionError):
            one.sendall(said[: random.randrange(1, len(said) + 1)])


def test_a_client_of_the_first_zmtp_is_served(sturdy: Broker) -> None:
    """As REQ sockets of ZeroMQ 2 speak: frames with their lengths and flags before them (RFC 13)."""
    with tcp(sturdy.client_port) as one:
        one.sendall(b"\x01\0" + b"\x01\x01" + b"\x06\0hello")
        heard = b""
        while len(heard) < len(GREETING[:10]) + 9:
            heard += one.recv(100)
    assert heard == GREETING[:10] + b"\x01\x01" + b"\x06\0hello"


def rss(pid: int) -> int:
    """The memory of a process, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 >> 20


def test_a_client_that_never_reads(sturdy: Broker, dial: Dial) -> None:
    """What waits for it grows to what it has asked for, and others are served meanwhile."""
    deaf = dial(sturdy.client_port, RCVHWM=1, RCVBUF=4096)
    deaf.send_multipart([native.MAGIC, pack([10, "DEAF", "boot"])])
    before = rss(sturdy.program.pid)
    with cbw.Client(sturdy.address, timeout=PATIENCE_S) as other:
        for number in range(300):
            deaf.send_multipart([native.MAGIC, pack([11, number, "", bytes(30_000), None])])
        assert list(other.map(range(1000), returns=int)) == list(range(1000))
    assert rss(sturdy.program.pid) - before < 100
    deaf.close()
    sturdy.program.wait_for("client away", "DEAF")


# --- too much


def test_a_body_over_the_limit(start_broker: StartBroker, start_worker: StartWorker, connect: Connect) -> None:
    """However far over it: one that would end the connection is not even sent."""
    broker = start_broker("--body-bytes-max", 1000)
    start_worker("W1", "echo", at=broker)
    client = connect(broker)
    sizes = [1000, 1001, 500_000, 2_000_000, 20_000_000, 1000]
    for _ in range(2):
        answers = list(client.map(map(bytes, sizes), return_errors=True))
        assert answers[0] == answers[-1] == bytes(1000)
        for size, error in zip(sizes[1:-1], answers[1:-1], strict=True):
            assert isinstance(error, cbw.TooBig)
            assert str(error) == f"{size} bytes; the broker allows 1000 (--body-bytes-max)"
    with pytest.raises(cbw.TooBig):
        connect(broker).call(bytes(5_000_000))
    assert broker.program.count("client away") == 0


def test_a_body_over_the_default_limit(sturdy: Broker, connect: Connect) -> None:
    with pytest.raises(cbw.TooBig, match="the broker allows 67108864"):
        connect(sturdy).call(bytes((64 << 20) + 1))


def test_a_message_of_others_over_the_limit(start_broker: StartBroker, dial: Dial, connect: Connect) -> None:
    """There is no telling a peer that does not know the limit: its connection is ended."""
    broker = start_broker("--body-bytes-max", 1000)
    one = dial(broker.client_port)
    monitor = one.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    one.send_multipart([b"", bytes(3_000_000)])
    assert monitor.poll(int(PATIENCE_S * 1000)), "not disconnected"
    one.disable_monitor()
    monitor.close()
    assert broker.program.is_running


def test_busy(start_broker: StartBroker, start_worker: StartWorker, connect: Connect) -> None:
    broker = start_broker("--requests-max", 5)
    client = connect(broker, timeout=None)
    futures = [client.submit(f"{number}") for number in range(8)]
    for future in futures[5:]:
        with pytest.raises(cbw.Busy, match="--requests-max"):
            future.result(PATIENCE_S)
    start_worker("W1", "echo", at=broker)
    assert [future.result(PATIENCE_S) for future in futures[:5]] == [b"%d" % number for number in range(5)]
    assert client.call("again") == b"again"


def test_busy_with_bytes(start_broker: StartBroker, start_worker: StartWorker, connect: Connect) -> None:
    broker = start_broker("--requests-bytes-max", 1000)
    client = connect(broker, timeout=None)
    first, second = client.submit(bytes(600)), client.submit(bytes(600))
    with pytest.raises(cbw.Busy, match="--requests-bytes-max"):
        second.result(PATIENCE_S)
    start_worker("W1", "echo", at=broker)
    assert first.result(PATIENCE_S) == bytes(600)


def test_plain_clients_wait_when_the_broker_is_full(
    start_broker: StartBroker, start_worker: StartWorker, dial: Dial, connect: Connect
) -> None:
    """Their dialect has no word for it; when there is room again, all are answered."""
    broker = start_broker("--requests-max", 5)
    one = dial(broker.client_port)
    for number in range(50):
        one.send_multipart([b"%d" % number, b"", b"body"])
    broker.program.wait_for("paused")
    start_worker("W1", "echo", at=broker)
    answers = [one.recv_multipart() for _ in range(50)]
    assert sorted(int(answer[0]) for answer in answers) == list(range(50))
    broker.program.wait_for("resumed")
    assert connect(broker).call("x") == b"x"


def test_a_plain_client_that_floods_a_full_broker_loses_nothing(
    start_broker: StartBroker, start_worker: StartWorker, dial: Dial
) -> None:
    """Its answers to heartbeats stand behind all that it has sent, where nobody reads them for long."""
    broker = start_broker("--requests-max", 500)
    one = dial(broker.client_port, SNDHWM=0)
    for number in range(10_000):
        one.send_multipart([b"%d" % number, b"", bytes(1000)])
    broker.program.wait_for("paused")
    time.sleep((HEARTBEAT_MS + HEARTBEAT_TIMEOUT_MS) / 1000 + 0.5)
    start_worker("W1", "echo", at=broker)
    assert {int(one.recv_multipart()[0]) for _ in range(10_000)} == set(range(10_000))


def test_a_flood_of_garbage_is_not_one_of_lines(sturdy: Broker, dial: Dial) -> None:
    one = dial(sturdy.client_port, SNDHWM=0)
    for _ in range(20_000):
        one.send(b"garbage")
    one.send_multipart([native.MAGIC, pack([0])])
    assert one.poll(int(PATIENCE_S * 1000))
    wait_until(lambda: sturdy.program.count("bad message"), "it is told")
    assert sturdy.program.count("bad message") < 20_000 / 2
