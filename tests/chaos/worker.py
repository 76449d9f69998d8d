"""Workers of the chaos: the handler of ``cbw worker``, and a REQ program of the lab.

``python -m tests.chaos.worker NAME PORT`` is the latter.
"""

from __future__ import annotations

import os
import random
import sys
import time

import zmq

from .ledger import Ledger

WORK_S = (0.0, 0.02)
HOST = "127.0.0.1"
NAME = os.environ.get("CHAOS_WORKER", "")
_ledger = Ledger(os.environ["CHAOS_LEDGER"]) if "CHAOS_LEDGER" in os.environ else None


def handle(body: str) -> str:
    """Work for a moment."""
    assert _ledger is not None
    _ledger.note("begun", body, NAME)
    time.sleep(random.uniform(*WORK_S))
    _ledger.note("done", body, NAME)
    return f"{body} by {NAME}"


def main() -> None:
    """A worker of the lab, until it is killed."""
    name, port = sys.argv[1:]
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.setsockopt_string(zmq.IDENTITY, name)
        socket.connect(f"tcp://{HOST}:{port}")
        socket.send_multipart([b"", b""])
        while True:
            client, body = socket.recv_multipart()
            socket.send_multipart([client, handle(body.decode()).encode()])


if __name__ == "__main__":
    main()
