"""One request at a time, against a bare pyzmq REQ-ROUTER/ROUTER-REQ broker (least recently used worker) in the same run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import zmq

from benchmarks.figure import Row, median, print_rows
from benchmarks.program import HOST, free_port, running
from cbw.bench import started
from cbw.client.sync_client import Client

ROUNDS = 30
WARM_UP_ROUNDS = 2
REQUESTS = 200
BODY = b"x" * 100
FIGURES = ("one request at a time, p50",)


def rows() -> Iterator[Row]:
    """The two take turns, so that both see the same moods of the machine."""
    front, back = free_port(), free_port()
    program = [sys.executable, "-m", "benchmarks.latency"]
    with ExitStack() as stack:
        stack.enter_context(running([*program, "broker", str(front), str(back)], front))
        stack.enter_context(running([*program, "worker", str(back)]))
        context = stack.enter_context(zmq.Context[zmq.Socket[bytes]]())
        request = stack.enter_context(context.socket(zmq.REQ))
        request.setsockopt(zmq.RCVTIMEO, 30_000)
        request.setsockopt(zmq.LINGER, 0)
        request.connect(f"tcp://{HOST}:{front}")
        system = stack.enter_context(started(workers=1, handlers=("cbw.bench:echo",)))
        client = stack.enter_context(Client(f"{HOST}:{system.client_port}", timeout=30.0))

        def bare() -> None:
            request.send(BODY)
            request.recv()

        ours, theirs = _take_turns(lambda: client.call(BODY), bare)
    ratio = f"{ours / theirs:.2f}"
    yield Row(*FIGURES, f"{ours * 1e6:.0f} µs", f"bare REQ broker: {theirs * 1e6:.0f} µs", ratio)


def _take_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """The median time of each, from rounds of many calls."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM_UP_ROUNDS + ROUNDS):
        for call, those in zip((first, second), times, strict=True):
            for _ in range(REQUESTS):
                began_at = time.perf_counter()
                call()
                if number >= WARM_UP_ROUNDS:
                    those.append(time.perf_counter() - began_at)
    return median(times[0]), median(times[1])


def _broker(front_port: str, back_port: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    front.bind(f"tcp://{HOST}:{front_port}")
    back.bind(f"tcp://{HOST}:{back_port}")
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


def _worker(back_port: str) -> None:
    socket = zmq.Context().socket(zmq.REQ)
    socket.connect(f"tcp://{HOST}:{back_port}")
    socket.send(b"READY")
    while True:
        socket.send_multipart(socket.recv_multipart())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        programs: dict[str, Callable[..., None]] = {"broker": _broker, "worker": _worker}
        programs[sys.argv[1]](*sys.argv[2:])
    else:
        print_rows(rows())
