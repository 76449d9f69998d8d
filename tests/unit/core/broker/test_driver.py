"""The broker's driver between two ports in memory: the order of what it tells the core, and what becomes of what it sends."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker import driver, events
from cbw.core.broker.backlog import UNREAD_S
from cbw.core.broker.driver import DIALECTS_MAX, LOST_RETRY_S, UNREAD_RETRY_S
from cbw.core.broker.events import Side
from cbw.core.broker.req_workers import RETURN_RETRY_S
from cbw.core.messages import Answer, ClientHello, Goodbye, Refusal, Refused, Request, Status, Task, WorkerHello
from cbw.wire import lab, native
from tests.unit.core.broker.driven import Broker

C, W, V = b"C1", b"W1", b"W2"
LAB_READY = (b"", b"", b"")


def native_client(broker: Broker, peer: bytes = b"\0c1", name: str = "N1", boot: str = "b", *ids: int) -> None:
    broker.says(Side.CLIENT, peer, ClientHello(name, boot), *(Request(id_, "", b"%d" % id_) for id_ in ids))


def native_worker(broker: Broker, peer: bytes = W, concurrency: int = 1) -> list[Task]:
    broker.says(Side.WORKER, peer, WorkerHello(peer.decode(), "b", [""], concurrency, concurrency))
    return tasks_of(broker, peer)


def tasks_of(broker: Broker, peer: bytes) -> list[Task]:
    return [message for message in broker.batch(peer) if isinstance(message, Task)]


def answers_of(broker: Broker, peer: bytes) -> list[tuple[int, bytes]]:
    return [(message.id, message.body) for message in broker.batch(peer) if isinstance(message, Answer)]


def done(*tasks: Task) -> list[Answer]:
    return [Answer(task.id, Status.OK, b"done " + task.body) for task in tasks]


# --- rounds


@pytest.mark.parametrize("is_told", [True, False])
def test_a_thousand_dead_workers_and_one_request(broker: Broker, is_told: bool) -> None:
    """Each that turns out to be gone is the beginning of another round, not of a call inside the call (RecursionError)."""
    workers = [b"WOR%04d" % number for number in range(1000)]
    for worker in workers:
        broker.workers.arrive(worker, LAB_READY)
    broker.turn()
    broker.turn()
    assert len(broker.core.workers.by_peer) == 1000
    if is_told:
        for worker in workers:
            broker.workers.lose(worker)
        broker.turn()
        broker.workers.connect(b"somebody")  # it may be one of them, so all are tried
        broker.turn()
        broker.wait(RETURN_RETRY_S)
        assert len(broker.core.workers.by_peer) == 1000
    broker.workers.there.clear()
    broker.client_says(C, b"", b"hi")
    assert broker.core.requests.count == 1 and not broker.core.workers.by_peer
    assert broker.workers.tried == 1000
    broker.worker_says(W, *LAB_READY)
    assert broker.take(W) == [[b"", C, b"hi"]]
    assert broker.counts["attempts_failed"] == 0, "what was not delivered has not begun"


def test_an_order_that_it_does_not_know_is_an_error_of_ours(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    order = events.PeerLost(Side.CLIENT, C)
    monkeypatch.setattr(broker.core, "step", lambda facts, now: [order])
    with pytest.raises(TypeError, match="PeerLost"):
        broker.driver.turn(broker.now)


# --- the order of facts


def test_the_facts_of_a_turn_come_in_the_order_that_keeps_the_promises(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[Any]] = []
    step = broker.core.step

    def spy(facts: Any, now: float) -> Any:
        told.append(list(facts))
        return step(told[-1], now)

    native_worker(broker)
    broker.clients.room[b"slow"] = 0
    broker.client_says(b"slow", b"", b"MDPC01", b"mmi.service", b"x")  # its reply waits
    broker.now += UNREAD_S + 1
    monkeypatch.setattr(broker.core, "step", spy)
    broker.clients.arrive(C, [b"", b"hi"])
    broker.clients.arrive(C, [b"no envelope"])
    broker.clients.lose(b"gone")
    broker.clients.connect(b"new")
    broker.clients.uncertain += [(b"back", False), (C, True)]
    broker.workers.arrive(V, LAB_READY)
    broker.workers.lose(W)
    broker.workers.connect(b"new")
    broker.driver.turn(broker.now, broker.now + 5)
    assert [(type(fact).__name__, getattr(fact, "peer", None)) for fact in told[0]] == [
        ("StopRequested", None),
        ("IdentityUncertain", C),
        ("ClientSaid", C),
        ("BadMessageArrived", C),
        ("PeerLost", b"gone"),
        ("PeersConnected", None),
        ("IdentityUncertain", b"back"),
        ("WorkerSaid", V),
        ("PeerLost", W),
        ("PeersConnected", None),
    ]


def test_last_words_count_before_the_loss(broker: Broker) -> None:
    native_client(broker, b"\0c1", "N1", "b", 1)
    (task,) = native_worker(broker)
    broker.batch(b"\0c1")
    broker.workers.lose(W)
    broker.says(Side.WORKER, W, *done(task), Goodbye())
    assert answers_of(broker, b"\0c1") == [(1, b"done 1")]
    assert not broker.events("attempt_failed", "worker_lost")


def test_an_answer_does_not_reach_another_program_with_the_clients_identity(broker: Broker) -> None:
    """G1: both arrive in one turn, the new program's request and the answer to what the old one asked."""
    broker.worker_says(W, *LAB_READY)
    broker.client_says(C, b"", b"old")
    broker.take(W)
    broker.clients.arrive(C, [b"", b"new"], is_replaced=True)
    broker.worker_says(W, b"", C, b"old!")
    assert broker.take(C) == []
    assert broker.counts["answers_fenced"] == 1
    assert broker.take(W)[-1][-1] == b"new"


