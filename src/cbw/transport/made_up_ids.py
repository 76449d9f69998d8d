"""The routing ids that a ROUTER makes up for peers that set none, and what everybody else calls them.

libzmq numbers such connections one after another, beginning at a number that it takes from ``rand()`` and therefore at the same
one in every process, as it never seeds that. Whoever knows where it is can claim an id in the handshake. If it is that of a
living connection, libzmq closes that and sends to the stranger what is meant for it (``router.cpp``, ``identify_peer``). If it is
the next one, the next ordinary connection ends the process (``socket_base.cpp``: ``Assertion failed: ok``). No authenticator can
refuse such a claim: ZAP is not told of it.

So the ids begin at random here, and no one learns any: outside of :mod:`cbw.transport` a connection is known by how many ids
were made up before it, counted from 1.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import zmq

from cbw.transport.sockets import SocketContext, new_socket

ID_BYTES_MAX = 255
"""Longest identity that a peer may set (``zmq_setsockopt``, ``ZMQ_ROUTING_ID``). In a handshake libzmq takes any."""
_MADE_UP_BYTES = 5
_NUMBERS = 1 << 32


def begin_anywhere() -> None:
    """Let the next ROUTER of this process begin at a number that nobody knows."""
    ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))


class MadeUpIds:
    """The identities that one ROUTER, which is not bound yet, will make up.

    Raises:
        NotReady: no descriptors are left.
    """

    def __init__(self, context: SocketContext, socket: zmq.Socket[Any]) -> None:
        self.names: dict[bytes, bytes] = {}
        """What everybody else calls them, of connections that have spoken."""
        self.ids: dict[bytes, bytes] = {}
        """Which ids they are, by their names."""
        self._first = _number_of(_first_id(context, socket))

    def fault_of(self, peer: bytes, connections: int) -> str:
        """Why the id ``peer`` is not to be heard, if ``connections`` were made so far; empty: it is, and has a name from now on
        if it was made up.
        """
        if len(peer) > ID_BYTES_MAX:
            return f"an identity of {len(peer)} bytes; one has at most {ID_BYTES_MAX}"
        if peer[0] or peer in self.names:
            return ""
        number = (_number_of(peer) - self._first) % _NUMBERS
        if len(peer) != _MADE_UP_BYTES or not 0 < number <= connections:
            return "an identity that begins with a zero byte, as only those do that the socket makes up"
        name = b"\0" + number.to_bytes(_MADE_UP_BYTES - 1, "big")
        self.names[peer] = name
        self.ids[name] = peer
        return ""

    def forget(self, peer: bytes) -> bytes:
        """The connection of ``peer`` is gone; what it was called."""
        name = self.names.pop(peer, peer)
        self.ids.pop(name, None)
        return name


def _number_of(peer: bytes) -> int:
    return int.from_bytes(peer[1:], "big")


def _first_id(context: SocketContext, socket: zmq.Socket[Any]) -> bytes:
    """The first id that ``socket`` makes up: it is spent for a peer in this process, who says something."""
    endpoint = f"inproc://{os.urandom(16).hex()}"
    socket.bind(endpoint)
    peer = new_socket(context, zmq.DEALER, (zmq.LINGER, 0))
    try:
        peer.connect(endpoint)
        peer.send(b"")
        first: bytes = socket.recv()
        socket.recv()
    finally:
        peer.close()
        socket.unbind(endpoint)
    return first
