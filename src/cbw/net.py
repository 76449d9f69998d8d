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
  stranger's. Names are resolved anew at each attempt (libzmq does, and :mod:`cbw.place` for those with several addresses),
  and an attempt that hangs in SYN_SENT is given up after 2 s (cppzmq#603: a peer that came back with another address was
  never found again).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

import msgspec
import zmq

from cbw.core.connections import Connections
from cbw.errors import MORE_FILES, CannotBind, NotReady, UsageError
from cbw.fork import let_go, tell_if_forked
from cbw.place import Place, endpoint_of
from cbw.sleeper import has_input

HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000
WORKER_HEARTBEAT_TIMEOUT_MS = 10_000
"""Between broker and workers beats tell within 3 s who is lost; the connection of a frozen worker is kept for longer, so
that what it says when it wakes arrives, is fenced off, and stands in the trace."""
KEEPALIVE_S = 1
"""So often TCP asks the kernel of a silent peer whether it is there."""
CONNECT_TIMEOUT_MS = 2000
RECONNECT_MS = 50
RECONNECT_MAX_MS = 1000
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
_NOBLOCK = int(zmq.NOBLOCK)  # plain: arithmetic on enum members costs a microsecond each
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_send_frame = zmq.backend.Socket.send
"""What ``zmq.Socket.send`` calls when it has looked at options that are for sockets of other types."""
_EVENT = struct.Struct("=hi")


class Arrival(msgspec.Struct, gc=False):
    """A message at a ROUTER.

    ``is_replaced``: the peer spoke before, over another connection. ``excess``: why it is larger than a message may be;
    then ``frames`` are only the first of it, and the rest is gone.
    """

    peer: bytes
    frames: list[Any]
    is_replaced: bool
    excess: str = ""


class Sent(Enum):
    """What became of a message that was to be sent."""

    YES = "sent"
    UNREACHABLE = "unreachable"  #: there is no such peer
    FULL = "full"  #: the peer does not read; try again later


