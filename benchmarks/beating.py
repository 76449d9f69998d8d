"""``python -m benchmarks.beating HOST PORT COUNT``: so many workers that do nothing but live, in one process.

It prints a line when the broker has welcomed them all, and goes on until it is ended.
"""

from __future__ import annotations

import contextlib
import sys
import time

import zmq

from cbw.core.messages import Beat, Message, WorkerHello
from cbw.wire.native import encode

SERVICE = "beating"
BEAT_S = 1.0
"""Time in seconds between two beats of a worker, as of real ones."""
WELCOME_S = 30.0


def live(host: str, port: int, count: int) -> None:
    """Register ``count`` workers, and let each beat; it never returns."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 10)
    sockets = []
    for number in range(count):
        socket = context.socket(zmq.DEALER)
        socket.linger, socket.rcvtimeo = 0, int(WELCOME_S * 1000)
        socket.connect(f"tcp://{host}:{port}")
        _say(socket, WorkerHello(f"beating-{number}", str(number), [SERVICE], 1, 1))
        sockets.append(socket)
    for socket in sockets:
        socket.recv_multipart()
    print(f"{count} workers beat", flush=True)
    while True:
        for socket in sockets:
            _say(socket, Beat())
            with contextlib.suppress(zmq.Again):
                while True:
                    socket.recv_multipart(zmq.NOBLOCK)
            time.sleep(BEAT_S / count)


def _say(socket: zmq.Socket[bytes], message: Message) -> None:
    for frames, _ in encode([message]):
        socket.send_multipart(frames)


if __name__ == "__main__":
    live(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
