"""The answers for clients that are away."""

from __future__ import annotations

from collections import OrderedDict

from cbw.core.messages import Answer
from cbw.core.outbox import Outbox
from cbw.core.tables import Client

ANSWER_BYTES = 500
"""What a kept answer takes beside its body: the message, and its place in two tables (measured: 470 bytes)."""

Envelope = tuple[bytes, ...]


class Kept:
    """Keeps answers with their clients (``Client.kept``), and all of them together under ``bytes_max``.

    What does not fit pushes the oldest out, whoever that is for. It is counted and traced: a CBW/1 client asks again
    when it is back, but a plain one waits for it in vain.
    """

    def __init__(self, outbox: Outbox, bytes_max: int) -> None:
        self.bytes = 0
        self._outbox = outbox
        self._bytes_max = bytes_max
        self._sizes: OrderedDict[tuple[Client, int], int] = OrderedDict()  # oldest first

    @property
    def count(self) -> int:
        """How many answers are kept."""
        return len(self._sizes)

    def keep(self, client: Client, envelope: Envelope, answer: Answer) -> None:
        """Keep ``answer`` until ``client`` is back."""
        if answer.id in client.kept:
            self.take(client, answer.id)
        size = self._sizes[client, answer.id] = ANSWER_BYTES + sum(map(len, envelope)) + len(answer.body)
        self.bytes += size
        client.kept[answer.id] = (envelope, answer)
        while self.bytes > self._bytes_max:
            self._drop(*next(iter(self._sizes)))

    def take(self, client: Client, key: int) -> Answer:
        """The answer to request ``key``, which is kept no longer."""
        self.bytes -= self._sizes.pop((client, key))
        return client.kept.pop(key)[1]

    def take_all(self, client: Client) -> list[tuple[Envelope, Answer]]:
        """All that is kept for ``client``, which is kept no longer."""
        kept, client.kept = client.kept, {}
        for key in kept:
            self.bytes -= self._sizes.pop((client, key))
        return list(kept.values())

    def _drop(self, client: Client, key: int) -> None:
        self.take(client, key)
        self._outbox.counts["answers_dropped"] += 1
        text = f"kept for a client that is away, but there is too much (--kept-bytes-max {self._bytes_max})"
        self._outbox.trace("answer_dropped", request=f"{client.name}/{key}", client=client.name, text=text)
