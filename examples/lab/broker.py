"""The lab's broker: ``python broker.py FRONTEND_PORT BACKEND_PORT [LOGGER_HOST LOGGER_PORT]``.

Clients wait until a worker is free, and workers until a client asks. A worker that does not answer in time has failed: its
request goes to another one, and its late answer is thrown away.
"""

from __future__ import annotations

import sys
import time
from collections import deque

import zmq

ANSWER_TIME_S = 2.0

Frames = list[bytes]
Request = tuple[bytes, bytes]  # who asks, and what

context = zmq.Context()
frontend = context.socket(zmq.ROUTER)
backend = context.socket(zmq.ROUTER)
to_logger: zmq.Socket[bytes] | None = None

pending: deque[Request] = deque()  # what waits for a worker, oldest first
ready: deque[bytes] = deque()  # workers that wait, the one that has waited longest first
working: dict[bytes, tuple[Request, float]] = {}  # who is at which request, and until when
failed: set[bytes] = set()  # workers whose next answer comes too late


def trace(text: str) -> None:
    """Print a line, and send the same to the logger, if there is one."""
    print(text, flush=True)
    if to_logger is not None:
        to_logger.send_string(text)


def client_asked(client: bytes, _empty: bytes, message: bytes) -> None:
    """A REQ socket puts an empty frame in front, and the ROUTER the identity of the client."""
    pending.append((client, message))


def worker_spoke(worker: bytes, _empty: bytes, client: bytes, answer: bytes) -> None:
    """It has an answer for ``client``; or it registers, and the client is empty. In both cases it is ready from now on."""
    if client and worker not in failed:
        trace(f"{worker.decode()} answers {client.decode()}: {answer.decode()}")
        frontend.send_multipart([client, b"", answer])
    working.pop(worker, None)
    failed.discard(worker)
    ready.append(worker)


def hand_out() -> None:
    """As long as a request waits and a worker is ready, bring the two together."""
    while pending and ready:
        worker, request = ready.popleft(), pending.popleft()
        working[worker] = (request, time.monotonic() + ANSWER_TIME_S)
        trace(f"{request[0].decode()} asks {request[1].decode()}: it goes to {worker.decode()}")
        backend.send_multipart([worker, b"", *request])


def find_failed() -> None:
    """Whose time is over has failed, and what it was at waits again, before all others."""
    for worker, (request, until) in list(working.items()):
        if time.monotonic() >= until:
            trace(f"{worker.decode()} has failed")
            del working[worker]
            failed.add(worker)
            pending.appendleft(request)


def main() -> None:
    """Bind both ports, and take in what arrives there for ever."""
    global to_logger
    if len(sys.argv) not in (3, 5):
        sys.exit(__doc__)
    frontend_port, backend_port, *logger = sys.argv[1:]
    frontend.bind(f"tcp://*:{frontend_port}")
    backend.bind(f"tcp://*:{backend_port}")
    if logger:
        to_logger = context.socket(zmq.PUSH)
        to_logger.connect(f"tcp://{logger[0]}:{logger[1]}")
    poller = zmq.Poller()
    poller.register(frontend, zmq.POLLIN)
    poller.register(backend, zmq.POLLIN)
    trace(f"broker: clients on port {frontend_port}, workers on port {backend_port}")
    while True:
        news = dict(poller.poll(100))
        if frontend in news:
            client_asked(*frontend.recv_multipart())
        if backend in news:
            worker_spoke(*backend.recv_multipart())
        find_failed()
        hand_out()


if __name__ == "__main__":
    main()
