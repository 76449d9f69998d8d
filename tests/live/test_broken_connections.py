"""Connections that end at the worst moment, on both ends: nobody ends with them.

Each of these has ended a process by an assertion of libzmq's.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest
import zmq

import cbw
from cbw.core import messages
from cbw.wire import native

from .conftest import HOST, Broker, Connect, StartBroker, StartWorker
from .program import PATIENCE_S, wait_until

FLOOD = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.sndhwm = 0
socket.connect(sys.argv[1])
for number in range(20_000):
    socket.send_multipart([b"%d" % number, b"", bytes(200)])
print("sent", flush=True)
time.sleep(60)
"""
"""A plain client that sends and never reads."""
TIMER_S = 1.5
"""A timer of libzmq's would have gone off by then."""


def speak(place: str, context: zmq.Context[zmq.Socket[bytes]], identity: bytes, word: bytes) -> zmq.Socket[bytes]:
    one = context.socket(zmq.DEALER)
    one.linger = 0
    one.setsockopt(zmq.IDENTITY, identity)
    one.connect(place)
    one.send_multipart([b"", word])
    return one


@pytest.fixture
def serves_on(broker: Broker, start_worker: StartWorker, connect: Connect) -> Iterator[Broker]:
    """A broker that serves as well after the test as before."""
    start_worker("W1", "echo")
    client = connect(broker)
    assert client.call("before") == b"before"
    yield broker
    assert client.call("after") == b"after"


@pytest.mark.parametrize("side", ["client", "worker"])
def test_one_that_lost_its_identity_speaks_and_ends(side: str, serves_on: Broker) -> None:
    port = serves_on.client_port if side == "client" else serves_on.worker_port
    with zmq.Context() as context:
        one, two = (speak(f"tcp://{HOST}:{port}", context, b"SAME", b"x") for _ in range(2))
        time.sleep(0.2)  # both are known; whose words come later has no consequence
        one.send_multipart([b"", b"y"])
        time.sleep(0.2)
        one.close()
        time.sleep(TIMER_S)
        two.close()


@pytest.mark.parametrize("side", ["client", "worker"])
def test_programs_of_few_identities_come_and_go(side: str, serves_on: Broker) -> None:
    place = f"tcp://{HOST}:{serves_on.client_port if side == 'client' else serves_on.worker_port}"
    until = time.monotonic() + 3

    def come_and_go(seed: int) -> None:
        random = Random(seed)
        while time.monotonic() < until:
            with zmq.Context() as context:
                one = context.socket(zmq.REQ)
                one.linger = 0
                one.setsockopt(zmq.IDENTITY, b"R%d" % random.randrange(3))
                one.connect(place)
                one.send(b"READY" if side == "worker" else b"x")
                one.poll(random.randrange(10))
                one.close()

    threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(TIMER_S)


def test_a_client_is_killed_while_its_port_is_paused(start_broker: StartBroker, start_worker: StartWorker) -> None:
    broker = start_broker("--requests-max", 100)
    place = f"tcp://{HOST}:{broker.client_port}"
    with subprocess.Popen([sys.executable, "-c", FLOOD, place], stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None and flood.stdout.readline()
        broker.program.wait_for("paused")
        flood.kill()
    time.sleep(TIMER_S)
    start_worker("W1", "echo", at=broker)
    with cbw.Client(broker.address, timeout=PATIENCE_S) as client:

        def is_served() -> bool:
            with contextlib.suppress(cbw.Busy):  # what the killed one has sent is still read, and ends
                return client.call("x") == b"x"
            return False

        wait_until(is_served, "the broker reads on")


class Breaker:
    """A broker that welcomes whoever comes, says much, and ends their connections meanwhile; again and again."""

    def __init__(self) -> None:
        self.port = 0
        self.welcomed = 0
        self._is_over = threading.Event()
        self._is_bound = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._is_bound.wait(PATIENCE_S)

    def _run(self) -> None:
        random = Random(1)
        (welcome, _), *_ = native.encode([messages.Welcome("B", "boot", 3.0, 1 << 26)])
        (beat, _), *_ = native.encode([messages.Beat()])
        while not self._is_over.is_set():
            with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
                router.linger = 0
                router.sndhwm = 0
                self._bind(router)
                if router.poll(1000):
                    peer = router.recv_multipart()[0]
                    for frames in [welcome, *[beat] * 3000]:
                        router.send_multipart([peer, *frames])
                    self.welcomed += 1
                    time.sleep(random.random() * 0.03)

    def _bind(self, router: zmq.Socket[bytes]) -> None:
        def has_bound() -> bool:
            with contextlib.suppress(zmq.ZMQError):
                router.bind(f"tcp://{HOST}:{self.port or '*'}")
                self.port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
                return True
            return False

        wait_until(has_bound, "the port")
        self._is_bound.set()

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.fixture
def breaker() -> Iterator[Breaker]:
    one = Breaker()
    yield one
    one.close()


AT_ONCE = "from cbw.transport import reconnects; reconnects.SHORT_S = 0.0"
"""Has a connection made again at once, however short the last one was: sixty ends would take a minute."""
OPEN = f"""
{AT_ONCE}
import sys, time, cbw
client = cbw.Client(sys.argv[1], timeout=None)
future = client.submit("x")
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("role", ["client", "worker"])
def test_the_broker_dies_while_much_arrives(role: str, breaker: Breaker) -> None:
    if role == "client":
        command = [sys.executable, "-c", OPEN, f"{HOST}:{breaker.port}"]
    else:
        program = f"{AT_ONCE}; from cbw.cli.main import main; main()"
        command = [sys.executable, "-c", program, "worker", "W1", HOST, str(breaker.port), "--status-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: breaker.welcomed >= 60 or process.poll() is not None, "sixty ends", within_s=180)
            assert process.poll() is None
        finally:
            process.kill()
