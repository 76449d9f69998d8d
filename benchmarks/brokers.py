"""One, two and three brokers with the same workers: what they serve together, what a request costs them, and how long a worker is
idle while another broker has work for it.

``python -m benchmarks.brokers``
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.figure import Row, milliseconds, print_rows
from benchmarks.program import HOST, free_port, running
from cbw.bench import cpu_s
from cbw.client.sync_client import Client

SECONDS = 4.0
WINDOW = 256
WORKERS = 2
COUNTS = (1, 2, 3)
TRIALS = 200
WORK_S = 0.01
IDLE_LIMIT_S = 0.02
FIGURES = (
    *(f"{count} brokers, {WORKERS} workers that serve all of them, a client each, window {WINDOW}" for count in COUNTS),
    f"a request at one broker while the only worker is busy for another: beyond its {WORK_S * 1e3:.0f} ms, p99",
)


def rows() -> Iterator[Row]:
    """Loads with more and more brokers, against one; then single requests at two brokers by turns."""
    one = 0.0
    for count, figure in zip(COUNTS, FIGURES, strict=False):
        rate, spent_s = _rate(count)
        one = one or rate
        yield Row(
            figure,
            f"{rate:,.0f} requests/s",
            f"{spent_s * 1e6:.1f} µs of the brokers' CPU a request",
            f"{rate / one:.2f}",
        )
    waits = sorted(_waits())
    p99 = waits[int(0.99 * len(waits))]
    yield Row(FIGURES[-1], milliseconds(waits), f"limit {IDLE_LIMIT_S:g} s", f"{p99 / IDLE_LIMIT_S:.2f}")


def _rate(count: int) -> tuple[float, float]:
    """Requests a second of ``count`` brokers together, and their CPU seconds for each."""
    with ExitStack() as stack:
        brokers, fronts = _system(stack, count, WORKERS, "cbw.bench:echo")
        clients = [stack.enter_context(Client(f"{HOST}:{front}", timeout=60.0)) for front in fronts]
        done = [0] * count
        stop_at = time.monotonic() + SECONDS

        def load(number: int) -> None:
            def bodies() -> Iterator[bytes]:
                while time.monotonic() < stop_at:
                    yield b"x" * 100

            for _ in clients[number].map(bodies(), window=WINDOW):
                done[number] += 1

        threads = [threading.Thread(target=load, args=(number,)) for number in range(count)]
        before = sum(cpu_s(broker) for broker in brokers)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = sum(done)
        return total / SECONDS, (sum(cpu_s(broker) for broker in brokers) - before) / total


def _waits() -> Iterator[float]:
    """How long a request waits at the second broker for a worker that works for the first one, beyond the work itself."""
    with ExitStack() as stack:
        _, fronts = _system(stack, 2, 1, "benchmarks.brokers:work")
        first, second = (stack.enter_context(Client(f"{HOST}:{front}", timeout=60.0)) for front in fronts)
        for _ in range(TRIALS):
            busy = first.submit(b"")
            began_at = time.perf_counter()
            second.call(b"")
            yield max(0.0, time.perf_counter() - began_at - 2 * WORK_S)
            busy.result()


def work(body: bytes) -> bytes:
    """A handler that takes its time."""
    time.sleep(WORK_S)
    return body


def _system(stack: ExitStack, brokers: int, workers: int, handler: str) -> tuple[list[int], list[int]]:
    """Process ids of the brokers, and their ports for clients."""
    cbw = [sys.executable, "-m", "cbw"]
    pids, fronts, backs = [], [], []
    for _ in range(brokers):
        front, back = free_port(), free_port()
        command = [*cbw, "broker", str(front), str(back), "--status-port", "0"]
        pids.append(stack.enter_context(running(command, front)).pid)
        fronts.append(front)
        backs.append(f"{HOST}:{back}" if brokers > 1 else HOST)
    for number in range(workers):
        command = [*cbw, "worker", f"W{number}", ",".join(backs), str(back), "--handler", handler, "--status-port", "0"]
        stack.enter_context(running(command))
    for front in fronts:
        with Client(f"{HOST}:{front}", timeout=60.0) as client:
            client.call(b"")
    return pids, fronts


if __name__ == "__main__":
    print_rows(rows())
