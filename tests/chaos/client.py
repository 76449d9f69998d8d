"""A client of the chaos: ``python -m tests.chaos.client native|ticket|req|dealer NAME PORT LEDGER``, until SIGTERM.

It asks, with some requests in flight, and writes down what it has sent and got. On SIGTERM it asks nothing more, waits for
what is in flight, and ends with 0.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import zmq

import cbw

from .ledger import Ledger, lines_of

WINDOW = 8
PAUSE_S = 0.005
"""Between two requests: the chaos is about what happens to them, not about their number."""
PATIENCE_S = 12.0
"""Of a program of the lab: longer than any broker is away or frozen here."""
HOST = "127.0.0.1"


def native(name: str, port: int, ledger: Ledger, is_over: Callable[[], bool], prefix: str) -> None:
    """A client of the library."""
    places = threading.Semaphore(WINDOW)
    with cbw.Client(f"{HOST}:{port}", id=name, timeout=None) as client:
        futures: list[Future[bytes]] = []
        number = 0
        while not is_over():
            if not places.acquire(timeout=0.1):
                continue
            number += 1
            request = f"{prefix}/{number}"
            ledger.note("sent", request, name)
            future = client.submit(request)
            future.add_done_callback(partial(_answered, ledger, request, name, places))
            futures = [one for one in futures if not one.done()]
            futures.append(future)
            time.sleep(PAUSE_S)
        for future in futures:
            future.exception()


def _answered(ledger: Ledger, request: str, name: str, places: threading.Semaphore, done: Future[bytes]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is None and not done.cancelled():
        ledger.note("got", request, _own(request, done.result()))
    else:
        ledger.note("failed", request, f"{name} {type(error).__name__}: {error}")
    places.release()


def ticket(name: str, port: int, ledger: Ledger, is_over: Callable[[], bool], path: Path) -> None:
    """Starts requests that outlive it, and fetches the answers: also of what a killed one before it has left behind."""
    started, unsure, count = _left_behind(name, path)
    with cbw.Client(f"{HOST}:{port}", id=name, timeout=None) as client:
        while started or unsure or not is_over():
            if not unsure and not is_over() and len(started) < WINDOW:
                count += 1
                unsure = [f"{name}:tickets/{count}"]
                ledger.note("asked", unsure[0], name)
            if unsure:
                try:
                    assert client.start(unsure[0], ticket=unsure[0]).is_durable
                except cbw.Busy:  # the disk stands still
                    time.sleep(PAUSE_S)
                    continue
                ledger.note("sent", unsure[0], name)
                started.append(unsure.pop(0))
                time.sleep(PAUSE_S)
            else:
                request = started.pop(0)
                try:
                    answers = [client.result(request) for _ in range(2)]
                    ledger.note("got", request, _own(request, answers[0]))
                    assert answers[0] == answers[1]
                except cbw.GaveUp as error:
                    ledger.note("failed", request, f"{name} {type(error).__name__}: {error}")
                except cbw.UnknownTicket as error:
                    ledger.note("got", request, f"WRONG {error}")


def _left_behind(name: str, path: Path) -> tuple[list[str], list[str], int]:
    """Requests that were started and have no answer, those that may have been started, and how many there were."""
    states: dict[str, str] = {}
    for _, what, request, _ in lines_of(path, f" {name}:"):
        if request.startswith(f"{name}:") and what in ("asked", "sent", "got", "failed"):
            states[request] = what
    started = [request for request, what in states.items() if what == "sent"]
    return started, [request for request, what in states.items() if what == "asked"], len(states)


def plain(kind: int, name: str, port: int, ledger: Ledger, is_over: Callable[[], bool], prefix: str) -> None:
    """A program of the lab: a REQ socket with one request at a time, or a DEALER with several in flight.

    Nothing tells it that a request was lost on its way, so after some time it takes another socket, and asks again.
    """
    with zmq.Context() as context:
        in_flight: dict[bytes, str] = {}
        socket = _socket(context, kind, name, port)
        number, heard_at = 0, time.monotonic()
        while in_flight or not is_over():
            if not is_over() and len(in_flight) < (1 if kind == zmq.REQ else WINDOW):
                number += 1
                request = f"{prefix}/{number}"
                key = b"" if kind == zmq.REQ else b"%d" % number
                ledger.note("sent", request, name)
                in_flight[key] = request
                _ask(socket, kind, key, request)
                time.sleep(PAUSE_S)
            while in_flight and socket.poll(100 if is_over() or kind == zmq.REQ else 1):
                frames = socket.recv_multipart()
                heard_at = time.monotonic()
                answered = in_flight.pop(b"" if kind == zmq.REQ else frames[0], None)
                if answered is not None:  # a DEALER may get a reply twice after the broker died
                    ledger.note("got", answered, _own(answered, frames[-1]))
            if in_flight and time.monotonic() - heard_at > PATIENCE_S:
                heard_at = time.monotonic()
                socket.close()
                socket = _socket(context, kind, name, port)
                for key, request in in_flight.items():
                    ledger.note("again", request, name)
                    _ask(socket, kind, key, request)
        socket.close()


def _socket(context: zmq.Context[Any], kind: int, name: str, port: int) -> zmq.Socket[Any]:
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.linger = 0
    socket.setsockopt_string(zmq.IDENTITY, name)
    socket.connect(f"tcp://{HOST}:{port}")
    return socket


def _ask(socket: zmq.Socket[Any], kind: int, key: bytes, request: str) -> None:
    socket.send_multipart([request.encode()] if kind == zmq.REQ else [key, b"", request.encode()])


def _own(request: str, answer: bytes) -> str:
    asked, _, worker = answer.decode(errors="replace").partition(" by ")
    return worker if asked == request and worker else f"WRONG {answer!r}"


def main() -> None:
    """Ask until SIGTERM."""
    kind, name, port, path = sys.argv[1:]
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    ledger = Ledger(path)
    prefix = f"{name}:{time.monotonic_ns()}"  # a program that is started again asks other things
    if kind == "native":
        native(name, int(port), ledger, stopping.is_set, prefix)
    elif kind == "ticket":
        ticket(name, int(port), ledger, stopping.is_set, Path(path))
    else:
        plain(zmq.REQ if kind == "req" else zmq.DEALER, name, int(port), ledger, stopping.is_set, prefix)


if __name__ == "__main__":
    main()
