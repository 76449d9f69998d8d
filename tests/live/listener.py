"""Something that listens on a port and is no broker."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from .conftest import HOST


@contextlib.contextmanager
def listening(meet: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accepts whoever connects, one after another, and has ``meet`` deal with it; all are hung up on at the end. Its port."""
    peers: list[socket.socket] = []
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:  # it is over
                    return
                peers.append(peer)
                with contextlib.suppress(OSError):  # it has hung up first
                    meet(peer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for peer in peers:
            peer.close()
