"""A Majordomo client after RFC 7 or RFC 18: ``python mdp_client.py VERSION SERVICES ID N HOST PORT``.

VERSION is 0.1 (a REQ socket) or 0.2 (a DEALER socket). It asks each of the SERVICES, separated by commas, N times, and
prints every part of an answer as ``part SERVICE BODY`` and its end as ``reply SERVICE BODY``.
"""

from __future__ import annotations

import sys

import zmq


def main() -> None:
    """Ask ``ID-1`` … ``ID-N``, one after another."""
    version, services, name, count, host, port = sys.argv[1:]
    is_new = version == "0.2"
    with zmq.Context() as context, context.socket(zmq.DEALER if is_new else zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(f"tcp://{host}:{port}")
        for service in services.split(","):
            head = [b"MDPC02", b"\x01"] if is_new else [b"MDPC01"]
            for number in range(1, int(count) + 1):
                socket.send_multipart([*head, service.encode(), f"{name}-{number}".encode()])
                is_over = False
                while not is_over:
                    frames = socket.recv_multipart()
                    *mark, named, body = frames
                    is_over = mark == ([b"MDPC02", b"\x03"] if is_new else [b"MDPC01"])
                    if not (is_over or mark == [b"MDPC02", b"\x02"]) or named != service.encode():
                        raise SystemExit(f"not what the RFC has: {frames!r}")
                    print("reply" if is_over else "part", service, body.decode(), flush=True)


if __name__ == "__main__":
    main()
