"""A bound PULL: lines from any PUSH."""

from __future__ import annotations

import time
from collections.abc import Iterator

import zmq

from cbw.transport.curve import HANDSHAKE_FAILED
from cbw.transport.descriptors import cut_off, is_spare
from cbw.transport.peer_keys import PeerKeys, gate_options
from cbw.transport.poller import has_input
from cbw.transport.resolver import endpoint_of
from cbw.transport.sockets import (
    BACKLOG,
    MONITOR_EVENT,
    NOBLOCK,
    Intake,
    SocketContext,
    cannot_bind,
    new_monitor,
    new_socket,
)


class Pull:
    """A bound PULL: messages from any PUSH, whoever that is.

    ``bytes_max`` is the size of the largest message.

    Raises:
        CannotBind: the port is taken, or may not be used.
    """

    def __init__(
        self,
        context: SocketContext,
        host: str,
        port: int,
        *,
        bytes_max: int,
        intake: Intake = Intake(),  # noqa: B008 - frozen
        keys: PeerKeys | None = None,
    ) -> None:
        self.keys = keys
        self._turn_bytes_max = intake.turn_bytes_max
        options = (
            (zmq.IPV6, int(":" in host)),
            (zmq.RCVHWM, intake.unread_max),
            (zmq.MAXMSGSIZE, bytes_max),
            (zmq.BACKLOG, BACKLOG),
            *gate_options(keys),
        )
        self.socket = new_socket(context, zmq.PULL, *options)
        self._monitor = new_monitor(self.socket, zmq.EVENT_ACCEPTED | (HANDSHAKE_FAILED if keys is not None else 0))
        try:
            self.socket.bind(endpoint_of(host, port))
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise cannot_bind(host, port, error) from None
        self.monitor_news: int = self._monitor.FD
        """The descriptor to poll; then call :meth:`watch`."""
        self.port = int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def receive(self, limit: int) -> Iterator[list[bytes]]:
        """Up to ``limit`` messages that are there now, fewer if they are large; each its frames."""
        bytes_max = self._turn_bytes_max
        for _ in range(limit):
            try:
                frames = self.socket.recv_multipart(NOBLOCK)
            except zmq.Again:
                return
            yield frames
            bytes_max -= sum(map(len, frames))
            if bytes_max <= 0:
                return

    @property
    def has_input(self) -> bool:
        """Whether a message is there."""
        return has_input(self.socket)

    def watch(self) -> None:
        """Read the monitor, and tell :attr:`keys`, if there are any, of connections made and lost. To be called in each turn."""
        while has_input(self._monitor):
            event, value = MONITOR_EVENT.unpack(self._monitor.recv_multipart(NOBLOCK)[0])
            if self.keys is not None:
                self.keys.heard(event, value, time.monotonic())
            if event == zmq.EVENT_ACCEPTED and is_spare(value):
                cut_off([value])

    def close(self) -> None:
        """Close; what was not received is lost."""
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)
