"""Replies for clients that are away, and with a journal also those that their clients have not acknowledged."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

from cbw.core import catalogue
from cbw.core.broker.memory import PER_FRAME_BYTES, memory_of_body
from cbw.core.broker.outbox import Outbox
from cbw.core.broker.tables import ClientRow, ParkedReply
from cbw.core.messages import Answer
from cbw.core.plain_messages import Envelope

ANSWER_BYTES = 500
"""What a parked reply takes beside its body: the message, and its place in two tables (measured: 470 bytes)."""


class ParkedReplies:
    """Parks replies with their clients (``ClientRow.parked``), and all of them together under ``bytes_max``.

    What does not fit pushes the oldest out, whoever that is for. It is counted and traced: a client with sessions asks again
    when it is back, but any other waits for it in vain. ``on_gone`` is told the journal's number of each that is parked no
    longer.
    """

    def __init__(self, outbox: Outbox, bytes_max: int, on_gone: Callable[[Iterable[int]], None]) -> None:
        self.bytes = 0
        self._outbox = outbox
        self._bytes_max = bytes_max
        self._on_gone = on_gone
        self._all: OrderedDict[ParkedReply, None] = OrderedDict()  # oldest first

    @property
    def count(self) -> int:
        """How many replies are parked."""
        return len(self._all)

    @property
    def oldest_at(self) -> float:
        """Since when the oldest is parked; infinity: there is none."""
        return next(iter(self._all)).since if self._all else math.inf

    def park(
        self, client: ClientRow, envelope: Envelope, answer: Answer, number: int = 0, *, is_sent: bool = False
    ) -> None:
        """Keep ``answer`` until ``client`` is back, or has acknowledged it."""
        parked = client.parked
        if (known := parked.get(answer.id)) is not None:
            del self._all[known]
            self.bytes -= known.size
            number = number or known.number
        size = ANSWER_BYTES + memory_of_body(answer.body)
        if envelope:
            size += sum(map(len, envelope)) + PER_FRAME_BYTES * len(envelope)
        reply = parked[answer.id] = ParkedReply(client, envelope, answer, self._outbox.now, size, number, is_sent)
        self._all[reply] = None
        self.bytes += size
        while self.bytes > self._bytes_max:
            self._drop_oldest()

    def take(self, client: ClientRow, key: int) -> Answer:
        """The answer to request ``key``, which is parked no longer."""
        answer = client.parked[key].answer
        self.drop(client, (key,))
        return answer

    def take_all(self, client: ClientRow) -> list[ParkedReply]:
        """All that is parked for ``client``, and is parked no longer. Those of the journal are still in it."""
        parked, client.parked = client.parked, {}
        for reply in parked.values():
            del self._all[reply]
            self.bytes -= reply.size
        return list(parked.values())

    def drop(self, client: ClientRow, keys: Iterable[int]) -> None:
        """``client`` does not need what is parked of the answers to its requests ``keys``."""
        parked, numbers = client.parked, []
        for key in keys:
            if (reply := parked.pop(key, None)) is not None:
                del self._all[reply]
                self.bytes -= reply.size
                if reply.number:
                    numbers.append(reply.number)
        if numbers:
            self._on_gone(numbers)

    def drop_all(self, client: ClientRow, until: float = math.inf) -> None:
        """``client`` will not ask for what was parked for it ``until`` then."""
        self.drop(client, [key for key, reply in client.parked.items() if reply.since <= until])

    def drop_older(self, since: float) -> None:
        """Drop what has been parked since then or longer, if the journal has it: it has been kept for long enough."""
        while self.oldest_at <= since:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        reply = next(iter(self._all))
        client, key = reply.client, reply.answer.id
        self.drop(client, (key,))
        if reply.is_sent and client.absent_since is None:
            return
        self._outbox.counts["answers_dropped"] += 1
        text = f"parked for a client that is away, but there is too much (--parked-bytes-max {self._bytes_max})"
        self._outbox.trace(catalogue.ANSWER_DROPPED, request=f"{client.name}/{key}", client=client.name, text=text)
