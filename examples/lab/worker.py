"""The lab's worker: ``python worker.py ID BROKER_HOST BROKER_PORT [SECONDS]``. ID ``HN`` stands for the name of this machine.

It needs so many SECONDS for a request (1), and answers with the request and its own id.
"""

from __future__ import annotations

import socket
import sys
import time

import zmq


def main() -> None:
    """Register, then answer one request after the other for ever."""
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    name, host, port, *seconds = sys.argv[1:]
    if name == "HN":
        name = f"WOR_{socket.gethostname()}"
    work_s = float(seconds[0]) if seconds else 1.0

    broker = zmq.Context().socket(zmq.REQ)
    broker.setsockopt_string(
        zmq.IDENTITY, name
    )  # by which the broker knows it, over this connection and every later one
    broker.connect(f"tcp://{host}:{port}")

    broker.send_multipart([b"", b""])  # for no client, and no answer: it only registers
    while True:
        client, message = broker.recv_multipart()
        print(f"{name} begins {message.decode()} of {client.decode()}", flush=True)
        time.sleep(work_s)
        broker.send_multipart([client, message + b" " + name.encode()])


if __name__ == "__main__":
    main()