class Router:
    """A bound ROUTER that knows which connection its peers speak over, and tells when one is lost.

    Raises:
        CannotBind: the port is taken, or may not be used.
    """

    def __init__(
        self, context: zmq.Context[Any], host: str, port: int, *, body_bytes_max: int, is_for_workers: bool = False
    ) -> None:
        silence_ms = WORKER_HEARTBEAT_TIMEOUT_MS if is_for_workers else HEARTBEAT_TIMEOUT_MS
        options = (
            (zmq.IPV6, int(":" in host)),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.LINGER, LINGER_MS),
            (zmq.SNDHWM, HWM_MESSAGES),
            (zmq.RCVHWM, HWM_MESSAGES),
            (zmq.BACKLOG, BACKLOG),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_CNT, silence_ms // 1000 // KEEPALIVE_S),
            (zmq.TCP_MAXRT, silence_ms),  # TCP_USER_TIMEOUT
            (zmq.MAXMSGSIZE, body_bytes_max + ENVELOPE_BYTES),  # of one frame; see _read for all of them
        )
        self.socket = _socket(context, zmq.ROUTER, *options)
        self._message_bytes_max = body_bytes_max + ENVELOPE_BYTES
        self.monitor = _monitor(self.socket, zmq.EVENT_ACCEPTED)
        try:
            self.socket.bind(endpoint_of(host, port))
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise _cannot_bind(host, port, error) from None
        self.monitor_news: int = self.monitor.FD
        self.port = int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self.connections = Connections()
        self._has_input: bool | None = False  # as the last sleep said, or the last receive found; None: ask
        self._has_connected = False

    def receive(self, limit: int) -> Iterator[Arrival]:
        """Up to ``limit`` messages, if the last sleep said that there are any. Whether there are more, the next one says."""
        if not self._has_input:
            if self._has_input is False and self.connections.is_all_read:
                return
            self._has_input = has_input(self.socket)  # more may have come since
        socket, certain = self.socket, self.connections.certain
        while self._has_input and limit:
            limit -= 1
            peer = socket.recv(_NOBLOCK)
            first = socket.recv(_NOBLOCK, False)
            frames, excess = self._read(first)
            is_replaced = False if peer in certain else self._spoke(peer, first)
            self._has_input = has_input(socket) if limit else None
            yield Arrival(peer, frames, is_replaced, excess)
        if self._has_input is False and not self.connections.is_all_read:
            self.connections.all_is_read()

    def _read(self, first: zmq.Frame) -> tuple[list[Any], str]:
        """The message that begins with ``first``, up to where it becomes too large, and why it is."""
        frames: list[Any] = [first.bytes]
        left = self._message_bytes_max - len(first)
        frame = first
        while frame.more:
            frame = self.socket.recv(_NOBLOCK, False)
            left -= len(frame)
            if left < 0 or len(frames) == FRAMES_MAX:
                limit = f"{FRAMES_MAX} frames" if left >= 0 else f"{self._message_bytes_max} bytes"
                while frame.more:
                    frame = self.socket.recv(_NOBLOCK, False)
                return frames, f"a message of more than {limit}"
            frames.append(frame.bytes if len(frames) < 2 else frame.buffer)
        return frames, ""

    def woke(self, news: Container[Any]) -> None:
        """Take note of what a :class:`Sleeper` said."""
        self._has_input = self.socket in news
        if self.monitor_news in news:
            self.watch()

    def _spoke(self, peer: bytes, first: zmq.Frame) -> bool:
        """Note over which connection ``peer`` speaks; whether it is another one than before."""
        try:
            fd: int = first.get(zmq.SRCFD)
        except zmq.ZMQError:  # it speaks ZMTP 2.0 or earlier, of which libzmq tells nothing
            return False
        self.watch()
        return self.connections.spoke(peer, fd)

    @property
    def has_changes(self) -> bool:
        """Whether connections were made or lost since they were last taken."""
        return self._has_connected or bool(self.connections.lost)

    def watch(self) -> None:
        """Read the monitor."""
        while has_input(self.monitor):
            event, value = _EVENT.unpack(self.monitor.recv_multipart(_NOBLOCK)[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._has_connected = True
            elif event == zmq.EVENT_ACCEPTED:
                self.connections.accepted(value)
            else:
                self.connections.ended(value, time.monotonic())

    def take_lost(self) -> list[bytes]:
        """The peers whose connections were lost since the last call; see :meth:`~cbw.core.connections.Connections.take_lost`."""
        return self.connections.take_lost(time.monotonic())

    def take_connected(self) -> bool:
        """Whether anybody has connected since the last call."""
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def take_doubts(self) -> list[tuple[bytes, bool]]:
        """Who is in doubt; see :meth:`~cbw.core.connections.Connections.take_doubts`."""
        self.watch()
        return self.connections.take_doubts(time.monotonic())

    def send(self, peer: bytes, frames: Sequence[Any], *, is_copied: bool = True) -> Sent:
        """Send one message, or say why not. ``is_copied=False`` saves a copy of big frames and costs more for small ones."""
        try:
            _send_frame(self.socket, peer, _MORE)
            _send(self.socket, frames, is_copied)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return Sent.UNREACHABLE
        return Sent.YES

    def close(self) -> None:
        """Close, delivering what was sent for at most a second."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close()


class Pull:
    """A bound PULL: messages from any PUSH, whoever that is.

    Raises:
        CannotBind: the port is taken, or may not be used.
    """

    def __init__(self, context: zmq.Context[Any], host: str, port: int, *, bytes_max: int) -> None:
        options = ((zmq.IPV6, int(":" in host)), (zmq.MAXMSGSIZE, bytes_max), (zmq.BACKLOG, BACKLOG))
        self.socket = _socket(context, zmq.PULL, *options)
        try:
            self.socket.bind(endpoint_of(host, port))
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise _cannot_bind(host, port, error) from None
        self.port = int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    def receive(self, limit: int) -> Iterator[list[bytes]]:
        """Up to ``limit`` messages that are there now, each its frames."""
        for _ in range(limit):
            try:
                yield self.socket.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return

    @property
    def has_input(self) -> bool:
        """Whether a message is there."""
        return has_input(self.socket)

    def close(self) -> None:
        """Close; what was not received is lost."""
        self.socket.close(0)


class Link:
    """Our end of a connection to a broker: a DEALER that says when it is connected and when it is not."""

    def __init__(self, context: zmq.Context[Any], host: str, port: int, *, is_for_worker: bool = False) -> None:
        self._context = context
        self._heartbeat_timeout_ms = WORKER_HEARTBEAT_TIMEOUT_MS if is_for_worker else HEARTBEAT_TIMEOUT_MS
        self.place = Place(host, port)
        self.is_connected = False
        self._open()
        tell_if_forked(self)

    def inherited(self) -> None:
        """A forked process has a copy of the connection, which would seem to live as long as it does."""
        let_go(self.place.peers)

    def _open(self) -> None:
        self.unsent: list[Sequence[Any]] = []  # messages that wait for room
        options = (
            (zmq.IPV6, int(self.place.is_ipv6)),
            (zmq.LINGER, LINGER_MS),
            (zmq.SNDHWM, HWM_MESSAGES),
            (zmq.RCVHWM, 0),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, self._heartbeat_timeout_ms),
            (zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS),
            (zmq.HANDSHAKE_IVL, HEARTBEAT_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
        )
        socket = _socket(self._context, zmq.DEALER, *options)
        self.monitor = _monitor(socket, zmq.EVENT_CLOSED if self.place.is_several else 0)
        self.socket = socket
        self._has_input: bool | None = None  # as the last sleep said; None: ask
        self._endpoint = self.place.endpoint
        try:
            self.socket.connect(self._endpoint)
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise UsageError(f"{self._endpoint!r} is no address: {_why(error)}") from None
        self.news: int = self.socket.FD
        self.monitor_news: int = self.monitor.FD

    def reopen(self) -> None:
        """Drop the connection, dead or not, and make another.

        Raises:
            NotReady: no descriptors are left; it can be tried again.
        """
        self.is_connected = False
        self.close()
        self.place.look()
        self._open()

    def watch(self) -> Iterator[bool]:
        """Read the monitor: True for each connection made, False for each lost, in order."""
        while True:
            try:
                news, endpoint = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event, _ = _EVENT.unpack(news)
            if event == zmq.EVENT_CLOSED:
                if endpoint == self._endpoint.encode():
                    self.place.failed()
                    self._move()
                continue
            was_connected, self.is_connected = self.is_connected, event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if not self.is_connected:
                self.unsent.clear()
            if not self.is_connected and self.place.is_several:
                if was_connected:
                    self.place.look()
                else:  # it took the connection and said nothing: a frozen program's kernel does that
                    self.place.failed()
                self._move()
            yield self.is_connected

    def _move(self) -> None:
        """Connect to where the place is now."""
        before, self._endpoint = self._endpoint, self.place.endpoint
        if before != self._endpoint:
            self.socket.disconnect(before)
            self.socket.connect(self._endpoint)

    def receive(self) -> list[Any] | None:
        """The frames of the next message that is there, or None. Frames behind the batch are not copied.

        To ask for one more costs as much as to answer a small one; the next sleep tells of it as well.
        """
        if not self.has_input:
            return None
        self._has_input = None
        return _frames(self.socket, self.socket.recv(_NOBLOCK, False))

    @property
    def has_input(self) -> bool:
        """Whether a message is there."""
        if self._has_input is None:
            self._has_input = has_input(self.socket)
        return self._has_input

    def woke(self, news: Container[Any]) -> bool:
        """Take note of what a :class:`Sleeper` said; True: :meth:`watch` has something to tell."""
        self._has_input = self.socket in news
        return self.monitor_news in news

    def forget_input(self) -> None:
        """Ask the socket itself whether a message is there: for those that do not sleep, as in an event loop.

        That knows only :attr:`news`, by which libzmq says once that there is news, and not while it is being sent to.
        """
        self._has_input = None

    def send(self, frames: Sequence[Any]) -> bool:
        """Send one message; False if that is not possible now."""
        if not self.is_connected:
            return False
        self._has_input = None
        try:
            _send(self.socket, frames, len(frames) <= 2)
        except zmq.Again:
            return False
        return True

    def post(self, messages: Iterable[Sequence[Any]]) -> None:
        """Send messages, or keep those that cannot be sent now until the next call, or until the connection is lost."""
        unsent = self.unsent
        while unsent and self.send(unsent[0]):
            del unsent[0]
        for frames in messages:
            if unsent or not self.send(frames):
                unsent.append(frames)

    def close(self) -> None:
        """Close, delivering what was sent, if there is a connection, for at most a second. Safe to call twice."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(None if self.is_connected else 0)


def _socket(context: zmq.Context[Any], kind: int, *options: tuple[int, int]) -> zmq.Socket[bytes]:
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


def _monitor(socket: zmq.Socket[bytes], more: int = 0) -> zmq.Socket[bytes]:
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
        monitor.recv(_NOBLOCK)
    return monitor


def _frames(socket: zmq.Socket[bytes], first: zmq.Frame) -> list[Any]:
    """The message that begins with ``first``: two frames as bytes, those behind, which may be big, as views."""
    frames: list[Any] = [first.bytes]
    frame = first
    while frame.more:
        frame = socket.recv(_NOBLOCK, False)
        frames.append(frame.bytes if len(frames) < 2 else frame.buffer)
    return frames


def _send(socket: zmq.Socket[bytes], frames: Sequence[Any], is_copied: bool) -> None:
    *first, last = frames
    for frame in first:
        _send_frame(socket, frame, _MORE, is_copied)
    _send_frame(socket, last, _NOBLOCK, is_copied)


def _why(error: zmq.ZMQError | UnicodeError) -> str:
    return "not a host name" if isinstance(error, UnicodeError) else str(error.strerror)


def _no_socket(error: zmq.ZMQError) -> NotReady:
    return NotReady(f"no socket is to be had: {error.strerror}", advice=MORE_FILES)


def _cannot_bind(host: str, port: int, error: zmq.ZMQError | UnicodeError) -> CannotBind:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return CannotBind(
            f"port {port} is in use",
            advice=f"Stop what listens there (ss -ltnp 'sport = :{port}'), or give another port.",
        )
    if number == errno.EACCES:
        return CannotBind(f"port {port} may not be used: permission denied", advice="Give a port above 1023.")
    if number in (errno.EMFILE, errno.ENFILE):
        return CannotBind(f"cannot listen on port {port}: {os.strerror(number)}", advice=MORE_FILES)
    if number in (errno.ENODEV, errno.EADDRNOTAVAIL):
        return CannotBind(f"{host!r} is no address of this machine", advice="Check --host; * is every address.")
    return CannotBind(f"cannot listen on {host}:{port}: {_why(error)}", advice="Check --host and the port.")
