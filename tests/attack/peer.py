"""A peer that speaks ZMTP 3 over a plain TCP socket (RFC 23), so that it can say what no ZeroMQ library would."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable

PATIENCE_S = 5.0
MORE, LONG, COMMAND = 1, 2, 4
"""Flags of a frame."""


def greeting(mechanism: bytes = b"NULL", version: tuple[int, int] = (3, 0)) -> bytes:
    """The 64 bytes with which each side begins."""
    return b"\xff" + bytes(8) + b"\x7f" + bytes(version) + mechanism.ljust(20, b"\0")[:20] + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame, with its length in one byte or in eight."""
    if len(body) < 256 and not flags & LONG:
        return bytes([flags, len(body)]) + body
    return bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body


def command(name: bytes, rest: bytes = b"") -> bytes:
    """A command, such as READY, PING or SUBSCRIBE."""
    return frame(bytes([len(name)]) + name + rest, COMMAND)


def ready(kind: bytes = b"DEALER", identity: bytes = b"", more: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The command that ends the handshake of the NULL mechanism."""
    properties = [(b"Socket-Type", kind), (b"Identity", identity), *more]
    return command(b"READY", b"".join(bytes([len(n)]) + n + struct.pack(">I", len(v)) + v for n, v in properties))


def message(*frames: bytes) -> bytes:
    """A message of these frames."""
    return b"".join(frame(body, MORE) for body in frames[:-1]) + frame(frames[-1])


class RawPeer:
    """A TCP connection to one of our ports. In a ``with`` statement it is reset at the end."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), PATIENCE_S)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    @classmethod
    def greeted(cls, port: int, identity: bytes = b"", kind: bytes = b"DEALER") -> RawPeer:
        """One whose handshake has succeeded."""
        peer = cls(port)
        peer.say(greeting() + ready(kind, identity))
        peer.read_until(b"READY")
        return peer

    def say(self, data: bytes) -> None:
        """Send these bytes."""
        self.socket.sendall(data)

    def read_until(self, wanted: bytes) -> bytes:
        """Read until ``wanted`` has come; everything that came.

        Raises:
            EOFError: the other side has closed the connection.
            TimeoutError: it has not come.
        """
        data = b""
        while wanted not in data:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(data)
            data += more
        return data

    def reads_nothing(self, seconds: float) -> bool:
        """Whether nothing comes in this time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(65536) == b""
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)

    def reset(self) -> None:
        """End the connection with an RST, in the middle of whatever is under way."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
