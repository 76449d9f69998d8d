"""A broker that dies at each distinct moment of a request's life, under load. Nothing is lost, no answer comes twice."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from tests.ports import free_port

from .conftest import HOST, Connect, Log, Start, broker_of
from .dying_broker import MOMENTS
from .program import PATIENCE_S, environment

REQUESTS = 1500
DEATH = 25
"""It dies when its moment has come so many times: in the middle of the load."""
PLAIN_PATIENCE_MS = 4000
"""After which the program of the lab asks again: a request of a REQ socket may be lost on its way."""


def ask_plainly(port: int, is_over: threading.Event) -> list[str]:
    """What a REQ program of the lab gets that is the wrong reply."""
    wrong: list[str] = []
    with zmq.Context() as context:
        number = 0
        socket = _socket(context, port)
        while not is_over.is_set():
            number += 1
            socket.send(b"plain %d" % number)
            while not socket.poll(PLAIN_PATIENCE_MS):
                socket.close()
                socket = _socket(context, port)
                socket.send(b"plain %d" % number)
            if (reply := socket.recv()) != b"plain %d" % number:
                wrong.append(f"{reply!r} to plain {number}")
        socket.close()
    return wrong


def _socket(context: zmq.Context[zmq.Socket[bytes]], port: int) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.REQ)
    socket.linger = 0
    socket.setsockopt(zmq.IDENTITY, b"R1")
    socket.connect(f"tcp://{HOST}:{port}")
    return socket


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_dies(moment: str, start: Start, connect: Connect, log: Log, tmp_path: Path) -> None:
    ports = free_port(), free_port()
    options = ["--listen", HOST, "--journal", str(tmp_path / "journal")]
    if "read" in moment and "ports" in moment:  # it has to find something
        first = start("broker", *ports, *options)
        broker_of(first)
        connect_once = connect(broker_of(first))
        connect_once.submit("before", "nobody")
        first.wait_for("no worker here serves them")
        first.kill()
    count = 1 if "ports" in moment or "compaction" in moment else DEATH
    command = [sys.executable, "-m", "tests.live.dying_broker", moment, str(count), *map(str, ports), *options]
    dying = subprocess.Popen(
        command, env=environment(), cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    handler = "note_done_slowly" if "beginning" in moment else "note_done"
    for number in range(2):
        start(
            "worker", f"W{number}", HOST, ports[1], f"--handler=handlers:{handler}", "--concurrency", 2,
            CBW_TEST_LOG=str(log.path),
        )  # fmt: skip
    is_over = threading.Event()
    client = connect(Address(f"{HOST}:{ports[0]}"))
    bodies = [f"native {number}" for number in range(REQUESTS)]
    with ThreadPoolExecutor(2) as pool:
        answers = pool.submit(lambda: list(client.map(bodies, window=40)))
        plain = pool.submit(ask_plainly, ports[0], is_over)
        try:
            assert dying.wait(PATIENCE_S) == -9, "its moment never came"
            broker_of(start("broker", *ports, *options))
            assert answers.result(2 * PATIENCE_S) == [body.encode() for body in bodies]
        finally:
            is_over.set()
            dying.kill()
        assert plain.result(PATIENCE_S) == []
    again = {body: times for body, times in Counter(log.lines).items() if times > 1}
    assert len(again) <= 50, "only what ran when it died may run twice"


class Address:
    """What ``connect`` wants of a broker."""

    def __init__(self, address: str) -> None:
        self.address = address
