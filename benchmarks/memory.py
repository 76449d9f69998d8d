"""Memory that a real broker needs for a waiting request of 100 bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from cbw.client import Client
from cbw.local import Options, Scale, System

REQUESTS = 100_000
BODY = b"x" * 100


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Resident memory before and after 100 000 requests that no worker takes."""
    with System(Options(scale=Scale(cli=0, wor=0, log=0), client_port=0, worker_port=0), lambda *_: None) as system:
        client_port, _ = system.start()
        assert system.broker is not None and system.broker.process is not None
        pid = system.broker.process.pid
        with Client(f"127.0.0.1:{client_port}") as client:
            warm = [client.submit(BODY, "nobody") for _ in range(100)]
            time.sleep(1.0)
            before = _resident_bytes(pid)
            futures = [client.submit(BODY, "nobody") for _ in range(REQUESTS)]
            after = _settled(pid)
            for future in (*warm, *futures):
                future.cancel()
    each = (after - before) / REQUESTS
    yield (
        "broker memory for a waiting request of 100 bytes",
        f"{each:.0f} bytes",
        "limit: 1 000 bytes",
        f"{each / 1000:.2f}",
    )


def _settled(pid: int) -> int:
    last = -1
    while (now := _resident_bytes(pid)) != last:
        last = now
        time.sleep(1.0)
    return now


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
