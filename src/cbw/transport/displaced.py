"""Programs that live on without their identity, which another program has taken: they are told so, whatever they say.

A ROUTER gives an identity to the newest connection that claims it. The earlier one it neither reads nor closes (libzmq 4.3), so
its program would wait for ever. To hang up on it would not help: its socket would connect again without a word, take the
identity back, and wait on. So the connection is taken out of libzmq. A second descriptor keeps it open while libzmq, to which
the kernel shows the end of its input, closes its own; and over that descriptor the program gets one message, at once and each
time that it says anything. A REQ socket drops such a message if it has not asked. That goes on when the other program has gone:
whatever was said in the moment of a hang-up would be lost.

If the program has said something meanwhile, libzmq has read it and reads no more: then it does not look for the end of its
input either, and keeps its descriptor, which it neither reads nor writes, until the ROUTER is closed.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios

from cbw.core.port import Frames
from cbw.transport.connections import Connections

PERIOD_S = 0.05
"""Seconds between two looks at these connections."""
HELD_MAX = 64
"""Connections that are held at a time; beyond that the earliest is closed. Each takes a descriptor."""
CLOSING_LOOKS = 3
"""Looks after which libzmq would have closed its descriptor: it has stopped to read."""
HEARD_BYTES_MAX = 1 << 16
"""Bytes that a look reads from one of them. Nothing is made of them but that they came; who says more is told again."""
_ESTABLISHED = 1  # the first byte of TCP_INFO: the state of the connection, as in the kernel's tcp_states.h
_COUNT = struct.Struct("i")
_MORE, _LONG = 1, 2  # flags of a frame in ZMTP 3 (RFC 37)
_SHORT_BYTES_MAX = 255


class Displaced:
    """The connections of one ROUTER, without keys, whose programs are told that they have lost their identity."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: list[_Held] = []
        self._look_at = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._held)

    def tell(self, peer: bytes, frames: Frames) -> None:
        """Tell ``frames`` to those that were ``peer`` before another connection was, from the next looks on."""
        for descriptor in self._connections.displaced(peer):
            if not any(held.descriptor == descriptor and self._is_libzmqs(held) for held in self._held):
                self._hold(peer, descriptor, encode(frames))

    def look(self, now: float) -> None:
        """Go on with all of them, if it is time."""
        if now < self._look_at:
            return
        self._look_at = now + PERIOD_S
        self._held = [held for held in self._held if self._goes_on(held, now)]

    def close(self) -> None:
        """Hang up on all."""
        while self._held:
            self._held.pop().close()

    def _hold(self, peer: bytes, descriptor: int, text: bytes) -> None:
        try:
            copy = socket.socket(fileno=os.dup(descriptor))
        except OSError:  # no descriptor is left, or libzmq has just closed that one
            return
        copy.setblocking(False)
        self._held.append(_Held(peer, descriptor, self._connections.number_of(descriptor), copy, text))
        if len(self._held) > HELD_MAX:
            self._held[0].copy.shutdown(socket.SHUT_RDWR)  # the next look finds it closed

    def _goes_on(self, held: _Held, now: float) -> bool:
        """Do what is next with one; whether there will be more to do."""
        try:
            if held.is_open and (held.is_parted or self._is_libzmqs(held)):
                if held.is_parted:
                    self._attend(held)
                elif held.is_quiet():
                    held.part()
                    self._connections.hold(held.descriptor)
                return True
        except OSError:  # it is reset, or does not read
            pass
        held.close()
        if held.is_parted:
            if self._is_libzmqs(held):
                self._connections.ended(held.descriptor, now)
            self._connections.released(held.peer, now)
        return False

    def _is_libzmqs(self, held: _Held) -> bool:
        """Whether libzmq has not closed its descriptor of it, as far as the monitor has told."""
        return self._connections.number_of(held.descriptor) == held.number

    def _attend(self, held: _Held) -> None:
        held.looks_left -= 1
        if held.looks_left > 0 and self._is_libzmqs(held):
            return
        if held.has_spoken() or not held.is_told:
            held.tell()


class _Held:
    """A connection that is not a ROUTER's any more. ``number`` is that by which the ROUTER's connections are counted."""

    def __init__(self, peer: bytes, descriptor: int, number: int | None, copy: socket.socket, text: bytes) -> None:
        self.peer = peer
        self.descriptor = descriptor
        self.number = number
        self.copy = copy
        self.is_parted = False
        """Whether libzmq was made to let go of it."""
        self.looks_left = CLOSING_LOOKS
        self.is_told = False
        self._text = text
        self._was_quiet = False

    @property
    def is_open(self) -> bool:
        """Whether its other end is, as far as the kernel knows."""
        return self.copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED

    def is_quiet(self) -> bool:
        """Whether nothing was on its way out, now and at the last look: so libzmq has sent no half of a message."""
        unsent = _COUNT.unpack(fcntl.ioctl(self.copy, termios.TIOCOUTQ, bytes(_COUNT.size)))[0]
        was_quiet, self._was_quiet = self._was_quiet, not unsent
        return was_quiet and not unsent

    def part(self) -> None:
        """Show libzmq the end of its input. What comes later can still be read here."""
        self.copy.shutdown(socket.SHUT_RD)
        self.is_parted = True

    def has_spoken(self) -> bool:
        """Whether anything has come since the last call."""
        return bool(self.copy.recv(HEARD_BYTES_MAX))  # no bytes: there are none

    def tell(self) -> None:
        """Send the message."""
        self.is_told = True
        if self.copy.send(self._text) < len(self._text):
            raise BlockingIOError

    def close(self) -> None:
        self.copy.close()


def encode(frames: Frames) -> bytes:
    """A message as ZMTP 3 has it on the wire where nothing is encrypted (RFC 37)."""
    message = bytearray()
    for number, frame in enumerate(frames, 1):
        more = _MORE if number < len(frames) else 0
        if len(frame) <= _SHORT_BYTES_MAX:
            message += bytes((more, len(frame)))
        else:
            message += bytes((more | _LONG,)) + len(frame).to_bytes(8, "big")
        message += frame
    return bytes(message)
