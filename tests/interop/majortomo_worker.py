"""A worker made with PyPI's ``majortomo``: ``python majortomo_worker.py SERVICE ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]``.

Its SLOW_AT-th task (1 is the first) takes SLOW_MS. The environment variables BEAT_MS (200) and PARTS (0) say how often it
beats, and how many PARTIAL messages come before the end.
"""

from __future__ import annotations

import os
import sys
import time

from majortomo import Worker, error

BEAT_S = float(os.environ.get("BEAT_MS", "200")) / 1000
PARTS = int(os.environ.get("PARTS", "0"))
SILENT_BEATS = 4
"""As in its own defaults: 10 s of silence, a beat each 2.5 s."""


class CountingWorker(Worker):
    """Says when it connects."""

    def connect(self, reconnect: bool = False) -> None:
        if reconnect:
            print("silence", flush=True)
        super().connect(reconnect)
        print("ready", flush=True)


def main() -> None:
    """Work until killed."""
    service, name, host, port, *rest = sys.argv[1:]
    work_ms, slow_at, slow_ms, *_ = (*map(float, rest), *(1000.0, 0.0, 0.0)[len(rest) :])
    worker = CountingWorker(f"tcp://{host}:{port}", service, BEAT_S, SILENT_BEATS * BEAT_S)
    worker.connect()
    tasks = 0
    while True:
        try:
            client, body = worker.wait_for_request()
        except error.Disconnected:
            print("disconnected", flush=True)
            worker.connect()
            continue
        tasks += 1
        text = b"|".join(body).decode()
        print(f"task {text}", flush=True)
        time.sleep((slow_ms if tasks == slow_at else work_ms) / 1000)
        for part in range(1, PARTS + 1):
            worker.send_reply_partial(client, [f"{text} part {part}".encode()])
        worker.send_reply_final(client, [f"{text} {name}".encode()])
        print(f"answer {text}", flush=True)


if __name__ == "__main__":
    main()
