"""A plain pyzmq client: ``python req_client.py ID N HOST PORT``. ID ``-`` sets no identity on the socket."""

from __future__ import annotations

import sys

import zmq


def main() -> None:
    """Send ``ID-1`` … ``ID-N``, one after another."""
    name, count, host, port = sys.argv[1:]
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        if name != "-":
            socket.setsockopt_string(zmq.IDENTITY, name)
        socket.connect(f"tcp://{host}:{port}")
        for number in range(1, int(count) + 1):
            print(f"ask {name}-{number}", flush=True)
            socket.send_string(f"{name}-{number}")
            print(f"reply {socket.recv_string()}", flush=True)


if __name__ == "__main__":
    main()
