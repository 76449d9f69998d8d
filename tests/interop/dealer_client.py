"""A pyzmq client that has many requests in flight: ``python dealer_client.py ID N HOST PORT [FRAMES]``.

All N requests go out at once, each with its own id in front of the empty frame, and are printed in the order of the
replies, as ``reply ID-NUMBER: FRAME|FRAME…``. FRAMES (1) is how many frames a body has. ID ``-`` sets no identity.
"""

from __future__ import annotations

import sys

import zmq


def main() -> None:
    """Ask everything, then match the replies to the ids."""
    name, count, host, port, *rest = sys.argv[1:]
    frames = int(rest[0]) if rest else 1
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        if name != "-":
            socket.setsockopt_string(zmq.IDENTITY, name)
        socket.connect(f"tcp://{host}:{port}")
        asked: dict[bytes, str] = {}
        for number in range(1, int(count) + 1):
            request_id = number.to_bytes(4, "big")
            asked[request_id] = f"{name}-{number}"
            body = [f"part {part}".encode() for part in range(1, frames)] + [asked[request_id].encode()]
            socket.send_multipart([request_id, b"", *body])
        print(f"ask {len(asked)}", flush=True)
        while asked:
            request_id, empty, *reply = socket.recv_multipart()
            if empty:
                raise SystemExit(f"not the envelope that was sent: {empty!r}")
            text = "|".join(part.decode() for part in reply)
            print(f"reply {asked.pop(request_id)}: {text}", flush=True)


if __name__ == "__main__":
    main()
