"""What waits for peers that do not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from cbw.core.broker.events import PeerUnread, SendToClient, SendToWorker, Side
from cbw.core.broker.memory import memory_of_body
from cbw.core.messages import Message

UNREAD_S = 10.0
"""A peer that has read nothing for so long counts as lost."""
MESSAGE_BYTES = 200
"""What a message that waits takes beside its body."""

SendOrder = SendToClient | SendToWorker


class _Queue:
    """The orders for one peer, and since when it has read nothing."""

    __slots__ = ("bytes", "orders", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.bytes = 0
        self.orders: deque[SendOrder] = deque()


class Backlog:
    """Keeps orders that could not be carried out because their peers do not read, until they do or are given up.

    A peer is given up when it has read nothing for 10 s, or earlier, if all that waits is more than ``bytes_max``: then
    the one that has read nothing for longest is the first. Its length is the number of peers.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._queues: dict[tuple[Side, bytes], _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def has(self, side: Side, peer: bytes) -> bool:
        """Whether something waits for ``peer``, so that whatever else is for it has to wait behind that."""
        return (side, peer) in self._queues

    def add(self, side: Side, order: SendOrder, now: float) -> None:
        """Let ``order`` wait."""
        queue = self._queues.get((side, order.peer))
        if queue is None:
            queue = self._queues[side, order.peer] = _Queue(now)
        queue.orders.append(order)
        self._grow(queue, _size_of(order))

    def forget(self, side: Side, peer: bytes) -> list[SendOrder]:
        """What waited for ``peer``, and waits no longer."""
        queue = self._queues.pop((side, peer), None)
        if queue is None:
            return []
        self.bytes -= queue.bytes
        return list(queue.orders)

    def messages_for(self, side: Side, peer: bytes) -> list[Message]:
        """What waits for ``peer``."""
        if not self._queues:
            return []
        queue = self._queues.get((side, peer))
        return messages_of(list(queue.orders)) if queue is not None else []

    def retry(self, now: float, send: Callable[[Side, Any], Any]) -> list[PeerUnread]:
        """Try again, and say who is given up.

        ``send`` carries out an order and returns what is left of it: None if nothing, the order itself if all.
        """
        for (side, peer), queue in list(self._queues.items()):
            while queue.orders:
                order = queue.orders[0]
                rest = send(side, order)
                if rest is order:
                    break
                queue.since = now
                self._grow(queue, -_size_of(order))
                if rest is not None:
                    queue.orders[0] = rest
                    self._grow(queue, _size_of(rest))
                    break
                queue.orders.popleft()
            if not queue.orders:
                del self._queues[side, peer]
        return self._give_up(now)

    @property
    def messages(self) -> list[Message]:
        """All that waits."""
        return [message for queue in self._queues.values() for message in messages_of(list(queue.orders))]

    def _give_up(self, now: float) -> list[PeerUnread]:
        facts: list[PeerUnread] = []
        for (side, peer), queue in sorted(self._queues.items(), key=lambda item: item[1].since):
            if now - queue.since <= UNREAD_S and self.bytes <= self._bytes_max:
                break
            dialect = queue.orders[0].dialect
            facts.append(PeerUnread(side, peer, messages_of(self.forget(side, peer)), dialect))
        return facts

    def _grow(self, queue: _Queue, size: int) -> None:
        queue.bytes += size
        self.bytes += size


def messages_of(orders: list[SendOrder]) -> list[Message]:
    """The messages of ``orders``, in order."""
    return [message for order in orders for message in order.messages]


def _size_of(order: SendOrder) -> int:
    return sum(map(_size_of_message, order.messages))


def _size_of_message(message: Message) -> int:
    answer = getattr(message, "answer", message)
    return MESSAGE_BYTES + memory_of_body(getattr(answer, "body", b""))
