"""Lab workers that die, freeze, are cut off or answer late: their requests are answered by others, and only once."""

from __future__ import annotations

import pytest
import zmq

from .conftest import HOST, Broker, Connect, Start, StartBroker, StartProxy

WORKERS = ["lab_worker.js", "earlier_lab_worker.js", "guide_worker.js"]
WORK_MS = 5
HANGS_MS = 60_000
LATE_MS = 4000
"""Long enough for this worker to connect again meanwhile, and another one too."""


@pytest.mark.parametrize("worker", WORKERS)
def test_killed_in_the_middle_of_a_request(worker: str, start_broker: StartBroker, start: Start) -> None:
    """Check (c) of the lab. The answer time is long here, so it is the lost connection that is noticed."""
    broker = start_broker("--answer-timeout", 60)
    bad = start(worker, "BAD", HOST, broker.back, HANGS_MS)
    client = start("lab_client.js", "C1", 2, HOST, broker.front)
    bad.wait_for("task C1 C1-1")
    start("lab_worker.js", "GOOD", HOST, broker.back, WORK_MS)
    bad.kill()
    assert client.finish() == ["C1-1 GOOD", "C1-2 GOOD"]


def test_killed_again_and_again(start_broker: StartBroker, start: Start) -> None:
    """Each failure is another worker's; the client notices nothing."""
    broker = start_broker("--answer-timeout", 60)
    client = start("lab_client.js", "C1", 4, HOST, broker.front)
    for number in range(1, 4):
        bad = start(WORKERS[number % 3], f"BAD{number}", HOST, broker.back, WORK_MS, 2, HANGS_MS)
        bad.wait_for("task", 2)
        bad.kill()
    start("lab_worker.js", "GOOD", HOST, broker.back, WORK_MS)
    assert client.finish() == ["C1-1 BAD1", "C1-2 BAD2", "C1-3 BAD3", "C1-4 GOOD"]


@pytest.mark.parametrize("worker", WORKERS)
def test_an_answer_that_comes_too_late(
    worker: str, quick_broker: Broker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """Another answers in its place, the late answer goes to nobody, and the late worker is used again."""
    later = proxy(quick_broker.back)
    later.cut()
    good = start("lab_worker.js", "GOOD", HOST, later.port, WORK_MS)
    good.wait_for("ready")
    slow = start(worker, "SLOW", HOST, quick_broker.back, WORK_MS, 1, 1000)
    client = connect(zmq.DEALER, "C1", quick_broker.front)
    client.ask("C1-1")
    slow.wait_for("task")
    slow.freeze()  # so that it is late, however slow the others are
    later.mend()
    assert client.reply() == "C1-1 GOOD"
    good.kill()
    slow.thaw()
    client.ask("C1-2")  # waits for a worker: the late one, once it has spoken
    assert client.reply() == "C1-2 SLOW"
    client.ask("C1-3")
    assert client.reply() == "C1-3 SLOW"


def test_a_late_answer_is_not_taken_for_that_of_the_next_request(
    start_broker: StartBroker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """The worker is cut off at work and comes back still at it, with an answer for a client that has asked anew."""
    broker = start_broker("--answer-timeout", 60)
    way, later = proxy(broker.back), proxy(broker.back)
    later.cut()
    good = start("lab_worker.js", "GOOD", HOST, later.port, WORK_MS)
    good.wait_for("ready")
    slow = start("lab_worker.js", "SLOW", HOST, way.port, WORK_MS, 1, LATE_MS)
    client = connect(zmq.DEALER, "C1", broker.front)
    client.ask("C1-1")
    slow.wait_for("task")
    way.cut()
    later.mend()
    assert client.reply() == "C1-1 GOOD"
    good.kill()
    way.mend()
    client.ask("C1-2")
    way.wait_until_used()
    assert not slow.said("answer"), "this machine is too slow for the test"
    assert client.reply() == "C1-2 SLOW"


def test_frozen_and_thawed_before_anybody_noticed(quick_broker: Broker, start: Start) -> None:
    """What it was given meanwhile it does too late; then it is used again."""
    frozen = start("lab_worker.js", "W1", HOST, quick_broker.back, WORK_MS)
    start("lab_client.js", "C1", 1, HOST, quick_broker.front).finish()
    frozen.freeze()
    client = start("lab_client.js", "C2", 2, HOST, quick_broker.front)
    client.wait_for("ask")
    other = start("guide_worker.js", "W2", HOST, quick_broker.back, WORK_MS)
    assert client.finish()[0] == "C2-1 W2"
    other.kill()
    frozen.thaw()
    assert start("lab_client.js", "C3", 2, HOST, quick_broker.front).finish() == ["C3-1 W1", "C3-2 W1"]


@pytest.mark.parametrize("worker", WORKERS)
def test_frozen_while_idle_cut_off_and_back_without_a_word(
    worker: str, broker: Broker, start: Start, proxy: StartProxy
) -> None:
    """A REQ worker that waits for a task says nothing when it reconnects, so the broker has to find it."""
    way = proxy(broker.back)
    frozen = start(worker, "W1", HOST, way.port, WORK_MS)
    start("lab_client.js", "C1", 1, HOST, broker.front).finish()
    frozen.freeze()
    way.cut()
    client = start("lab_client.js", "C2", 2, HOST, broker.front)
    client.wait_for("ask")
    way.mend()
    frozen.thaw()
    assert client.finish() == ["C2-1 W1", "C2-2 W1"]
