"""The only file that makes ZeroMQ sockets, and the socket policy of cbw.

* A broker's ROUTER is *mandatory*: an unreachable peer is an event, not a message that vanishes. It *hands over*: of two
  connections with one identity the newer gets the messages, because a peer that reconnects must not be swallowed until
  its old connection is noticed to be dead (libzmq#2019, #778, #2010). CBW/1 peers set no identity, so that only touches
  plain ones; who they were before is told by the connection's descriptor.
* Dead connections are found on both ends without a line of Python. Our DEALERs send ZMTP heartbeats every second and give
  up after three (ten between broker and workers, who have beats of their own). A ROUTER sends none, and goes by whether the
  other kernel acknowledges what was sent and TCP's own probes: the answer to a heartbeat stands behind all that a peer has
  sent, which a paused port does not read; and a timer of a connection whose input libzmq has stopped, and whose peer has
  gone meanwhile, ends the process (``stream_engine_base.cpp``: ``Assertion failed: !_io_error``).
* Our own DEALERs send only while they are connected. They are not *immediate*, as that drops what was received and not read
  when a connection ends, in the middle of a message too, of which libzmq then makes an end of the process (``fq.cpp``:
  ``Assertion failed: !_more``). So the last words of an old connection may come before the hello of the next, as a
  stranger's. Names are resolved anew at each attempt: by libzmq, or by :mod:`cbw.transport.resolver` if they have several
  addresses. An attempt that hangs in SYN_SENT is given up after 2 s (cppzmq#603: a peer that came back with another address
  was never found again).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq

from cbw.errors import MORE_FILES, CannotBind, NotReady
from cbw.memory import check_space
from cbw.transport.descriptors import has_free

SocketContext = zmq.Context[Any]
"""Owns the input and output threads of a role's sockets."""
HEARTBEAT_MS = 1000
"""Time between two ZMTP PINGs to the other end of a connection."""
HEARTBEAT_TIMEOUT_MS = 3000
"""Silence after a PING that ends a connection, and the longest time of a handshake."""
WORKER_HEARTBEAT_TIMEOUT_MS = 10_000
"""Between broker and workers beats tell within 3 s who is lost; the connection of a frozen worker is kept for longer, so
that what it says when it wakes arrives, is fenced off, and stands in the trace."""
KEEPALIVE_S = 1
"""Seconds between two questions of TCP to the kernel of a silent peer, whether it is there."""
CONNECT_TIMEOUT_MS = 2000
"""Longest time for TCP to connect: a host that answers nothing is tried again, and no attempt lasts for minutes."""
RECONNECT_MS = 50
"""Time before the first attempt to connect again: a broker that is started again is found almost at once."""
RECONNECT_MAX_MS = 1000
"""Longest time between two attempts to connect, after many that failed."""
LINGER_MS = 1000
"""How long a closing socket may still deliver what was sent."""
HWM_MESSAGES = 1000
"""Messages that libzmq queues for one peer that does not read, before the sender is told."""
BACKLOG = 1024
"""Connections that may wait for the accept of a broker."""
ENVELOPE_BYTES = 1 << 20
"""What a message may hold beyond its largest body: the batch around it."""
FRAMES_MAX = 2048
"""Frames of a message: twice a full batch of CBW/1 whose bodies all have frames of their own. An empty frame takes 200
bytes here, so the bound on a message's bytes alone would be none."""
NOBLOCK = int(zmq.NOBLOCK)  # plain: arithmetic on enum members costs a microsecond each
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
send_frame = zmq.backend.Socket.send
"""What ``zmq.Socket.send`` calls when it has looked at options that are for sockets of other types."""
CONTEXT_FILES = 20
"""File descriptors that a role needs for its sockets, its threads and its own files until it serves: measured, 17 of a broker
with a journal and a status page. libzmq ends the process if it lacks one at the wrong moment, so they are counted before."""
MONITOR_EVENT = struct.Struct("=hi")


