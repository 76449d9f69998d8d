"""The connection of a client, a worker or a log sender to its broker or logger."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import zmq

from cbw.addresses import Address
from cbw.keys.folder import LinkKeys
from cbw.transport.curve import HANDSHAKE_FAILED, Handshakes, link_options
from cbw.transport.fork import call_after_fork, close_inherited_connections
from cbw.transport.poller import has_input
from cbw.transport.reconnects import ReconnectPace
from cbw.transport.resolver import Resolver
from cbw.transport.sockets import (
    CONNECT_TIMEOUT_MS,
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    HWM_MESSAGES,
    LINGER_MS,
    MONITOR_EVENT,
    NOBLOCK,
    RECONNECT_MAX_MS,
    WORKER_HEARTBEAT_TIMEOUT_MS,
    SocketContext,
    new_monitor,
    new_socket,
    read_frames,
    send_frames,
)


class Link:
    """A DEALER socket that connects to one of ``hosts`` again and again, and tells when it is connected and when it is not.

    Which one, :class:`~cbw.transport.resolver.Resolver` says, to which ``spread_by`` goes. A host name is looked up in another
    thread, which calls ``on_resolved`` when it has finished; the owner of the link then has to call :meth:`on_ready` and
    :meth:`watch`. The first connection waits for that; later ones do not.

    With ``keys`` the connection is encrypted. :attr:`handshakes` says if keys are the reason why there is none.

    Raises:
        UsageError: one of ``hosts`` cannot be a host.
        NotReady: no descriptors are left.
    """

    def __init__(
        self,
        context: SocketContext,
        hosts: Sequence[Address],
        on_resolved: Callable[[], None],
        *,
        spread_by: str = "",
        is_for_worker: bool = False,
        keys: LinkKeys | None = None,
    ) -> None:
        self._context = context
        self._keys = keys
        self.handshakes = Handshakes(has_keys=keys is not None)
        self._heartbeat_timeout_ms = WORKER_HEARTBEAT_TIMEOUT_MS if is_for_worker else HEARTBEAT_TIMEOUT_MS
        self.resolver = Resolver(hosts, on_resolved, spread_by=spread_by)
        self._pace = ReconnectPace()
        self.is_connected = False
        self._open()
        self.resolver.look_up()
        call_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Close the child's copy of the connection: with it the peer would not notice that the parent has died."""
        close_inherited_connections(self.resolver.peers)

    def _open(self) -> None:
        self._interval_ms = self._pace.interval_ms
        self.unsent: list[Sequence[Any]] = []  # messages of :meth:`post` that there was no room for
        options = (
            (zmq.LINGER, LINGER_MS),
            (zmq.SNDHWM, HWM_MESSAGES),
            (zmq.RCVHWM, 0),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, self._heartbeat_timeout_ms),
            (zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS),
            (zmq.HANDSHAKE_IVL, HEARTBEAT_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, self._interval_ms),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
            *(link_options(self._keys) if self._keys is not None else ()),
        )
        socket = new_socket(self._context, zmq.DEALER, *options)
        self.monitor = new_monitor(socket, zmq.EVENT_CLOSED | HANDSHAKE_FAILED)
        self.socket = socket
        self._has_input: bool | None = None  # None: not known, libzmq has to be asked
        self._endpoint = ""  # what the socket connects to; empty until the host's addresses are known
        if self.resolver.is_known:
            self._connect()
        self.news: int = self.socket.FD
        self.monitor_news: int = self.monitor.FD

    def reopen(self) -> None:
        """Drop the connection, dead or not, and make another.

        Raises:
            NotReady: no descriptors are left; it can be tried again.
        """
        self.is_connected = False
        self.close()
        self._open()
        self.resolver.look_up()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket; not after :meth:`close`, nor after a :meth:`reopen` that failed."""
        return not self.socket.closed

    def watch(self) -> Iterator[bool]:
        """Read the monitor: True for each connection that was made, False for each that was lost, in order.

        While one that was lost is told, :meth:`receive` still gives what had come over it.
        """
        while True:
            try:
                news, endpoint = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            event, value = MONITOR_EVENT.unpack(news)
            if event & HANDSHAKE_FAILED:
                self.handshakes.failed(event, value, self._endpoint)
                continue
            if event == zmq.EVENT_CLOSED:
                if endpoint == self._endpoint.encode():
                    self.resolver.use_next()
                    self._connect()
                continue
            was_connected, self.is_connected = self.is_connected, event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if self.is_connected:
                self.handshakes.succeeded()
                self._pace.made(time.monotonic())
                yield True
                continue
            if was_connected:
                self._has_input = None
                yield False
            self._lost(was_connected)
        if self.resolver.has_answer:
            self.resolver.take_answer(is_wanted=not self.is_connected)  # do not give up a connection that works
            if not self.is_connected:
                self._connect()

    def _lost(self, was_connected: bool) -> None:
        """The connection has ended, or nobody has talked over it."""
        self.unsent.clear()
        self._pace.lost(time.monotonic())
        if self._pace.interval_ms != self._interval_ms and self._endpoint and not has_input(self.socket):
            self._interval_ms = self._pace.interval_ms
            self.socket.disconnect(self._endpoint)  # which drops what was not read
            self.socket.setsockopt(zmq.RECONNECT_IVL, self._interval_ms)  # for the next call of connect
            self._endpoint = ""
        if self.resolver.has_several:
            if was_connected:
                self.resolver.look_up()
            else:  # accepted, but without a handshake: the kernel does that for a program that is frozen
                self.resolver.use_next()
        self._connect()

    def _connect(self) -> None:
        """Connect to the resolver's endpoint, unless the socket does so already."""
        before, self._endpoint = self._endpoint, self.resolver.endpoint
        if before != self._endpoint:
            if before:
                self.socket.disconnect(before)
            self.socket.setsockopt(zmq.IPV6, int(self.resolver.is_ipv6))
            self.socket.connect(self._endpoint)

    def receive(self) -> list[Any] | None:
        """The frames of the next message; None if none is there. Frames behind the first two are not copied.

        To ask whether another message is there takes as long as to answer a small one; the next poll tells that too.
        """
        if not self.has_input:
            return None
        self._has_input = None
        return read_frames(self.socket, self.socket.recv(NOBLOCK, False))

    @property
    def has_input(self) -> bool:
        """Whether a message is there."""
        if self._has_input is None:
            self._has_input = has_input(self.socket)
        return self._has_input

    def on_ready(self, ready: Container[Any]) -> bool:
        """Take note of the sources that are ready, as a :class:`Poller` found. True: :meth:`watch` has something to do."""
        self._has_input = self.socket in ready
        return self.monitor_news in ready or self.resolver.has_answer

    def forget_input(self) -> None:
        """Ask libzmq at the next :meth:`receive` whether a message is there. Needed where no :class:`Poller` tells it.

        An event loop only polls the descriptor :attr:`news`, which is readable once for all messages that are there, and
        not at all for those that arrive during a :meth:`send`.
        """
        self._has_input = None

    def send(self, frames: Sequence[Any]) -> bool:
        """Send one message; False if there is no connection, or no room."""
        if not self.is_connected:
            return False
        self._has_input = None
        try:
            send_frames(self.socket, frames, len(frames) <= 2)
        except zmq.Again:
            return False
        return True

    def post(self, messages: Iterable[Sequence[Any]]) -> None:
        """Send messages. Those that there is no room for are kept until the next call, or until the connection is lost."""
        unsent = self.unsent
        while unsent and self.send(unsent[0]):
            del unsent[0]
        for frames in messages:
            if unsent or not self.send(frames):
                unsent.append(frames)

    def close(self) -> None:
        """Close the socket. What was sent is still delivered, for at most a second. Safe to call twice."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(None if self.is_connected else 0)
