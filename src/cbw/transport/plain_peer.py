"""A connection of a program of the lab, made by a socket that hides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import zmq

from cbw.transport.resolver import endpoint_of
from cbw.transport.sockets import NOBLOCK, SocketContext, new_socket


class PlainPeer:
    """What a REQ socket with this identity is to a broker. All frames are the caller's, the empty first one too.

    It is a DEALER: a REQ socket drops what it does not expect, as a second answer to one request, and nobody could see it.
    """

    def __init__(self, context: SocketContext, host: str, port: int, identity: str) -> None:
        options = ((zmq.IDENTITY, identity.encode()), (zmq.LINGER, 0), (zmq.IPV6, int(":" in host)))
        self.socket = new_socket(context, zmq.DEALER, *options)
        self.socket.connect(endpoint_of(host, port))

    def send(self, frames: Sequence[bytes]) -> None:
        """Send a message; it is dropped if nobody has taken a thousand before."""
        with contextlib.suppress(zmq.Again):
            self.socket.send_multipart(frames, NOBLOCK)

    def receive(self) -> list[bytes] | None:
        """The next message, or None: nothing is there."""
        try:
            return self.socket.recv_multipart(NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """End it as a program that dies would. Safe to call twice."""
        self.socket.close(0)


def with_input(peers: Iterable[PlainPeer], timeout_s: float) -> list[PlainPeer]:
    """Wait at most ``timeout_s`` seconds; the peers that have a message."""
    by_socket = {peer.socket: peer for peer in peers if not peer.socket.closed}
    ready = zmq.zmq_poll([(socket, zmq.POLLIN) for socket in by_socket], max(0, int(timeout_s * 1000)))
    return [by_socket[socket] for socket, _ in ready]  # type: ignore[index]
