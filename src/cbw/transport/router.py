"""A bound ROUTER: who speaks over which connection, and who is lost."""

from __future__ import annotations

import errno
import time
from collections.abc import Container, Iterable, Iterator
from typing import Any

import zmq

from cbw.core.port import Arrival, Frames, Sent
from cbw.transport.connections import Connections
from cbw.transport.curve import HANDSHAKE_FAILED
from cbw.transport.descriptors import comes_from_here, cut_off, is_spare
from cbw.transport.displaced import Displaced
from cbw.transport.made_up_ids import ID_BYTES_MAX, MadeUpIds, begin_anywhere
from cbw.transport.peer_keys import PeerKeys, gate_options
from cbw.transport.poller import has_input
from cbw.transport.resolver import endpoint_of
from cbw.transport.sockets import (
    BACKLOG,
    ENVELOPE_BYTES,
    FRAMES_MAX,
    HEARTBEAT_TIMEOUT_MS,
    HWM_MESSAGES,
    KEEPALIVE_S,
    LINGER_MS,
    MONITOR_EVENT,
    MORE,
    NOBLOCK,
    WORKER_HEARTBEAT_TIMEOUT_MS,
    Intake,
    SocketContext,
    cannot_bind,
    new_monitor,
    new_socket,
    send_frame,
    send_frames,
)

UNCOPIED_BYTES = 32 * 1024
"""From this size on the last frame of a message is sent without a copy of its own: below it a copy is cheaper."""

TURN_FRAMES = 2048
"""Frames after which a turn receives no further message. Reading one takes 1 to 2 µs, and everybody waits for a turn to end.
A turn of full size has 512 messages of 2 or 3 frames; only one with messages of hundreds of frames ends here."""
UNREACHABLE = (b"", b"\0")
"""How the names of connections begin that are lost, or that were not heard. (A stranger may have claimed such an identity.)"""

_SENT, _UNREACHABLE, _FULL = Sent.YES, Sent.UNREACHABLE, Sent.FULL  # for each message: as messages.OK


