"""Who is let in: the answerer of ZAP (RFC 27) for the bound sockets of one role, and what becomes of keys that are taken back.

libzmq asks before it completes a handshake, over a socket in the role's own context, which the role's own loop reads: there is
no thread, and nobody gets in while the loop stands still. It does not close a connection that it has let in, and neither does a
ROUTER. So whose key is taken back is cut off below it: the kernel shuts the connection's descriptor down, libzmq reads its
end as if the peer had closed it, and the role sees a lost peer.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import zmq
from zmq.utils import z85

from cbw.core.key import Key
from cbw.keys.allowed import Allowed
from cbw.keys.key_file import KeyPair
from cbw.keys.refusals import RefusedPeers
from cbw.transport.curve import port_options
from cbw.transport.poller import has_input
from cbw.transport.sockets import SocketContext, new_socket

_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
TURN_ANSWERS = 64
"""How many are let in or refused in one turn of the role, which has others to serve."""
ALLOWED_LOOK_S = 0.25
"""Seconds between two looks whether the file ``allowed`` has changed."""


class Gate:
    """Lets peers in whose keys are ``allowed``, on the ports that these are good for.

    The owner polls :attr:`news`, and calls :meth:`turn` when it is ready and by :attr:`look_at`.

    Raises:
        NotReady: no descriptors are left.
    """

    def __init__(self, context: SocketContext, pair: KeyPair, allowed: Allowed) -> None:
        self.allowed = allowed
        self.refusals = RefusedPeers()
        self._pair = pair
        self.look_at = 0.0
        """When to look at the file ``allowed`` again, or to go on with those that ask; monotonic seconds."""
        self._socket = new_socket(context, zmq.REP, (zmq.LINGER, 0))
        self._socket.bind(_ENDPOINT)
        self.news: int = self._socket.FD

    def options(self, port: str) -> tuple[tuple[int, Any], ...]:
        """The options of a socket that is to be bound as ``port``."""
        return port_options(self._pair, port)

    def key_of(self, public: str, port: str) -> Key | None:
        """The key with this public half, if its owner may (still) be connected to ``port``."""
        key = self.allowed.get(public)
        return key if key is not None and key.opens(port) else None

    def turn(self, now: float) -> set[str]:
        """Answer who asks to be let in. Returns the public halves of keys that were taken back or allow something else now."""
        self.look_at = now + ALLOWED_LOOK_S
        changed = self.allowed.refresh()
        for _ in range(TURN_ANSWERS):
            if not has_input(self._socket):
                return changed
            self._answer(self._socket.recv_multipart(), now)
        self.look_at = now  # the descriptor is readable once for all that ask
        return changed

    def _answer(self, frames: list[bytes], now: float) -> None:
        if len(frames) < 6 or frames[0] != _VERSION:  # only libzmq itself can ask here
            self._socket.send_multipart([_VERSION, frames[1] if len(frames) > 1 else b"", b"500", b"", b"", b""])
            return
        _, number, domain, address, _, mechanism, *credentials = frames  # the identity is that of our own socket
        port = domain.decode(errors="replace")
        public = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and credentials else ""
        why = self._why_not(port, public)
        if why:
            self.refusals.note(address.decode(errors="replace"), why, now)
        status, user = (b"400", b"") if why else (b"200", public.encode())
        self._socket.send_multipart([_VERSION, number, status, b"", user, b""])

    def _why_not(self, port: str, public: str) -> str:
        key = self.allowed.get(public)
        if key is None:
            return f"its key {public} is not allowed" if public else "it has no key"
        if not key.opens(port):
            return f"{key.name} has the key of a {key.role}, which does not open the port for {port}"
        return ""

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close(0)


def address_of(descriptor: int) -> str:
    """The address of the other end of a connection, as long as it is open."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return str(copy.getpeername()[0])
    except (OSError, ValueError, IndexError):
        return "a peer that has gone"
