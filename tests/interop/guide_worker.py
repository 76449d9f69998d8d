"""A pyzmq worker for the guide's load-balancing broker: ``python guide_worker.py ID HOST PORT [WORK_MS [FRAMES]]``.

It adds `` ID`` to the last frame of what it gets, and puts FRAMES (0) more in front of its answer. ID ``-`` sets no
identity on the socket. It registers with ``READY``, or if the environment has a READY_BYTE, with the byte 01.
"""

from __future__ import annotations

import os
import sys
import time

import zmq


def main() -> None:
    """Work until killed."""
    name, host, port, *rest = sys.argv[1:]
    work_ms = float(rest[0]) if rest else 1000.0
    head = [f"head {number}".encode() for number in range(int(rest[1]) if len(rest) > 1 else 0)]
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        if name != "-":
            socket.setsockopt_string(zmq.IDENTITY, name)
        socket.connect(f"tcp://{host}:{port}")
        socket.send(b"\x01" if "READY_BYTE" in os.environ else b"READY")
        print("ready", flush=True)
        while True:
            client, empty, *body = socket.recv_multipart()
            print(f"task {client!r} {b'|'.join(body).decode()}", flush=True)
            time.sleep(work_ms / 1000)
            body[-1] += f" {name}".encode()
            socket.send_multipart([client, empty, *head, *body])


if __name__ == "__main__":
    main()
