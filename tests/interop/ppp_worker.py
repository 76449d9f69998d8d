"""A Paranoid Pirate worker after RFC 6: ``python ppp_worker.py ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]``.

Like the guide's, it has one thread, and is silent while it works. Its SLOW_AT-th task (1 is the first) takes SLOW_MS. The
environment variable BEAT_MS (200) says how often it beats.
"""

from __future__ import annotations

import os
import sys
import time

import zmq

READY, HEARTBEAT = b"\x01", b"\x02"
LIVENESS = 3
BEAT_S = float(os.environ.get("BEAT_MS", "200")) / 1000


def main() -> None:
    """Work until killed."""
    name, host, port, *rest = sys.argv[1:]
    work_ms, slow_at, slow_ms, *_ = (*map(float, rest), *(1000.0, 0.0, 0.0)[len(rest) :])
    tasks = 0
    with zmq.Context() as context:
        while True:
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.connect(f"tcp://{host}:{port}")
                socket.send(READY)
                print("ready", flush=True)
                liveness, beat_at = LIVENESS, time.monotonic() + BEAT_S
                while liveness:
                    if socket.poll(int(BEAT_S * 1000)):
                        liveness = LIVENESS
                        frames = socket.recv_multipart()
                        if len(frames) > 1:
                            address, empty, *body = frames
                            assert not empty, frames
                            tasks += 1
                            text = b"|".join(body).decode()
                            print(f"task {text}", flush=True)
                            time.sleep((slow_ms if tasks == slow_at else work_ms) / 1000)
                            socket.send_multipart([address, empty, f"{text} {name}".encode()])
                            print(f"answer {text}", flush=True)
                        else:
                            assert frames == [HEARTBEAT], frames
                    else:
                        liveness -= 1
                    if time.monotonic() > beat_at:
                        socket.send(HEARTBEAT)
                        beat_at = time.monotonic() + BEAT_S
            print("silence", flush=True)


if __name__ == "__main__":
    main()
