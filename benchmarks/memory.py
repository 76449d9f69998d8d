"""Memory that a real broker needs for a waiting request of 100 bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figure import Row, print_rows
from cbw.bench import resident_bytes, started
from cbw.client.sync_client import Client

REQUESTS = 100_000
BODY = b"x" * 100
LIMIT_BYTES = 1000
FIGURES = ("broker memory for a waiting request of 100 bytes",)


def rows() -> Iterator[Row]:
    """Resident memory before and after 100 000 requests that no worker takes."""
    with started() as system, Client(f"127.0.0.1:{system.client_port}") as client:
        warm = [client.submit(BODY, "nobody") for _ in range(100)]
        time.sleep(1.0)
        before = resident_bytes(system.broker_pid)
        futures = [client.submit(BODY, "nobody") for _ in range(REQUESTS)]
        after = _settled(system.broker_pid)
        for future in (*warm, *futures):
            future.cancel()
    each = (after - before) / REQUESTS
    yield Row(*FIGURES, f"{each:.0f} bytes", "limit: 1 000 bytes", f"{each / LIMIT_BYTES:.2f}")


def _settled(pid: int) -> int:
    """The memory of a process once it does not change within a second."""
    last = -1
    while (now := resident_bytes(pid)) != last:
        last = now
        time.sleep(1.0)
    return now


if __name__ == "__main__":
    print_rows(rows())
