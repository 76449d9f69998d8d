"""Lab clients that are cut off, crash, or share an identity: what can be delivered is, and nothing goes astray."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from cbw.core import catalogue
from cbw.observe.trace import read
from tests.live.program import wait_until

from .conftest import HOST, Broker, Connect, Start, StartBroker, StartProxy

WORK_MS = 5
LATE_MS = 1500
HANGS_MS = 60_000
ID_TAKEN = "ERROR CANCELLED id_taken: another program has taken this id; start this one again with an id of its own"
"""What a program is told that has lost its identity to another one."""
ABSENCE_S = 2
"""Far more than libzmq waits before it connects again: 0.1 to 0.2 s, and the same again for each try in vain."""


@pytest.mark.parametrize("kind", ["lab_client.js", "req_client.py"])
def test_cut_off_and_back_before_the_answer(kind: str, broker: Broker, start: Start, proxy: StartProxy) -> None:
    """A REQ socket that waits says nothing when it reconnects; the answer finds it all the same."""
    way = proxy(broker.front)
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, LATE_MS)
    client = start(kind, "C1", 2, HOST, way.port)
    worker.wait_for("task C1 C1-1")
    way.cut()
    way.mend()
    assert client.finish() == ["C1-1 W1", "C1-2 W1"]


@pytest.mark.parametrize("kind", ["lab_client.js", "req_client.py"])
def test_cut_off_and_back_after_the_answer(kind: str, broker: Broker, start: Start, proxy: StartProxy) -> None:
    """The answer is kept until the client is there again."""
    way = proxy(broker.front)
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, 200)
    client = start(kind, "C1", 2, HOST, way.port)
    worker.wait_for("task C1 C1-1")
    way.cut()
    worker.wait_for("answer C1 C1-1")
    # Once the same worker has answered another client, the broker has had that answer for sure.
    assert start("req_client.py", "C2", 1, HOST, broker.front).finish() == ["C2-1 W1"]
    way.mend()
    assert client.finish() == ["C1-1 W1", "C1-2 W1"]


def test_a_dealer_cut_off_with_requests_in_flight(broker: Broker, start: Start, proxy: StartProxy) -> None:
    """Many answers wait for it, each in its own envelope."""
    way = proxy(broker.front)
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, 200)
    client = start("dealer_client.py", "D", 5, HOST, way.port)
    client.wait_for("ask 5")
    worker.wait_for(" D-1", is_anywhere=True)
    way.cut()
    worker.wait_for(" D-3", 2, is_anywhere=True)  # its task, and its answer
    way.mend()
    assert client.finish() == [f"D-{number}: D-{number} W1" for number in range(1, 6)]


def test_a_dealer_that_asks_on_while_it_is_cut_off(
    broker: Broker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """Unlike a REQ socket it still waits for what it asked before; the request ids tell the answers apart."""
    way = proxy(broker.front)
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, 200)
    client = connect(zmq.DEALER, "D", way.port)
    client.ask("D-1", b"1")
    client.ask("D-2", b"2")
    worker.wait_for(" D-1", is_anywhere=True)
    way.cut()
    worker.wait_for(" D-2", 2, is_anywhere=True)  # its task, and its answer
    client.ask("D-3", b"3")
    way.mend()
    assert {client.reply(), client.reply(), client.reply()} == {"D-1 W1", "D-2 W1", "D-3 W1"}


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER], ids=["REQ", "DEALER"])
def test_started_anew_while_the_request_of_the_forerunner_is_at_work(
    kind: int, broker: Broker, start: Start, connect: Connect
) -> None:
    """The answer to what its forerunner asked, under the same request id, is not taken for that to its own request.

    A busy broker learns of both connections in one go, and the new one may even have got the descriptor of the old.
    """
    worker = start("lab_worker.js", "W1", HOST, broker.back, 20)
    for number in range(1, 16):
        crashed = connect(kind, "C1", broker.front)
        crashed.ask(f"old-{number}", b"1")
        worker.wait_for(f" old-{number}", is_anywhere=True)
        broker.program.freeze()
        crashed.close()
        restarted = connect(kind, "C1", broker.front)
        restarted.ask(f"new-{number}", b"1")
        broker.program.thaw()
        assert restarted.reply() == f"new-{number} W1"
        restarted.close()


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER], ids=["REQ", "DEALER"])
def test_started_anew_when_the_request_of_the_forerunner_is_answered(
    kind: int, broker: Broker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """The answer that was kept for the forerunner, too, is not taken for that to the first request of the new one.

    That arrives a moment after the connection, and until then the restarted program looks like one that has come back.
    """
    way = proxy(broker.front, delay_s=0.02)
    worker = start("lab_worker.js", "W1", HOST, broker.back, 50)
    witness = connect(zmq.REQ, "WITNESS", broker.front)
    crashed = connect(kind, "C1", broker.front)
    crashed.ask("old-1", b"1")
    worker.wait_for(" old-1", is_anywhere=True)
    crashed.close()
    witness.ask("after-1")  # once the only worker has answered this, the broker has had the other answer
    assert witness.reply() == "after-1 W1"
    restarted = connect(kind, "C1", way.port)
    restarted.wait_until_connected()
    restarted.ask("new-1", b"1")
    assert restarted.reply() == "new-1 W1"


def test_two_that_live_under_one_identity(broker: Broker, start: Start, connect: Connect) -> None:
    """To ask from another connection gives up what was asked before. Nobody gets the other's answer, or silence."""
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, LATE_MS)
    one = connect(zmq.REQ, "SAME", broker.front)
    one.ask("one-1")
    worker.wait_for("task SAME one-1")
    two = connect(zmq.REQ, "SAME", broker.front)
    two.ask("two-1")
    assert two.reply() == "two-1 W1"
    two.ask("two-2")
    assert two.reply() == "two-2 W1"
    assert one.reply() == ID_TAKEN
    assert one.reply(within_s=0.2) is None
    one.ask("one-2")
    assert one.reply() == ID_TAKEN