class Router:
    """A bound ROUTER that knows which connection its peers speak over, and tells when one is lost. With ``keys`` it is encrypted.

    Peers are called by the identities that they have set, and others by names of :class:`.MadeUpIds`.

    Raises:
        CannotBind: the port is taken, or may not be used.
    """

    def __init__(
        self,
        context: SocketContext,
        host: str,
        port: int,
        *,
        body_bytes_max: int,
        is_for_workers: bool = False,
        intake: Intake = Intake(),  # noqa: B008 - frozen
        keys: PeerKeys | None = None,
    ) -> None:
        self.keys = keys
        silence_ms = WORKER_HEARTBEAT_TIMEOUT_MS if is_for_workers else HEARTBEAT_TIMEOUT_MS
        options = (
            (zmq.IPV6, int(":" in host)),
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.LINGER, LINGER_MS),
            (zmq.SNDHWM, HWM_MESSAGES),
            (zmq.RCVHWM, intake.unread_max),
            (zmq.BACKLOG, BACKLOG),
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_S),
            (zmq.TCP_KEEPALIVE_CNT, silence_ms // 1000 // KEEPALIVE_S),
            (zmq.TCP_MAXRT, silence_ms),  # TCP_USER_TIMEOUT
            (zmq.MAXMSGSIZE, body_bytes_max + ENVELOPE_BYTES),  # of one frame; see _read for all of them
            *gate_options(keys),
        )
        self.connections = Connections()
        self.displaced = Displaced(self.connections)
        begin_anywhere()
        self.socket = new_socket(context, zmq.ROUTER, *options)
        try:
            self._made_up = MadeUpIds(context, self.socket)
        except BaseException:
            self.socket.close(0)
            raise
        self._turn_bytes_max = intake.turn_bytes_max
        self._message_bytes_max = body_bytes_max + ENVELOPE_BYTES
        self.monitor = new_monitor(self.socket, zmq.EVENT_ACCEPTED | (HANDSHAKE_FAILED if keys is not None else 0))
        try:
            self.socket.bind(endpoint_of(host, port))
        except (zmq.ZMQError, UnicodeError) as error:
            self.close()
            raise cannot_bind(host, port, error) from None
        self.monitor_news: int = self.monitor.FD
        self.port = int(self.socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._ids = self._made_up.ids
        self._has_input: bool | None = False  # as the last sleep said, or the last receive found; None: ask
        self._has_connected = False

    def receive(self, limit: int) -> Iterable[Arrival]:
        """Up to ``limit`` messages, fewer if they are large or have many frames, if the last sleep said that there are any.
        Whether there are more, the next one says.
        """
        if not self._has_input:
            if self._has_input is False and self.connections.is_all_read:
                return ()
            self._has_input = has_input(self.socket)  # more may have come since
        return self._received(limit)

    def _received(self, limit: int) -> Iterator[Arrival]:
        socket, certain, names = self.socket, self.connections.certain, self._made_up.names
        bytes_max, frames_max = self._turn_bytes_max, TURN_FRAMES
        while self._has_input and limit:
            limit -= 1
            peer = socket.recv(NOBLOCK)
            first = socket.recv(NOBLOCK, False)
            frames, fault, size = self._read(first)
            is_replaced = False
            if peer not in certain:
                if (peer[0] == 0 or len(peer) > ID_BYTES_MAX) and (claim := self._claim_of(peer)):
                    peer, frames, fault = b"", [], claim
                else:
                    is_replaced = self._spoke(peer, first)
            bytes_max -= size
            frames_max -= len(frames)
            if bytes_max <= 0 or frames_max <= 0:
                limit = 0
            self._has_input = has_input(socket) if limit else None
            yield Arrival(names.get(peer, peer), frames, is_replaced, fault)
        if self._has_input is False and not self.connections.is_all_read:
            self.connections.all_is_read()

    def _read(self, first: zmq.Frame) -> tuple[list[Any], str, int]:
        """The message that begins with ``first``, up to where it becomes too large; why it is; the bytes that were read."""
        frames: list[Any] = [first.bytes]
        left = self._message_bytes_max - len(first)
        frame = first
        while frame.more:
            frame = self.socket.recv(NOBLOCK, False)
            left -= len(frame)
            if left < 0 or len(frames) == FRAMES_MAX:
                limit = f"{FRAMES_MAX} frames" if left >= 0 else f"{self._message_bytes_max} bytes"
                while frame.more:
                    frame = self.socket.recv(NOBLOCK, False)
                return frames, f"a message of more than {limit}", self._message_bytes_max - left
            frames.append(frame.bytes if len(frames) < 2 else frame.buffer)
        return frames, "", self._message_bytes_max - left

    def on_ready(self, news: Container[Any]) -> None:
        """Take note of what a :class:`Poller` said."""
        self._has_input = self.socket in news
        if self.monitor_news in news:
            self.watch()
        if self.displaced.count:
            self.displaced.look(time.monotonic())

    def _claim_of(self, peer: bytes) -> str:
        """Why a connection whose identity is ``peer`` is not to be heard; empty: it is."""
        self.watch()
        return self._made_up.fault_of(peer, self.connections.count)

    def _spoke(self, peer: bytes, first: zmq.Frame) -> bool:
        """Note over which connection ``peer`` speaks; whether it is another one than before."""
        try:
            fd: int = first.get(zmq.SRCFD)
        except zmq.ZMQError:  # it speaks ZMTP 2.0 or earlier, of which libzmq tells nothing
            return False
        self.watch()
        if self.keys is not None:
            self.keys.spoke(self._made_up.names.get(peer, peer), fd, first, time.monotonic())
        return self.connections.spoke(peer, fd)

    def is_from_here(self, peer: bytes) -> bool:
        """Whether the program that speaks as ``peer`` runs on this machine, as far as its connection tells."""
        descriptor = self.connections.descriptor_of(self._ids.get(peer, peer))
        return descriptor is not None and comes_from_here(descriptor)

    @property
    def is_unsettled(self) -> bool:
        """Whether connections were made or lost since they were last taken, or :attr:`has_disputes`."""
        return self._has_connected or self.connections.has_disputes

    def watch(self) -> None:
        """Read the monitor."""
        while has_input(self.monitor):
            event, value = MONITOR_EVENT.unpack(self.monitor.recv_multipart(NOBLOCK)[0])
            if self.keys is not None:
                self.keys.heard(event, value, time.monotonic())
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._has_connected = True
            elif event == zmq.EVENT_ACCEPTED:
                self.connections.accepted(value)
                if is_spare(value):
                    cut_off([value])
            elif event == zmq.EVENT_DISCONNECTED:
                self.connections.ended(value, time.monotonic())

    @property
    def has_lost(self) -> bool:
        """Whether a lost peer waits to be taken."""
        return bool(self.connections.lost)

    @property
    def has_disputes(self) -> bool:
        """Whether it was or is in doubt who has an identity; see :meth:`.Connections.take_uncertain`."""
        return self.connections.has_disputes

    @property
    def dispute_ends_at(self) -> float:
        """When a dispute ends by itself; see :meth:`.Connections.take_uncertain`."""
        return self.connections.dispute_ends_at

    def take_lost(self, now: float) -> list[bytes]:
        """The peers whose connections were lost since the last call; see :meth:`.Connections.take_lost`."""
        return list(map(self._made_up.forget, self.connections.take_lost(now)))

    def take_connected(self) -> bool:
        """Whether anybody has connected since the last call."""
        has_connected, self._has_connected = self._has_connected, False
        return has_connected

    def take_uncertain(self, now: float) -> list[tuple[bytes, bool]]:
        """Whose identity has become uncertain or certain; see :meth:`.Connections.take_uncertain`."""
        self.watch()
        names = self._made_up.names
        return [(names.get(peer, peer), is_so) for peer, is_so in self.connections.take_uncertain(now)]

    def send(self, peer: bytes, frames: Frames) -> Sent:
        """Send one message, or say why not. Big frames are not copied, which costs more for small ones."""
        identity = self._ids.get(peer)
        if identity is None:
            if peer[:1] in UNREACHABLE:
                return _UNREACHABLE
            identity = peer
        try:
            send_frame(self.socket, identity, MORE)
            send_frames(self.socket, frames, len(frames) <= 2 or len(frames[-1]) < UNCOPIED_BYTES)
        except zmq.Again:
            return _FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return _UNREACHABLE
        return _SENT

    def tell_displaced(self, peer: bytes, frames: Frames) -> None:
        """Tell programs that have lost the identity ``peer`` to another one, now and whenever they say something. With keys they
        cannot be told, as only libzmq can encrypt.
        """
        if self.keys is None:
            self.displaced.tell(peer, frames)

    def close(self) -> None:
        """Close, delivering what was sent for at most a second."""
        self.displaced.close()
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close()
