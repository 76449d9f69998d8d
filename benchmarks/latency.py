"""One request at a time, against a bare pyzmq REQ-ROUTER/ROUTER-REQ broker (least recently used worker) in the same run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import zmq

from cbw.client import Client
from cbw.local import Options, Scale, System

ROUNDS = 30
REQUESTS = 200
BODY = b"x" * 100


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The two take turns, so that both see the same moods of the machine."""
    options = Options(scale=Scale(cli=0, wor=1, log=0), client_port=0, worker_port=0, handlers=("cbw.bench:echo",))
    peers = [
        subprocess.Popen([sys.executable, __file__, role], stdout=subprocess.PIPE) for role in ("broker", "worker")
    ]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    request = context.socket(zmq.REQ)
    request.setsockopt(zmq.RCVTIMEO, 30_000)
    request.connect("tcp://127.0.0.1:28998")

    def bare() -> None:
        request.send(BODY)
        request.recv()

    try:
        with System(options, lambda *_: None) as system:
            client_port, _ = system.start()
            with Client(f"127.0.0.1:{client_port}", timeout=30.0) as client:
                ours, theirs = _take_turns(lambda: client.call(BODY), bare)
    finally:
        for peer in peers:
            peer.kill()
            peer.wait()
        request.close(0)
        context.term()
    ratio = f"{ours / theirs:.2f}"
    yield "one request at a time, p50", f"{ours * 1e6:.0f} µs", f"bare REQ broker: {theirs * 1e6:.0f} µs", ratio


def _take_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 2):
        for call, those in zip((first, second), times, strict=True):
            for _ in range(REQUESTS):
                began_at = time.perf_counter()
                call()
                if number >= 2:  # the first rounds warm both up
                    those.append(time.perf_counter() - began_at)
    return statistics.median(times[0]), statistics.median(times[1])


def _broker() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    front.bind("tcp://127.0.0.1:28998")
    back.bind("tcp://127.0.0.1:28999")
    workers: list[bytes] = []
    poller = zmq.Poller()
    poller.register(back, zmq.POLLIN)
    while True:
        ready = dict(poller.poll())
        if back in ready:
            frames = back.recv_multipart()
            if not workers:
                poller.register(front, zmq.POLLIN)
            workers.append(frames[0])
            if frames[2] != b"READY":
                front.send_multipart(frames[2:])
        if front in ready:
            frames = front.recv_multipart()
            back.send_multipart([workers.pop(0), b"", *frames])
            if not workers:
                poller.unregister(front)


def _worker() -> None:
    socket = zmq.Context().socket(zmq.REQ)
    socket.connect("tcp://127.0.0.1:28999")
    socket.send(b"READY")
    while True:
        socket.send_multipart(socket.recv_multipart())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"broker": _broker, "worker": _worker}[sys.argv[1]]()
    else:
        for row in rows():
            print(*row, sep=" | ")