def test_an_answer_does_not_reach_a_client_whose_identity_became_uncertain_in_the_same_turn(broker: Broker) -> None:
    broker.worker_says(W, *LAB_READY)
    broker.client_says(C, b"", b"hi")
    broker.take(W)
    broker.clients.uncertain.append((C, True))
    broker.worker_says(W, b"", C, b"hi!")
    assert broker.take(C) == []
    broker.clients.uncertain.append((C, False))
    broker.turn()
    assert broker.take(C) == [[b"", b"hi!"]]


def test_a_turn_is_bounded(broker: Broker) -> None:
    small = Broker(turn_messages=3)
    for number in range(8):
        small.clients.arrive(b"C%d" % number, [b"", b"hi"])
    for left in (5, 2, 0):
        small.turn()
        assert len(small.clients.arrivals) == left


def test_while_one_request_is_here_one_message_of_the_workers_is_taken(broker: Broker) -> None:
    """To ask for another would delay its answer, which is most likely the one that is there."""
    broker.client_says(C, b"", b"hi")
    broker.turn()
    assert broker.workers.limits == [driver.TURN_MESSAGES, 1]


def test_a_lost_peer_whose_last_words_may_be_unread_is_looked_at_again_soon(broker: Broker) -> None:
    native_worker(broker)
    broker.workers.is_losing_late = True
    broker.lose_worker(W)
    assert broker.core.workers.by_peer
    assert broker.driver.wake_at == pytest.approx(broker.now + LOST_RETRY_S)
    broker.workers.is_losing_late = False
    broker.turn()
    assert not broker.core.workers.by_peer
    broker.clients.uncertain, broker.clients.ends_at = [(C, True)], broker.now + 60.0
    assert broker.driver.wake_at <= broker.clients.ends_at + 0.01, "where nobody beats, too"


def test_clients_are_not_read_while_far_too_much_waits() -> None:
    broker = Broker(requests_max=2)
    for number in range(5):
        broker.client_says(C, b"%d" % number, b"", b"hi")
    assert not broker.driver.is_reading_clients
    assert len(broker.clients.arrivals) == 1, "left to TCP's back-pressure"
    broker.worker_says(W, *LAB_READY)
    for _ in range(5):
        ((_, client, body),) = broker.take(W)
        broker.worker_says(W, b"", client, body)
        broker.turn()
    assert broker.driver.is_reading_clients
    assert len(broker.take(C)) == 5


# --- peers that do not read


def test_what_a_full_peer_does_not_take_is_sent_later_in_order(broker: Broker) -> None:
    for number in range(3):
        broker.client_says(C, b"id%d" % number, b"", b"MDPC01", b"mmi.%d" % number, b"x")
    broker.take(C)
    broker.clients.room[C] = 1
    for number in range(3):
        broker.clients.arrive(C, [b"id%d" % number, b"", b"MDPC01", b"mmi.x", b"x"])
    broker.turn()
    broker.client_says(C, b"id3", b"", b"MDPC01", b"mmi.x", b"x")
    assert [frames[0] for frames in broker.take(C)] == [b"id0"]
    assert len(broker.driver.backlog) == 1
    assert broker.driver.wake_at == pytest.approx(broker.now + UNREAD_RETRY_S)
    tried = broker.clients.tried
    broker.wait(UNREAD_RETRY_S)
    assert broker.take(C) == [] and broker.clients.tried == tried + 1, "one attempt for all that waits"
    broker.clients.room[C] = 9
    broker.wait(UNREAD_RETRY_S)
    assert [frames[0] for frames in broker.take(C)] == [b"id1", b"id2", b"id3"]
    assert not broker.driver.backlog


