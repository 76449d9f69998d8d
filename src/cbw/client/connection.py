"""The connection of a client to its broker: batches of messages in and out of a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cbw.addresses import Address
from cbw.core import messages
from cbw.errors import BadMessage, CbwError
from cbw.keys.folder import LinkKeys
from cbw.transport.link import Link
from cbw.transport.sockets import new_context
from cbw.wire import native


class Connection:
    """The :class:`~cbw.core.client.driver.ClientConnection` of a real client, over ZeroMQ.

    ``on_resolved`` is called in another thread when the names of ``hosts`` were looked up: the client then has to take a turn.
    Clients of different ids spread over the hosts, as ``client`` says.

    Raises:
        UsageError: one of ``hosts`` cannot be a host.
        NotReady: no descriptors are left.
    """

    def __init__(
        self, hosts: Sequence[Address], client: str, on_resolved: Callable[[], None], keys: LinkKeys | None = None
    ) -> None:
        self._context = new_context()
        try:
            self.link = Link(self._context, hosts, on_resolved, keys=keys, spread_by=client)
        except CbwError:  # not after Ctrl-C: there may be a socket that nobody has, and this would wait for it for ever
            self._context.term()
            raise

    def watch(self) -> Iterator[bool]:
        """True for each connection that was made since the last call, False for each that was lost, in order."""
        return self.link.watch()

    def receive(self) -> list[messages.Message] | None:
        """The next batch that has arrived; None: there is none. Messages that cannot be read are skipped."""
        link = self.link
        while (frames := link.receive()) is not None:
            try:
                return native.to_client(frames)
            except BadMessage:
                continue
        return None if link.handshakes.refusal is None else self._refusal()

    def _refusal(self) -> list[messages.Message] | None:
        """What the broker would have said if it could: that no key fits. It is told once."""
        handshakes = self.link.handshakes
        refusal, handshakes.refusal = handshakes.refusal, None
        return None if refusal is None else [refusal]

    def send(self, batch: list[messages.Message]) -> list[messages.Message]:
        """Send ``batch``; returns the messages at its end that there was no room for."""
        sent = 0
        for frames, count in native.encode(batch):
            if not self.link.send(frames):
                return batch[sent:]
            sent += count
        return []

    def close(self) -> None:
        """Close the socket. What was sent may still be delivered until :meth:`wait` has returned."""
        self.link.close()

    def wait(self) -> None:
        """Wait, at most a second, until what was sent is delivered. Safe from any thread."""
        self._context.term()
