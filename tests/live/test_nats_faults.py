"""A broker whose journal three NATS servers keep, while these are killed, frozen and started again, under load."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cbw import Client
from tests.nats_server import NatsCluster, NatsServer, free_ports

from .conftest import HOST, Log, Start, broker_of
from .program import PATIENCE_S, Program, wait_until

pytestmark = pytest.mark.timeout(300)
STREAM = "CBW_faults"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with NatsCluster(tmp_path) as running:
        yield running


class Load:
    """A client that asks all the time, and remembers what it was answered."""

    def __init__(self, address: str) -> None:
        self.answered = 0
        self._client = Client(address, timeout=2 * PATIENCE_S)
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._running = self._pool.submit(self._ask)

    def _ask(self) -> None:
        with self._client as client:
            while not self._is_over.is_set():
                bodies = [f"{self.answered + number}" for number in range(50)]
                for body, future in [(body, client.submit(body)) for body in bodies]:
                    assert future.result() == body.encode()
                    self.answered += 1

    def wait_for_more(self) -> None:
        """Until some more have been answered that were asked from now on."""
        before = self.answered
        wait_until(lambda: self.answered >= before + 100 or self._running.done(), "it goes on", within_s=2 * PATIENCE_S)
        if self._running.done():
            self._running.result()

    def end(self) -> int:
        """How many were answered in all."""
        self._is_over.set()
        self._running.result(2 * PATIENCE_S)
        self._pool.shutdown()
        return self.answered


@pytest.fixture
def brokers(start: Start, cluster: NatsCluster) -> tuple[Program, Program, str, int]:
    """An owner and a standby for the same ports, the address of clients, and the port of workers."""
    front, back = free_ports(2)
    command = ("broker", front, back, "--listen", HOST, "--journal", f"nats://{cluster.addresses}/faults")
    owner = start(*command)
    broker_of(owner)
    standby = start(*command)
    standby.wait_for("stands by")
    return owner, standby, f"{HOST}:{front}", back


def kill_the_leader(cluster: NatsCluster, owner: Program) -> None:
    leader = leader_of(cluster)
    leader.stop()
    time.sleep(1.0)
    leader.start()


def freeze_the_leader(cluster: NatsCluster, owner: Program) -> None:
    leader = leader_of(cluster)
    leader.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    leader.send_signal(signal.SIGCONT)


def take_two_of_three(cluster: NatsCluster, owner: Program) -> None:
    for server in cluster.servers[:2]:
        server.stop()
    time.sleep(2.0)
    for server in cluster.servers[:2]:
        server.start()


def restart_one_by_one(cluster: NatsCluster, owner: Program) -> None:
    for server in cluster.servers:
        server.stop(signal.SIGTERM)
        server.start()
        time.sleep(1.0)


def kill_the_owner(cluster: NatsCluster, owner: Program) -> None:
    owner.kill()


def kill_the_owner_and_the_leader(cluster: NatsCluster, owner: Program) -> None:
    leader = leader_of(cluster)
    leader.stop()
    owner.kill()
    leader.start()


def leader_of(cluster: NatsCluster) -> NatsServer:
    deadline = time.monotonic() + PATIENCE_S
    while (leader := cluster.leader_of(STREAM)) is None:
        assert time.monotonic() < deadline, "the servers have no leader"
        time.sleep(0.1)
    return leader


@pytest.mark.parametrize(
    "harm",
    [
        kill_the_leader,
        freeze_the_leader,
        take_two_of_three,
        restart_one_by_one,
        kill_the_owner,
        kill_the_owner_and_the_leader,
    ],
)
def test_nothing_is_lost_and_nothing_answered_twice(
    harm: Callable[[NatsCluster, Program], None],
    cluster: NatsCluster,
    brokers: tuple[Program, Program, str, int],
    start: Start,
    log: Log,
) -> None:
    owner, _, address, worker_port = brokers
    for number in range(2):
        start("worker", f"W{number}", HOST, worker_port, "--handler=handlers:note_done", CBW_TEST_LOG=str(log.path))
    load = Load(address)
    load.wait_for_more()
    harm(cluster, owner)
    load.wait_for_more()
    answered = load.end()
    assert {*log.lines} == {f"{number}" for number in range(answered)}
