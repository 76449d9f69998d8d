"""A Majordomo worker after RFC 7 or RFC 18: ``python mdp_worker.py VERSION SERVICE ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]``.

Like the guide's, it has one thread, and is silent while it works. Its SLOW_AT-th task (1 is the first) takes SLOW_MS. The
environment variables BEAT_MS (200) and PARTS (0) say how often it beats, and how many PARTIAL messages come before the end.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import zmq

LIVENESS = 3
BEAT_S = float(os.environ.get("BEAT_MS", "200")) / 1000
PARTS = int(os.environ.get("PARTS", "0"))


class MajordomoProgram:
    """Its socket, and when it has to beat."""

    def __init__(self, version: str, service: str, endpoint: str, context: zmq.Context[Any]) -> None:
        self.is_new = version == "0.2"
        # In 0.2 there is no empty frame, and REPLY is PARTIAL and FINAL, so the numbers behind it are one higher.
        self.head = [b"MDPW02"] if self.is_new else [b"", b"MDPW01"]
        self.final, self.heartbeat, self.disconnect = (
            (b"\x04", b"\x05", b"\x06") if self.is_new else (b"\3", b"\4", b"\5")
        )
        self.service = service
        self.endpoint = endpoint
        self.context = context
        self.socket: zmq.Socket[bytes] | None = None
        self.connect()

    def connect(self) -> None:
        """A new conversation takes a new socket."""
        if self.socket is not None:
            self.socket.close(0)
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(self.endpoint)
        self.send(b"\x01", self.service.encode())
        self.liveness = LIVENESS
        self.beat_at = time.monotonic() + BEAT_S
        print("ready", flush=True)

    def send(self, command: bytes, *frames: bytes) -> None:
        assert self.socket is not None
        self.socket.send_multipart([*self.head, command, *frames])

    def next_task(self) -> tuple[bytes, list[bytes]]:
        """The address and the body of the next request; beats meanwhile."""
        while True:
            assert self.socket is not None
            if self.socket.poll(int(BEAT_S * 1000)):
                frames = self.socket.recv_multipart()
                self.liveness = LIVENESS
                head, (command, *rest) = frames[: len(self.head)], frames[len(self.head) :]
                assert head == self.head, frames
                if command == b"\x02":
                    address, empty, *body = rest
                    assert not empty, frames
                    return address, body
                if command == self.disconnect:
                    print("disconnected", flush=True)
                    self.connect()
                else:
                    assert command == self.heartbeat and not rest, frames
            else:
                self.liveness -= 1
                if not self.liveness:
                    print("silence", flush=True)
                    self.connect()
            if time.monotonic() > self.beat_at:
                self.send(self.heartbeat)
                self.beat_at = time.monotonic() + BEAT_S


def main() -> None:
    """Work until killed."""
    version, service, name, host, port, *rest = sys.argv[1:]
    work_ms, slow_at, slow_ms, *_ = (*map(float, rest), *(1000.0, 0.0, 0.0)[len(rest) :])
    with zmq.Context() as context:
        worker = MajordomoProgram(version, service, f"tcp://{host}:{port}", context)
        tasks = 0
        while True:
            address, body = worker.next_task()
            tasks += 1
            text = b"|".join(body).decode()
            print(f"task {text}", flush=True)
            time.sleep((slow_ms if tasks == slow_at else work_ms) / 1000)
            for part in range(1, PARTS + 1):
                worker.send(b"\x03", address, b"", f"{text} part {part}".encode())
            worker.send(worker.final, address, b"", f"{text} {name}".encode())
            print(f"answer {text}", flush=True)


if __name__ == "__main__":
    main()
