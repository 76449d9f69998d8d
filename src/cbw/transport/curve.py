"""CURVE (RFC 26), the encryption of ZeroMQ: how sockets are told their keys, and what a failed handshake means.

libzmq's monitor tells three failures apart (measured, 4.3.5): a key that is not let in is ``AUTH`` 400 at both ends; a client
that expects another server key sees the connection end (``NO_DETAIL``), its server a cryptographic error; if only one side uses
keys, both see that the mechanisms differ.
"""

from __future__ import annotations

import socket
from typing import Any

import zmq

from cbw.core.messages import Refusal, Refused
from cbw.keys.folder import LinkKeys
from cbw.keys.key_file import KeyPair

HANDSHAKE_FAILED = int(
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
"""The events of a monitor that tell of a handshake that failed."""
MECHANISMS_DIFFER = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
"""The value of ``EVENT_HANDSHAKE_FAILED_PROTOCOL`` if only one side uses keys."""
NOT_DECRYPTED = int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
"""Its value at a server whose key is another than its peer expects."""
_ENDED_TIMES = 3
"""After so many handshakes in a row that the other side has ended, it is asked whether it uses keys."""
_GREETING_S = 0.5
"""Time for the other side's greeting. Nothing else can be done meanwhile, but there is no connection either."""
_GREETING = b"\xff" + 8 * b"\0" + b"\x7f\x03\x00"
"""How the greeting of ZMTP 3.0 (RFC 23) begins. The bytes from 12 to 31 name the mechanism; those of the other side come if we
keep ours to ourselves."""


def new_pair() -> KeyPair:
    """A new key, of the system's random numbers."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def link_options(keys: LinkKeys) -> tuple[tuple[int, Any], ...]:
    """The options of a socket that connects with ``keys``."""
    return (
        (zmq.CURVE_SERVERKEY, keys.server.encode()),
        (zmq.CURVE_PUBLICKEY, keys.own.public.encode()),
        (zmq.CURVE_SECRETKEY, keys.own.secret.encode()),
    )


def port_options(pair: KeyPair, port: str) -> tuple[tuple[int, Any], ...]:
    """The options of a socket that is bound as ``port``, with the keys ``pair``, whose peers a gate lets in or not."""
    return (
        (zmq.CURVE_SERVER, 1),
        (zmq.CURVE_PUBLICKEY, pair.public.encode()),
        (zmq.CURVE_SECRETKEY, pair.secret.encode()),
        (zmq.ZAP_DOMAIN, port.encode()),
    )


class Handshakes:
    """The handshakes of a link that connects again and again: whether they fail because of keys, so that they always will."""

    def __init__(self, *, has_keys: bool) -> None:
        self.refusal: Refused | None = None
        """Why there can be no connection; None: there may be one."""
        self._has_keys = has_keys
        self._ended = 0  # in a row
        self._asks_at = _ENDED_TIMES

    def succeeded(self) -> None:
        """A handshake has succeeded."""
        self._ended = 0
        self._asks_at = _ENDED_TIMES

    def failed(self, event: int, value: int, endpoint: str) -> None:
        """A handshake with ``endpoint`` has failed, as a monitor tells."""
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.refusal = Refused(Refusal.KEY, f"{_place(endpoint)} does not let this key in")
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISMS_DIFFER:
            who = "this side uses keys, and {} does not" if self._has_keys else "{} uses keys, and this side does not"
            self.refusal = Refused(Refusal.KEYS_MISSING, who.format(_place(endpoint)))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and self._has_keys:
            self._ended += 1
            if (
                self._ended >= self._asks_at
            ):  # a role that dies, and Docker's proxy of one that is not there, do that too
                self._asks_at *= 2
                if _mechanism_at(endpoint) == b"CURVE":
                    text = f"{_place(endpoint)} has another key than the one that is expected"
                    self.refusal = Refused(Refusal.WRONG_SERVER_KEY, text)


def _place(endpoint: str) -> str:
    return endpoint.removeprefix("tcp://")


def _mechanism_at(endpoint: str) -> bytes:
    """The security mechanism that whoever listens at ``endpoint`` names in its greeting; empty: it says nothing."""
    host, _, port = _place(endpoint).rpartition(":")
    said = b""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _GREETING_S) as peer:
            peer.settimeout(_GREETING_S)
            peer.sendall(_GREETING)
            while len(said) < 32 and (more := peer.recv(64)):
                said += more
    except (OSError, ValueError):
        pass
    return said[12:32].rstrip(b"\0")


def describe_failure(event: int, value: int) -> str:
    """What a server's monitor tells of a handshake that failed, in words for its log; empty: it has nothing to do with keys."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == MECHANISMS_DIFFER:
        return "it comes without a key"
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == NOT_DECRYPTED:
        return "it expects another key of this side"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # as one without keys does that was first to see the difference
        return "it left before it showed a key"
    return ""