class _OwnContext(SocketContext):
    """A context that nobody has closed may be garbage, as that of a client which a function has made and left.

    pyzmq then closes its sockets, and waits until they are closed; but it knows them by weak references, which Python clears
    before it asks garbage to clean up. So it found none to close, and waited for ever. This one knows them while they are open.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sockets = set()  # type: ignore[assignment]

    def destroy(self, linger: int | None = 0) -> None:
        """Close all sockets, and drop what they have not delivered: garbage must not hold up who collects it."""
        super().destroy(linger)


class Intake(msgspec.Struct, frozen=True):
    """How much a bound socket has in memory that its owner has not worked on yet.

    ``unread_max`` is the number of messages that libzmq holds of one connection until they are received; then the peer has to
    wait. ``turn_bytes_max`` is the number of bytes after which a turn receives no further message. Batches of small requests
    stay far below it.
    """

    unread_max: int = HWM_MESSAGES
    turn_bytes_max: int = 16 << 20

    @staticmethod
    def within(bytes_max: int) -> Intake:
        """The intake for an owner that itself keeps up to ``bytes_max`` bytes: smaller than usual where this is small.

        A message is taken for 1 MiB, which is twice a full batch of CBW/1. With fewer than 16 messages, a peer that sends many
        small ones would have to wait after almost each of them.
        """
        usual = Intake()
        return Intake(min(usual.unread_max, max(16, bytes_max >> 20)), min(usual.turn_bytes_max, bytes_max // 4))


def new_context() -> SocketContext:
    """The context of a role.

    Raises:
        NotReady: the process may map too little for its threads, or open too few files.
    """
    check_space()
    if not has_free(CONTEXT_FILES):
        raise NotReady(f"this process may open fewer than {CONTEXT_FILES} more files", advice=MORE_FILES)
    return _OwnContext()


def new_socket(context: SocketContext, kind: int, *options: tuple[int, Any]) -> zmq.Socket[bytes]:
    """A socket with these options.

    Raises:
        NotReady: no descriptors are left.
    """
    try:
        socket: zmq.Socket[bytes] = context.socket(kind)
    except zmq.ZMQError as error:
        raise _no_socket(error) from None
    try:
        for option, value in options:
            socket.setsockopt(option, value)
    except BaseException:  # a context waits for its sockets when it ends
        socket.close(0)
        raise
    return socket


def new_monitor(socket: zmq.Socket[bytes], more: int = 0) -> zmq.Socket[bytes]:
    """A monitor of connections made and lost. It gives news only after a read that found nothing, so here is one.

    Raises:
        NotReady: no descriptors are left; ``socket`` is closed.
    """
    try:
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | more)
    except zmq.ZMQError as error:
        socket.close(0)
        raise _no_socket(error) from None
    with contextlib.suppress(zmq.Again):
        monitor.recv(NOBLOCK)
    return monitor


def read_frames(socket: zmq.Socket[bytes], first: zmq.Frame) -> list[Any]:
    """The message that begins with ``first``: two frames as bytes, those behind, which may be big, as views."""
    frames: list[Any] = [first.bytes]
    frame = first
    while frame.more:
        frame = socket.recv(NOBLOCK, False)
        frames.append(frame.bytes if len(frames) < 2 else frame.buffer)
    return frames


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Any], is_copied: bool) -> None:
    *first, last = frames
    for frame in first:
        send_frame(socket, frame, MORE, is_copied)
    send_frame(socket, last, NOBLOCK, is_copied)


def reason_of(error: zmq.ZMQError | UnicodeError) -> str:
    return "not a host name" if isinstance(error, UnicodeError) else str(error.strerror)


def _no_socket(error: zmq.ZMQError) -> NotReady:
    return NotReady(f"no socket is to be had: {error.strerror}", advice=MORE_FILES)


def cannot_bind(host: str, port: int, error: zmq.ZMQError | UnicodeError) -> CannotBind:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return CannotBind(
            f"port {port} is in use",
            advice=f"Stop what listens there (ss -ltnp 'sport = :{port}'), or give another port.",
        )
    if number == errno.EACCES:
        return CannotBind(f"port {port} may not be used: permission denied", advice="Give a port above 1023.")
    if number in (errno.EMFILE, errno.ENFILE):
        text = f"cannot listen on port {port}: {os.strerror(number)}"
        return CannotBind(text, advice=MORE_FILES)
    if number in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return CannotBind(f"{host!r} is no address of this machine", advice="Check --listen; * is every address.")
    return CannotBind(f"cannot listen on {host}:{port}: {reason_of(error)}", advice="Check --listen and the port.")
