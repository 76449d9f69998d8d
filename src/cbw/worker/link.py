"""The connection of a worker to one broker: messages instead of bytes."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from cbw.core import catalogue, messages
from cbw.errors import BadMessage, NotReady
from cbw.transport.link import Link
from cbw.wire import native
from cbw.worker.limited import RecordEvent


class WorkerLink:
    """A :class:`cbw.core.worker.driver.WorkerConnection` over ZeroMQ, which is begun by its first :meth:`reconnect`.

    ``make`` makes its socket. ``place`` is what people are told of the broker; empty: there is only one. ``on_sources`` is called
    when :attr:`sources` are others.
    """

    def __init__(
        self, place: str, make: Callable[[], Link], record_event: RecordEvent, on_sources: Callable[[], None]
    ) -> None:
        self._place = place
        self._make = make
        self._record_event = record_event
        self._on_sources = on_sources
        self.has_unsent = False
        self.sources: tuple[Any, ...] = ()
        """What is readable when something has arrived or the connection has changed."""
        self._link: Link | None = None
        self._has_changes = False
        self.problem = "it was not begun yet"
        """Why there is no socket; empty: there is one."""
        self._is_refusal_told = False  # of this connection

    def on_ready(self, ready: Container[Any]) -> None:
        """Take note of the sources that are ready."""
        if self._link is not None and not self.problem:
            self._has_changes = self._link.on_ready(ready) or self._has_changes

    def watch(self) -> Sequence[bool]:
        if not self._has_changes or self._link is None:
            return ()
        self._has_changes = False
        changes = []
        for is_connected in self._link.watch():
            if is_connected:
                self._is_refusal_told = False
            self._record_event(catalogue.CONNECTED if is_connected else catalogue.DISCONNECTED, self._place)
            changes.append(is_connected)
        self.has_unsent = bool(self._link.unsent)
        return changes

    def receive(self) -> list[messages.Message] | None:
        link = self._link
        if link is None or self.problem:
            return None
        while (frames := link.receive()) is not None:
            try:
                batch = native.to_worker(frames)
            except BadMessage as error:
                self._record_event(catalogue.BAD_MESSAGE, str(error))
                continue
            if (
                batch and type(batch[0]) is messages.Refused and not self._is_refusal_told
            ):  # it says hello again for a while
                self._is_refusal_told = True
                self._record_event(catalogue.NOT_LET_IN, batch[0].text)
            return batch
        handshakes = link.handshakes
        if handshakes.refusal is None:
            return None
        refusal, handshakes.refusal = handshakes.refusal, None
        return [refusal]

    def send(self, batch: list[messages.Message]) -> None:
        link = self._link
        if link is not None:
            link.post([frames for frames, _ in native.encode(batch)])
            self.has_unsent = bool(link.unsent)

    def reconnect(self) -> bool:
        if not self.problem:
            place = f" at {self._place}" if self._place else ""
            self._record_event(catalogue.RECONNECTING, f"the broker{place} is silent")
        self._on_sources()
        self.has_unsent = self._has_changes = False
        self.sources = ()
        try:
            if self._link is None:
                self._link = self._make()
            else:
                self._link.reopen()
        except NotReady as error:
            if self.problem != str(error):
                self.problem = str(error)
                self._record_event(catalogue.NOT_RECONNECTED, f"{error}. {error.advice}")
            return False
        self.problem = ""
        self.sources = (self._link.socket, self._link.monitor_news)
        return True

    def close(self) -> None:
        """Close the socket. What was sent is still delivered, for at most a second."""
        if self._link is not None:
            self._link.close()
