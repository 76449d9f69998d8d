"""The lab's client: ``python client.py ID N BROKER_HOST BROKER_PORT``. ID ``HN`` stands for the name of this machine.

It sends N requests, each when the answer to the one before is there, and ends after the last answer.
"""

from __future__ import annotations

import socket
import sys

import zmq


def main() -> None:
    """Ask ``ID-1`` to ``ID-N``."""
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    name, count, host, port = sys.argv[1:]
    if name == "HN":
        name = f"CLI_{socket.gethostname()}"

    broker = zmq.Context().socket(zmq.REQ)
    broker.setsockopt_string(zmq.IDENTITY, name)  # where the broker sends the answers
    broker.connect(f"tcp://{host}:{port}")

    for number in range(1, int(count) + 1):
        broker.send_string(f"{name}-{number}")
        print(f"{name}-{number} -> {broker.recv_string()}", flush=True)


if __name__ == "__main__":
    main()
