"""Programs of the lab and of the ZeroMQ guide talk to our broker unchanged (``docs/reference/wire.md``)."""

from __future__ import annotations

import pytest

from cbw import Client

from .conftest import HOST, Broker, Start
from .program import PATIENCE_S, Program

PLAIN_WORKERS = ["lab_worker.js", "earlier_lab_worker.js", "guide_worker.js", "guide_worker.py"]
WORKERS = [*PLAIN_WORKERS, "worker"]
CLIENTS = ["lab_client.js", "modern_client.js", "req_client.py", "client"]
"""``client`` and ``worker`` are ours."""
REQUESTS = 3
WORK_MS = 5


def start_worker(start: Start, kind: str, name: str, port: int, work_ms: int = WORK_MS) -> None:
    """A worker of any kind; each answers ``<message> <name>``."""
    if kind == "worker":
        start("worker", name, HOST, port, "--work-time", work_ms / 1000)
    else:
        start(kind, name, HOST, port, work_ms)


def start_clients(start: Start, requests: int, port: int) -> dict[str, Program]:
    """One client of every kind, by name."""
    return {f"C{number}": start(kind, f"C{number}", requests, HOST, port) for number, kind in enumerate(CLIENTS)}


@pytest.mark.parametrize("worker", WORKERS)
def test_each_client_gets_the_answers_to_its_own_requests(worker: str, broker: Broker, start: Start) -> None:
    """G1, for every kind of client at once with every kind of worker."""
    clients = start_clients(start, REQUESTS, broker.front)
    dealer = start("dealer_client.py", "D", REQUESTS, HOST, broker.front)
    start_worker(start, worker, "W1", broker.back)
    for name, client in clients.items():
        assert client.finish() == [f"{name}-{number} W1" for number in range(1, REQUESTS + 1)]
    assert dealer.finish() == [f"D-{number}: D-{number} W1" for number in range(1, REQUESTS + 1)]


@pytest.mark.parametrize("worker", WORKERS)
def test_clients_without_an_identity(worker: str, broker: Broker, start: Start) -> None:
    """The ROUTER makes one up, with a zero byte in it, that has to survive the way through a worker."""
    kinds = ["modern_client.js", "req_client.py", "req_client.py"]
    clients = [start(kind, "-", REQUESTS, HOST, broker.front) for kind in kinds]
    dealer = start("dealer_client.py", "-", REQUESTS, HOST, broker.front)
    start_worker(start, worker, "W1", broker.back)
    for client in clients:
        assert client.finish() == [f"--{number} W1" for number in range(1, REQUESTS + 1)]
    assert dealer.finish() == [f"--{number}: --{number} W1" for number in range(1, REQUESTS + 1)]


@pytest.mark.parametrize("worker", ["guide_worker.js", "guide_worker.py"])
def test_workers_without_an_identity(worker: str, broker: Broker, start: Start) -> None:
    """The guide's first worker sets none."""
    start(worker, "-", HOST, broker.back, WORK_MS)
    client = start("lab_client.js", "C1", REQUESTS, HOST, broker.front)
    assert client.finish() == [f"C1-{number} -" for number in range(1, REQUESTS + 1)]


@pytest.mark.parametrize("worker", ["guide_worker.js", "guide_worker.py"])
def test_workers_whose_ready_is_one_byte(worker: str, broker: Broker, start: Start) -> None:
    """As in the guide's later programs (``lbbroker3``, the simple pirates)."""
    start(worker, "W1", HOST, broker.back, WORK_MS, READY_BYTE=1)
    client = start("lab_client.js", "C1", REQUESTS, HOST, broker.front)
    assert client.finish() == [f"C1-{number} W1" for number in range(1, REQUESTS + 1)]


@pytest.mark.parametrize("worker", PLAIN_WORKERS[:3])
def test_a_worker_sees_the_identity_of_its_client(worker: str, broker: Broker, start: Start) -> None:
    """So its trace, the lab's way to watch the system, stays true."""
    program = start(worker, "W1", HOST, broker.back, WORK_MS)
    start("lab_client.js", "CLI_7", 1, HOST, broker.front).finish()
    assert program.said("task", at_least=1) == ["CLI_7 CLI_7-1"]


