"""From the SIGKILL of a worker to its request in the hands of another: 100 trials with real processes."""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cbw.client import Client
from cbw.local import Options, Scale, System

TRIALS = 100
LIMIT_S = 0.1
TRACE = "CBW_BENCH_BEGUN"


def begin(body: bytes) -> bytes:
    """Say when and where it began, then work until killed, or answer at once if another has begun it before."""
    path = Path(os.environ[TRACE]) / body.decode()
    is_again = path.exists()
    with path.open("a") as file:
        file.write(f"{time.time()} {os.getpid()}\n")
    if not is_again:
        time.sleep(30)
    return body


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Times from just before the kill to the beginning on another worker."""
    times = sorted(_trials())
    within = sum(seconds <= LIMIT_S for seconds in times)
    p50, longest = statistics.median(times) * 1000, times[-1] * 1000
    name = "worker SIGKILLed to its request begun by another"
    limit = f"limit {LIMIT_S * 1000:.0f} ms: {within} of {len(times)} within"
    yield name, f"p50 {p50:.1f} ms, max {longest:.1f} ms", limit, f"{p50 / (LIMIT_S * 1000):.2f}"


def _trials() -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ[TRACE] = folder
        options = Options(
            scale=Scale(cli=0, wor=3, log=0), client_port=0, worker_port=0, handlers=("benchmarks.failover:begin",)
        )
        with System(options, lambda *_: None) as system:
            client_port, _ = system.start()
            with Client(f"127.0.0.1:{client_port}", timeout=60.0) as client:
                for trial in range(TRIALS):
                    future = client.submit(f"trial-{trial}")
                    path = Path(folder) / f"trial-{trial}"
                    _, pid = _lines(path, 1)[0].split()
                    killed_at = time.time()
                    os.kill(int(pid), signal.SIGKILL)
                    yield float(_lines(path, 2)[1].split()[0]) - killed_at
                    future.result()
                    _restart(system)


def _lines(path: Path, count: int) -> list[str]:
    while True:
        if path.exists() and path.read_text().count("\n") >= count:
            return path.read_text().splitlines()
        time.sleep(0.001)


def _restart(system: System) -> None:
    for worker in system.workers:
        if not worker.is_running:
            worker.start()
    time.sleep(0.6)  # until it is registered; two others are idle meanwhile


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