def test_nothing_overtakes_what_waits_even_if_the_peer_reads_on_at_that_moment(broker: Broker) -> None:
    broker.clients.refusals[C] = 2
    for number in range(2):
        broker.client_says(C, b"id%d" % number, b"", b"MDPC01", b"mmi.x", b"x")
    assert broker.take(C) == []
    broker.wait(UNREAD_RETRY_S)
    assert [frames[0] for frames in broker.take(C)] == [b"id0", b"id1"]


def test_the_batches_of_a_large_order_go_out_one_after_the_other(broker: Broker) -> None:
    native_client(broker, b"\0c1", "N1", "b", *range(1, 3001))
    tasks = native_worker(broker, W, 3000)
    broker.batch(b"\0c1")
    broker.clients.room[b"\0c1"] = 1
    for first in range(0, 3000, 1000):
        broker.workers.arrive(W, next(iter(_encode(done(*tasks[first : first + 1000])))))
    broker.turn()
    while broker.core.requests.count:
        broker.turn()
    sent = [id_ for id_, _ in answers_of(broker, b"\0c1")]
    assert 0 < len(sent) < 3000
    broker.clients.room[b"\0c1"] = 99
    broker.wait(UNREAD_RETRY_S)
    sent += [id_ for id_, _ in answers_of(broker, b"\0c1")]
    assert sent == list(range(1, 3001))


def _encode(batch: list[Any]) -> Any:
    return (frames for frames, _ in native.encode(batch))


def test_the_tasks_of_a_worker_that_does_not_read_go_to_others(broker: Broker) -> None:
    native_worker(broker)
    broker.workers.room[W] = 0
    broker.client_says(C, b"", b"hi")
    for _ in range(int(UNREAD_S) + 1):
        broker.wait(1.0)
        broker.says(Side.WORKER, W, messages.Beat())  # it lives, and sends
    assert not broker.core.workers.by_peer
    assert broker.counts["attempts_failed"] == 0, "it was never sent"
    (unread,) = broker.events("unread")
    assert unread.worker == "W1"
    assert [task.body for task in native_worker(broker, V)] == [b"hi"]


def test_what_waits_for_a_worker_that_is_lost_has_not_begun(broker: Broker) -> None:
    native_worker(broker)
    broker.workers.room[W] = 0
    broker.client_says(C, b"", b"hi")
    broker.lose_worker(W)
    assert broker.counts["attempts_failed"] == 0
    assert [task.body for task in native_worker(broker, V)] == [b"hi"]


def test_what_waits_for_a_client_that_is_lost_is_parked(broker: Broker) -> None:
    native_client(broker, b"\0c1", "N1", "b", 1)
    broker.clients.room[b"\0c1"] = 0
    broker.says(Side.WORKER, W, *done(*native_worker(broker)))
    broker.says(Side.WORKER, W, messages.Beat())
    broker.batch(b"\0c1")
    broker.clients.lose(b"\0c1")
    broker.turn()
    native_client(broker, b"\0c2", "N1", "b", 1)
    assert answers_of(broker, b"\0c2") == [(1, b"done 1")]
    assert broker.counts["answered"] == 1


def test_a_client_that_says_hello_before_the_loss_of_its_old_connection_gets_what_waited_for_that(
    broker: Broker,
) -> None:
    """G7: its request has been answered, and does not run again."""
    native_client(broker, b"\0c1", "N1", "b", 1)
    broker.batch(b"\0c1")
    broker.clients.room[b"\0c1"] = 0
    tasks = native_worker(broker)
    broker.says(Side.WORKER, W, *done(*tasks))
    assert len(broker.driver.backlog) == 1
    native_client(broker, b"\0c2", "N1", "b", 1)
    assert answers_of(broker, b"\0c2") == [(1, b"done 1")]
    broker.clients.lose(b"\0c1")
    broker.wait(1.0)
    assert tasks_of(broker, W) == [] and broker.counts["answered"] == 1
    assert not broker.driver.backlog
    broker.says(Side.CLIENT, b"\0c2", Request(2, "", b"2"))
    broker.says(Side.WORKER, W, *done(*tasks_of(broker, W)))
    assert answers_of(broker, b"\0c2") == [(2, b"done 2")], "the late loss is not that of the new connection"


