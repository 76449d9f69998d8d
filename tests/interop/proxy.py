"""A TCP proxy whose connections a test can cut, or make slow."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time

from .program import PATIENCE_S

CHUNK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on :attr:`port` of 127.0.0.1 and passes everything on to ``target``, in a thread of its own.

    ``delay_s`` passes before anything is passed on, in both directions, as on the way to another city.
    """

    def __init__(self, target: int, delay_s: float = 0.0) -> None:
        self._target = target
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._is_open = True
        self._is_used = False
        self._is_closing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Reset every connection, and every new one until :meth:`mend`."""
        with self._lock:
            self._is_open = self._is_used = False
            for end in list(self._ends):
                self._drop(end)

    def mend(self) -> None:
        """Take connections again."""
        with self._lock:
            self._is_open = True

    def wait_until_used(self) -> None:
        """Wait until somebody is connected through it, and has said something."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_used:
            assert time.monotonic() < deadline, "nobody came back"
            time.sleep(0.01)

    def close(self) -> None:
        """Cut everything and end the thread."""
        self.cut()
        self._is_closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._selector.close()
        self._listener.close()

    def _serve(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select():
                end = key.fileobj
                assert isinstance(end, socket.socket)
                with self._lock:
                    if end is self._listener:
                        self._accept()
                    elif end in self._ends:  # else it was cut since
                        self._pass_on(end)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if not self._is_open:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        for end, other in ((near, far), (far, near)):
            self._ends[end] = other
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(CHUNK_BYTES)
            time.sleep(self._delay_s)
            if data:
                self._ends[end].sendall(data)
                self._is_used = True
        except OSError:
            data = b""
        if not data:
            self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        other = self._ends.pop(end, None)
        if other is None:
            return
        del self._ends[other]
        for one in (end, other):
            self._selector.unregister(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.close()