@pytest.mark.parametrize("worker", WORKERS)
def test_a_dealer_may_have_many_requests_in_flight(worker: str, broker: Broker, start: Start) -> None:
    """Each reply comes back in the envelope of its request, whoever was quicker."""
    start_worker(start, worker, "W1", broker.back, 1)
    start_worker(start, worker, "W2", broker.back, 8)
    one = start("dealer_client.py", "D1", 40, HOST, broker.front)
    two = start("dealer_client.py", "D2", 40, HOST, broker.front)
    for name, client in (("D1", one), ("D2", two)):
        asked = {f"{name}-{number}" for number in range(1, 41)}
        replies = dict(reply.split(": ") for reply in client.finish())
        assert replies.keys() == asked
        assert all(reply in (f"{request} W1", f"{request} W2") for request, reply in replies.items())


@pytest.mark.parametrize("worker", ["guide_worker.js", "guide_worker.py"])
def test_bodies_of_several_frames(worker: str, broker: Broker, start: Start) -> None:
    """The guide's dialect has room for them, in both directions."""
    start(worker, "W1", HOST, broker.back, WORK_MS)
    client = start("dealer_client.py", "D", 2, HOST, broker.front, 3)
    assert client.finish() == ["D-1: part 1|part 2|D-1 W1", "D-2: part 1|part 2|D-2 W1"]


@pytest.mark.parametrize("worker", ["lab_worker.js", "earlier_lab_worker.js", "worker"])
def test_bodies_of_several_frames_are_one_for_a_worker_that_knows_only_one(
    worker: str, broker: Broker, start: Start
) -> None:
    """The other dialects have none, so the frames are put together rather than lost."""
    start_worker(start, worker, "W1", broker.back)
    client = start("dealer_client.py", "D", 1, HOST, broker.front, 3)
    assert client.finish() == ["D-1: part 1part 2D-1 W1"]


def test_an_answer_of_several_frames(broker: Broker, start: Start) -> None:
    """A plain client gets the frames as they are, a client of ours gets them as one."""
    start("guide_worker.py", "W1", HOST, broker.back, WORK_MS, 2)
    dealer = start("dealer_client.py", "D", 1, HOST, broker.front)
    assert dealer.finish() == ["D-1: head 0|head 1|D-1 W1"]
    with Client(f"{HOST}:{broker.front}") as client:
        assert client.call(b"C-1", timeout=PATIENCE_S) == b"head 0head 1C-1 W1"


@pytest.mark.parametrize("worker", PLAIN_WORKERS)
def test_a_client_of_ours_with_many_requests_and_workers_of_the_lab(worker: str, broker: Broker, start: Start) -> None:
    """A plain worker takes one at a time; the client does not notice, whatever bytes it sends."""
    start(worker, "W1", HOST, broker.back, 1)
    start(worker, "W2", HOST, broker.back, 1)
    bodies = [f"request {number}" for number in range(50)]
    with Client(f"{HOST}:{broker.front}") as client:
        met: set[bytes] = set()
        while met != {b"W1", b"W2"}:
            met.add(client.call(b"who is there", timeout=PATIENCE_S)[-2:])
        futures = [client.submit(body, timeout=PATIENCE_S) for body in bodies]
        answers = [future.result(PATIENCE_S).decode() for future in futures]
        assert client.call(b"", timeout=PATIENCE_S) in (b" W1", b" W2")
    assert [answer[:-3] for answer in answers] == bodies
    assert {answer[-2:] for answer in answers} == {"W1", "W2"}


def test_all_kinds_at_once(broker: Broker, start: Start) -> None:
    """One broker, every kind of worker, every kind of client, and every answer where it belongs."""
    everybody = {f"W{number}" for number in range(len(WORKERS))}
    for number, kind in enumerate(WORKERS):
        start_worker(start, kind, f"W{number}", broker.back, 2)
    with Client(f"{HOST}:{broker.front}") as ours:
        met: set[str] = set()
        while met != everybody:
            met.add(ours.call(b"who is there", timeout=PATIENCE_S).decode()[-2:])
    clients = start_clients(start, 30, broker.front)
    dealer = start("dealer_client.py", "D", 60, HOST, broker.front)
    served: set[str] = set()
    for name, client in clients.items():
        answers = [reply.split() for reply in client.finish()]
        assert [message for message, _ in answers] == [f"{name}-{number}" for number in range(1, 31)]
        served.update(worker for _, worker in answers)
    for reply in dealer.finish():
        request, message, worker = reply.replace(":", "").split()
        assert request == message
        served.add(worker)
    assert served == everybody
