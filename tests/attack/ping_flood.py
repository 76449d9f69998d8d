"""``python -m tests.attack.ping_flood``: how many connections end a broker by a fault of libzmq (see decisions.md, Sockets).

Each sends messages with PINGs among them faster than the broker reads, and is then reset. Exit code 0: the broker lives.
"""

from __future__ import annotations

import contextlib
import struct
import sys
import time

from tests.live.program import Program

from .peer import RawPeer, command, message

HOST = "127.0.0.1"
CONNECTIONS = 200
FLOOD = (message(b"CBW1", b"\x90") * 8 + command(b"PING", struct.pack(">H", 0) + bytes(16))) * 200
"""What is sent at once: more messages than a broker has unread of one connection, and a PING in every 8 KiB that are read."""


def main() -> int:
    """Flood both ports of a broker, one after the other."""
    broker = Program("broker", 0, 0, "--listen", HOST)
    words = broker.wait_for("serves clients on port").replace(",", "").split(" ")
    ports = [int(words[at + 1]) for at, word in enumerate(words) if word == "port"]
    began_at, count = time.monotonic(), 0
    try:
        while broker.is_running and count < CONNECTIONS:
            count += 1
            with contextlib.suppress(OSError, EOFError), RawPeer.greeted(ports[count % 2]) as peer:
                peer.socket.settimeout(0.3)
                for _ in range(20):
                    peer.say(FLOOD)
        seconds = time.monotonic() - began_at
        print(f"{count} connections in {seconds:.1f} s; the broker {'lives' if broker.is_running else broker}")
        return 0 if broker.is_running else 1
    finally:
        broker.kill()


if __name__ == "__main__":
    sys.exit(main())
