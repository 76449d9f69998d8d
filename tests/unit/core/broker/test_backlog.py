"""What waits for peers that do not read: kept in order, for a time, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.backlog import MESSAGE_BYTES, UNREAD_S, Backlog
from cbw.core.messages import Status
from cbw.core.plain_messages import PlainReply, PlainTask
from cbw.wire import lab, native

CLIENT = events.Side.CLIENT


def reply(peer: bytes, body: bytes = b"") -> events.SendToClient:
    return events.SendToClient(peer, [PlainReply((b"",), messages.Answer(1, Status.OK, body))], lab.CLIENT)


def batch(peer: bytes, *ids: int, body: bytes = b"") -> events.SendToClient:
    return events.SendToClient(peer, [messages.Answer(id_, Status.OK, body) for id_ in ids], native.CLIENT)


class Network:
    """Takes what ``readers`` have room for."""

    def __init__(self) -> None:
        self.room: dict[bytes, int] = {}
        self.sent: list[Any] = []

    def send(self, side: events.Side, order: Any) -> Any:
        count = min(self.room.get(order.peer, 0), len(order.messages))
        self.room[order.peer] = self.room.get(order.peer, 0) - count
        if not count:
            return order
        self.sent += [message.id for message in order.messages[:count] if isinstance(message, messages.Answer)]
        rest = order.messages[count:]
        return events.SendToClient(order.peer, rest, order.dialect) if rest else None


@pytest.fixture
def network() -> Network:
    return Network()


def test_what_waits_is_sent_in_order_when_its_peer_reads_on(network: Network) -> None:
    backlog = Backlog(10_000)
    backlog.add(CLIENT, batch(b"A", 1, 2), 0.0)
    backlog.add(CLIENT, batch(b"A", 3), 1.0)
    assert backlog.has(CLIENT, b"A") and not backlog.has(events.Side.WORKER, b"A")
    network.room[b"A"] = 1
    assert backlog.retry(2.0, network.send) == []
    assert network.sent == [1]
    network.room[b"A"] = 9
    assert backlog.retry(3.0, network.send) == []
    assert network.sent == [1, 2, 3]
    assert (len(backlog), backlog.bytes) == (0, 0)


def test_a_peer_that_reads_nothing_is_given_up(network: Network) -> None:
    backlog = Backlog(10_000)
    orders = [reply(b"A"), reply(b"A")]
    unsent = [message for order in orders for message in order.messages]
    for order in orders:
        backlog.add(CLIENT, order, 0.0)
    assert backlog.retry(UNREAD_S, network.send) == []
    assert backlog.retry(UNREAD_S + 0.1, network.send) == [events.PeerUnread(CLIENT, b"A", unsent, lab.CLIENT)]
    assert (len(backlog), backlog.bytes) == (0, 0)


def test_one_that_reads_slowly_is_not(network: Network) -> None:
    backlog = Backlog(10_000)
    backlog.add(CLIENT, batch(b"A", *range(20)), 0.0)
    for second in range(19):
        network.room[b"A"] = 1
        assert backlog.retry(float(second), network.send) == []
    assert backlog.retry(19.0 + UNREAD_S / 2, network.send) == []


def test_beyond_the_limit_who_has_read_nothing_for_longest_is_given_up(network: Network) -> None:
    backlog = Backlog(3 * (MESSAGE_BYTES + 100))
    for number, peer in enumerate((b"A", b"B", b"C")):
        backlog.add(CLIENT, reply(peer, b"x" * 100), float(number))
    assert backlog.retry(3.0, network.send) == []
    backlog.add(CLIENT, reply(b"C", b"x" * 100), 3.0)
    (fact,) = backlog.retry(3.0, network.send)
    assert isinstance(fact, events.PeerUnread) and fact.peer == b"A"
    assert backlog.bytes == 3 * (MESSAGE_BYTES + 100)


def test_bodies_count_in_every_kind_of_order() -> None:
    task = messages.Task(1, "", b"x" * 100, None, 1)
    orders: tuple[events.SendToClient | events.SendToWorker, ...] = (
        reply(b"A", b"x" * 100),
        batch(b"A", 1, body=b"x" * 100),
        events.SendToWorker(b"A", [PlainTask(b"C", b"x" * 100)], lab.LAB),
    )
    for order in orders:
        backlog = Backlog(10_000)
        backlog.add(CLIENT, order, 0.0)
        assert backlog.bytes == MESSAGE_BYTES + 100
    backlog.add(events.Side.WORKER, events.SendToWorker(b"W", [task, messages.Beat()], native.WORKER), 0.0)
    assert backlog.bytes == 3 * MESSAGE_BYTES + 200


def test_a_lost_peer_gets_nothing_any_more() -> None:
    backlog = Backlog(10_000)
    order = reply(b"A")
    backlog.add(CLIENT, order, 0.0)
    assert backlog.forget(CLIENT, b"A") == [order]
    assert backlog.forget(CLIENT, b"A") == []
    assert (len(backlog), backlog.bytes) == (0, 0)