def test_what_a_peer_that_leaves_did_not_get_is_told_once(broker: Broker) -> None:
    broker.worker_says(W, *LAB_READY)
    for number in range(3):
        broker.client_says(C, b"id%d" % number, b"", b"hi")
    broker.clients.uncertain.append((C, True))
    broker.turn()
    for _ in range(3):
        ((_, client, body),) = broker.take(W)
        broker.worker_says(W, b"", client, body)
    broker.clients.leaves_after[C] = 1
    broker.clients.uncertain.append((C, False))
    broker.turn()
    assert [frames[0] for frames in broker.take(C)] == [b"id0"]
    assert broker.counts["messages_undelivered"] == 1 and broker.core.requests.parked.count == 2
    del broker.clients.leaves_after[C]
    broker.clients.connect(C)
    broker.wait(0.5)
    assert [frames[0] for frames in broker.take(C)] == [b"id1", b"id2"]


def test_what_a_dialect_has_no_word_for_is_not_sent(broker: Broker) -> None:
    broker.worker_says(W, b"", b"MDPW01", b"\x01", b"echo")
    broker.worker_says(V, b"\x01")
    assert broker.workers.tried == 0, "there is no reply to a READY"


# --- bytes that are no message

WHY = "a message of more than 9 bytes"


@pytest.mark.parametrize(
    ("frames", "reply"),
    [
        ([b"", b"big"], [b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"id", b"", b"big"], [b"id", b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", b"MDPC01", b"s"], [b"", b"MDPC01", b"s", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"MDPC02", b"\x01", b"s"], [b"MDPC02", b"\x03", b"s", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", b"MDPC02", b"\x02", b"s"], [b"", b"MDPC02", b"\x04", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"", *[b"many"] * 20], [b"", b"ERROR TOO_BIG too_big: " + WHY.encode()]),
        ([b"no", b"envelope"], None),
        ([b"", b"MDPC01"], None),
        ([b"MDPC02"], None),
    ],
)
def test_a_request_that_is_too_large(broker: Broker, frames: list[bytes], reply: list[bytes] | None) -> None:
    broker.client_says(C, *frames, fault=WHY)
    assert broker.take(C) == ([] if reply is None else [reply])
    assert broker.core.requests.count == 0 and broker.counts["messages_bad"] == 1
    assert [record.text for record in broker.events("bad_message")] == [WHY]


def test_a_message_of_a_native_peer_that_is_too_large(broker: Broker) -> None:
    broker.client_says(C, b"CBW1", b"\x90", fault=WHY)
    broker.worker_says(W, b"CBW1", b"\x90", fault=WHY)
    assert broker.batch(C) == broker.batch(W) == [Refused(Refusal.BAD_MESSAGE, WHY)]


@pytest.mark.parametrize(
    ("ready", "answer", "told", "is_lost"),
    [
        ([b"", b"", b""], [b"", b"C1"], [], False),
        ([b"", b"READY"], [b"", b"C1", b""], [], False),
        ([b"", b"MDPW01", b"\x01", b""], [b"", b"MDPW01", b"\x03", b"1", b""], [[b"", b"MDPW01", b"\x05"]], True),
        ([b"MDPW02", b"\x01", b""], [b"MDPW02", b"\x04", b"1", b""], [[b"MDPW02", b"\x06"]], True),
        ([b"\x01"], [b"1", b""], [], True),
    ],
)
def test_an_answer_that_is_too_large(
    broker: Broker, ready: list[bytes], answer: list[bytes], told: list[list[bytes]], is_lost: bool
) -> None:
    broker.worker_says(W, *ready)
    broker.client_says(C, b"", b"hi")
    broker.take(W)
    broker.worker_says(W, *answer, fault=WHY)
    assert broker.take(W) == told
    assert (W not in broker.core.workers.by_peer) is is_lost
    broker.wait(3.0)  # a REQ worker is late then
    assert broker.counts["attempts_failed"] == 1


def test_a_stranger_at_the_workers_port_that_sends_too_much(broker: Broker) -> None:
    broker.worker_says(W, b"what", b"is", fault=WHY)
    assert broker.take(W) == [] and broker.counts["messages_bad"] == 1