def test_two_node_programs_under_one_identity(start_broker: StartBroker, start: Start, tmp_path: Path) -> None:
    """The second program gets all of its answers, the first none of them, and is told why."""
    trace = tmp_path / "broker.jsonl"
    broker = start_broker("--answer-timeout", 60, "--trace", trace)
    worker = start("lab_worker.js", "W1", HOST, broker.back, WORK_MS, 1, 300)
    one = start("lab_client.js", "SAME", 5, HOST, broker.front)
    worker.wait_for("task SAME SAME-1")
    worker.freeze()
    two = start("modern_client.js", "SAME", 5, HOST, broker.front)
    wait_until(lambda: [record.event for record in read(str(trace))].count(catalogue.ACCEPTED) == 2, "both have asked")
    worker.thaw()
    assert two.finish() == [f"SAME-{number} W1" for number in range(1, 6)]
    assert one.finish() == [ID_TAKEN] * 5


def test_the_earlier_of_two_under_one_identity_reconnects(
    start_broker: StartBroker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """Its new connection takes the identity back without a word, while the other's request is at work.

    A ROUTER is not told, so until that connection speaks neither gets an answer: it could be the other's.
    """
    broker = start_broker("--answer-timeout", 60)
    way = proxy(broker.front)
    hanging = start("lab_worker.js", "W1", HOST, broker.back, HANGS_MS)
    one = connect(zmq.REQ, "SAME", way.port)
    one.ask("one-1")
    hanging.wait_for("task SAME one-1")
    worker = start("lab_worker.js", "W2", HOST, broker.back, LATE_MS)
    two = connect(zmq.REQ, "SAME", broker.front)
    two.ask("two-1")
    worker.wait_for("task SAME two-1")
    assert one.reply() == ID_TAKEN
    way.cut()
    way.mend()
    way.wait_until_used()
    worker.wait_for("answer SAME two-1")
    assert one.reply(within_s=0.5) is None
    assert two.reply(within_s=0.2) is None


def test_the_answer_comes_when_a_stranger_has_said_who_it_is(
    start_broker: StartBroker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """The earlier connection is gone for good, and the new one is somebody else's."""
    broker = start_broker("--answer-timeout", 60)
    way = proxy(broker.front)
    hanging = start("lab_worker.js", "W1", HOST, broker.back, HANGS_MS)
    one = connect(zmq.REQ, "SAME", way.port)
    one.ask("one-1")
    hanging.wait_for("task SAME one-1")
    worker = start("lab_worker.js", "W2", HOST, broker.back, LATE_MS)
    two = connect(zmq.REQ, "SAME", broker.front)
    two.ask("two-1")
    worker.wait_for("task SAME two-1")
    way.cut()
    stranger = connect(zmq.REQ, "OTHER", broker.front)
    stranger.wait_until_connected()
    worker.wait_for("answer SAME two-1")
    stranger.ask("other-1")
    assert two.reply() == "two-1 W2"
    assert stranger.reply() == "other-1 W2"


def test_back_without_a_word_and_its_answer_long_after(
    start_broker: StartBroker, start: Start, proxy: StartProxy, connect: Connect
) -> None:
    """A request whose client has come back silently runs on, however long its absence is remembered."""
    broker = start_broker("--answer-timeout", 60, "--absence", ABSENCE_S)
    way = proxy(broker.front)
    worker = start("lab_worker.js", "W1", HOST, broker.back, 2000 * ABSENCE_S)
    client = connect(zmq.REQ, "C1", way.port)
    client.ask("C1-1")
    worker.wait_for("task C1 C1-1")
    way.cut()
    way.mend()
    assert client.reply() == "C1-1 W1"
