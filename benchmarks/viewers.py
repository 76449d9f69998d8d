"""What those who look at a broker's page cost it, with 1,000 workers that beat.

Each viewer asks for ``/live.json`` once a second, as the page does.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial

from benchmarks.figure import Row, in_turns, median, print_rows
from benchmarks.program import HOST, free_port
from cbw.bench import Load, StartedSystem, cpu_s, measure, started

WORKERS = 1_000
VIEWERS = (0, 1, 5, 20)
ROUNDS = 3
LOOK_S = 10.0
"""Time in seconds for which the broker's CPU time is counted, in ticks of 10 ms."""
PAIRS = 8
LOAD_VIEWERS = 5
LOAD_S = 4.0
RATIO_MIN = 0.98
"""The throughput that is to remain with five viewers."""
PAUSE_S = 1.0


def rows() -> Iterator[Row]:
    """The CPU time of the broker by viewers, and throughput with and without some."""
    port = free_port()
    with started(status_port=port) as system, _beating(system):
        spent = in_turns(ROUNDS, {count: partial(_broker_s, system, port, count) for count in VIEWERS})
        without = median(spent[0])
        for count in VIEWERS:
            name = f"CPU time of a broker with 1 000 workers and {count} viewer{'' if count == 1 else 's'} of its page"
            more = f"{(median(spent[count]) - without) * 1e3:.0f} ms a second more than without viewers"
            yield Row(name, f"{median(spent[count]) * 1e3:.0f} ms a second", more if count else "-")
        yield _throughput(system, port)


def _broker_s(system: StartedSystem, port: int, viewers: int) -> float:
    """Seconds of CPU that the broker takes in a second."""
    with _looking(port, viewers):
        time.sleep(PAUSE_S)
        before, began_at = cpu_s(system.broker_pid), time.monotonic()
        time.sleep(LOOK_S)
        return (cpu_s(system.broker_pid) - before) / (time.monotonic() - began_at)


def _throughput(system: StartedSystem, port: int) -> Row:
    """The median of the ratios of neighbouring runs, each first in half of the pairs."""
    ratios = []
    load = Load(seconds=LOAD_S, broker=(system.host, system.client_port, system.worker_port))
    for number in range(PAIRS):
        rates = {}
        for count in (0, LOAD_VIEWERS) if number % 2 else (LOAD_VIEWERS, 0):
            with _looking(port, count):
                rates[count] = measure(load).requests_per_s
        ratios.append(rates[LOAD_VIEWERS] / rates[0])
    name = f"throughput of a broker with 1 000 workers and {LOAD_VIEWERS} viewers of its page"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {PAIRS} pairs; limit {RATIO_MIN:.2f}"
    return Row(name, f"{median(ratios):.3f} of that without viewers", spread, f"{median(ratios) / RATIO_MIN:.2f}")


@contextlib.contextmanager
def _beating(system: StartedSystem) -> Iterator[None]:
    """The workers, as long as the context lasts."""
    command = [sys.executable, "-m", "benchmarks.beating", HOST, str(system.worker_port), str(WORKERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline(), "the workers were not welcomed"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def _looking(port: int, viewers: int) -> Iterator[None]:
    """Have this many viewers look at the page, as long as the context lasts.

    Raises:
        SystemExit: some have seen nothing.
    """
    is_over = threading.Event()
    seen = [0] * viewers

    def look(number: int) -> None:
        while not is_over.wait(1.0 if seen[number] else number / viewers):
            with urllib.request.urlopen(f"http://{HOST}:{port}/live.json", timeout=5) as answer:
                seen[number] += b"beating-" in answer.read()

    threads = [threading.Thread(target=look, args=(number,)) for number in range(viewers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    if not all(seen):
        raise SystemExit(f"of {viewers} viewers some have seen nothing: {seen}")


if __name__ == "__main__":
    print_rows(rows())