@pytest.mark.parametrize("side", list(Side))
def test_a_native_peer_at_the_wrong_port_is_told_the_right_one(broker: Broker, side: Side) -> None:
    if side is Side.WORKER:
        broker.says(side, W, ClientHello("C1", "b"))
        (refused,) = broker.batch(W)
        text = "this port is for workers; clients connect to port 9998"
    else:
        broker.says(side, C, WorkerHello("W1", "b", [""], 1, 1))
        (refused,) = broker.batch(C)
        text = "this port is for clients; workers connect to port 9999"
    assert refused == Refused(Refusal.BAD_MESSAGE, text)


def test_a_native_peer_of_another_version(broker: Broker) -> None:
    broker.worker_says(W, b"CBW2", b"\x90")
    (refused,) = broker.batch(W)
    assert refused == Refused(Refusal.VERSION, "speaks b'CBW2', this is CBW/1")


def test_a_registered_native_worker_is_not_lost_for_a_bad_message(broker: Broker) -> None:
    """It has ids for its tasks, so what can be read of it still counts."""
    native_worker(broker)
    broker.worker_says(W, b"CBW1", b"nonsense")
    broker.worker_says(W, b"what", b"is", b"this")
    assert broker.counts["messages_bad"] == 2
    assert W in broker.core.workers.by_peer


@pytest.mark.parametrize("frames", [[b"what"], [b"", b"hi"], [b"", b"MDPW03", b"\x01", b"s"], [b""]])
def test_a_stranger_at_the_workers_port_is_counted_and_told_about(broker: Broker, frames: list[bytes]) -> None:
    broker.worker_says(W, *frames)
    assert broker.take(W) == [] and broker.counts["messages_bad"] == 1
    (record,) = broker.events("bad_message")
    assert record.worker == "W1" and record.text.startswith("no registration of a worker: ")


def test_good_and_bad_messages_of_one_turn_are_read_each_for_itself(broker: Broker) -> None:
    broker.clients.arrive(C, [b"nonsense"])
    broker.clients.arrive(C, [b"", b"one"])
    broker.clients.arrive(b"C2", [b"CBW1", b"nonsense"])
    broker.clients.arrive(b"C3", [b"", b"two"])
    broker.turn()
    assert broker.core.requests.count == 2 and broker.counts["messages_bad"] == 2


# --- the memory of dialects


def test_a_lost_worker_that_returns_with_an_answer_is_understood(broker: Broker) -> None:
    broker.worker_says(W, *LAB_READY)
    broker.client_says(C, b"", b"hi")
    broker.take(W)
    broker.lose_worker(W)
    broker.worker_says(W, b"", C, b"late")
    assert broker.counts["answers_fenced"] == 1 and broker.counts["messages_bad"] == 0
    assert broker.take(W)[0][-1] == b"hi", "it is registered again, and given the request"


def test_an_identity_that_the_router_made_up_never_returns(broker: Broker) -> None:
    anonymous = b"\0\0\0\0\1"
    broker.worker_says(anonymous, *LAB_READY)
    broker.lose_worker(anonymous)
    broker.worker_says(anonymous, b"", C, b"", b"late")
    assert broker.core.workers.by_peer[anonymous].dialect is lab.EARLIER_LAB, "it is another one"


def test_the_newest_registration_tells_how_to_read(broker: Broker) -> None:
    broker.worker_says(W, *LAB_READY)
    broker.worker_says(W, b"", b"READY")
    broker.client_says(C, b"", b"a")
    assert broker.take(W) == [[b"", C, b"", b"a"]]
    broker.worker_says(W, b"", C, b"", b"x", b"y")
    assert broker.take(C) == [[b"", b"x", b"y"]]


def test_the_memory_is_bounded_and_those_that_are_here_need_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DIALECTS_MAX >= 1000
    monkeypatch.setattr(driver, "DIALECTS_MAX", 2)
    for worker in (b"A", W, V):
        broker.worker_says(worker, *LAB_READY)
    broker.client_says(C, b"", b"hi")
    assert broker.take(b"A") == [[b"", C, b"hi"]]
    broker.worker_says(b"A", b"", C, b"ho")
    assert broker.take(C) == [[b"", b"ho"]]
    broker.lose_worker(b"A")
    broker.worker_says(b"A", b"", C, b"late", b"")
    assert broker.counts["messages_bad"] == 1, "it must register again"
