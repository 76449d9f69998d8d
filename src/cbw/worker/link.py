"""The worker's connection to its broker: messages instead of bytes, and the sleep until there is something to do."""

from __future__ import annotations

from collections.abc import Sequence

from cbw.core import catalogue, messages
from cbw.errors import BadMessage, NotReady
from cbw.transport.link import Link
from cbw.transport.poller import Poller, Waker
from cbw.wire import native
from cbw.worker.limited import RecordEvent


class WorkerLink:
    """A :class:`cbw.core.worker.driver.WorkerConnection` over ZeroMQ. ``waker`` ends its :meth:`wait`."""

    def __init__(self, link: Link, waker: Waker, record_event: RecordEvent) -> None:
        self._link = link
        self._waker = waker
        self._record_event = record_event
        self.has_unsent = False
        self._has_changes = False
        self._problem = ""  # why there is no socket, after a reconnection that failed
        self._is_refusal_told = False  # of this connection
        self._poller = self._new_poller()

    def wait(self, timeout_s: float) -> None:
        """Sleep until something has arrived, the connection has changed, or somebody has used the waker."""
        ready = self._poller.poll(timeout_s)
        if self._waker.fileno() in ready:
            self._waker.clear()
        if not self._problem:
            self._has_changes = self._link.on_ready(ready) or self._has_changes

    def watch(self) -> Sequence[bool]:
        if not self._has_changes:
            return ()
        self._has_changes = False
        changes = []
        for is_connected in self._link.watch():
            if is_connected:
                self._is_refusal_told = False
                self._record_event(catalogue.CONNECTED, str(self._link.resolver))
            else:
                self._record_event(catalogue.DISCONNECTED, "")
            changes.append(is_connected)
        self.has_unsent = bool(self._link.unsent)
        return changes

    def receive(self) -> list[messages.Message] | None:
        while not self._problem and (frames := self._link.receive()) is not None:
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
        handshakes = self._link.handshakes
        if handshakes.refusal is None:
            return None
        refusal, handshakes.refusal = handshakes.refusal, None
        return [refusal]

    def send(self, batch: list[messages.Message]) -> None:
        self._link.post([frames for frames, _ in native.encode(batch)])
        self.has_unsent = bool(self._link.unsent)

    def reconnect(self) -> bool:
        self.has_unsent = False
        if not self._problem:
            self._record_event(catalogue.RECONNECTING, "the broker is silent")
        try:
            self._link.reopen()
        except NotReady as error:
            if self._problem != str(error):
                self._problem = str(error)
                self._record_event(catalogue.NOT_RECONNECTED, f"{error}. {error.advice}")
            self._has_changes = False
            self._poller = Poller(self._waker.fileno())
            return False
        self._problem = ""
        self._has_changes = False
        self._poller = self._new_poller()
        return True

    def _new_poller(self) -> Poller:
        return Poller(self._link.socket, self._waker.fileno(), self._link.monitor_news)
