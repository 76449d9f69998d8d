"""The connection of a client or a worker in memory, as its driver sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cbw.core.messages import Message
from cbw.core.port import Frames


class MemoryLink:
    """What arrives in ``inbox`` is decoded by ``decode``; what is sent goes to ``post``."""

    def __init__(
        self,
        inbox: list[Frames],
        decode: Callable[[Sequence[Any]], list[Message]],
        post: Callable[[Sequence[Message]], None],
    ) -> None:
        self.changes: list[bool] = []  # connections made (True) and lost (False)
        self.has_sent = False
        self._inbox = inbox
        self._decode = decode
        self._post = post

    def watch(self) -> list[bool]:
        """What has changed about the connection since the last call: True made, False lost."""
        changes, self.changes = self.changes, []
        return changes

    def receive(self) -> list[Message] | None:
        """The next batch; None: there is none."""
        return self._decode(self._inbox.pop(0)) if self._inbox else None

    def post(self, batch: Sequence[Message]) -> None:
        """Send ``batch``, if there is a connection."""
        self.has_sent = True
        self._post(batch)


class ClientMemoryLink(MemoryLink):
    """A client's."""

    def send(self, batch: list[Message]) -> list[Message]:
        """There is always room."""
        self.post(batch)
        return []


class WorkerMemoryLink(MemoryLink):
    """A worker's."""

    has_unsent = False
    is_reconnect_wanted = False  # by the end of the turn

    def send(self, batch: list[Message]) -> None:
        """There is always room."""
        self.post(batch)

    def reconnect(self) -> bool:
        """Note that the worker is to make a new connection, when its turn is over."""
        self.is_reconnect_wanted = True
        return True
