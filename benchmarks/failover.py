"""From the SIGKILL of a worker to its request in the hands of another: 100 trials with real processes."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figure import Row, median, milliseconds, print_rows
from cbw.bench import started
from cbw.client.sync_client import Client
from cbw.local import LocalSystem

TRIALS = 100
LIMIT_S = 0.1
FOLDER_VARIABLE = "CBW_BENCH_BEGUN"
FIGURES = ("worker SIGKILLed to its request begun by another",)


def begin(body: bytes) -> bytes:
    """Say when and where it began, then work until killed, or answer at once if another has begun it before."""
    path = Path(os.environ[FOLDER_VARIABLE]) / body.decode()
    is_again = path.exists()
    with path.open("a") as file:
        file.write(f"{time.time()} {os.getpid()}\n")
    if not is_again:
        time.sleep(30)
    return body


def rows() -> Iterator[Row]:
    """Times from just before the kill to the beginning on another worker."""
    times = list(_trials())
    within = sum(seconds <= LIMIT_S for seconds in times)
    limit = f"limit {LIMIT_S * 1000:.0f} ms: {within} of {len(times)} within"
    yield Row(*FIGURES, milliseconds(times), limit, f"{median(times) / LIMIT_S:.2f}")


def _trials() -> Iterator[float]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER_VARIABLE] = folder
        with (
            started(workers=3, handlers=("benchmarks.failover:begin",)) as system,
            Client(f"127.0.0.1:{system.client_port}", timeout=60.0) as client,
        ):
            for trial in range(TRIALS):
                future = client.submit(f"trial-{trial}")
                path = Path(folder) / f"trial-{trial}"
                _, pid = _lines(path, 1)[0].split()
                killed_at = time.time()
                os.kill(int(pid), signal.SIGKILL)
                yield float(_lines(path, 2)[1].split()[0]) - killed_at
                future.result()
                _restart(system.processes)


def _lines(path: Path, count: int) -> list[str]:
    """The lines of a file, once it has ``count`` of them."""
    while True:
        if path.exists() and path.read_text().count("\n") >= count:
            return path.read_text().splitlines()
        time.sleep(0.001)


def _restart(system: LocalSystem) -> None:
    for worker in system.workers:
        if not worker.is_running:
            worker.start()
    time.sleep(0.6)  # until it is registered; two others are idle meanwhile


if __name__ == "__main__":
    print_rows(rows())
