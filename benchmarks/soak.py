"""``python -m benchmarks.soak --minutes 30``: a system with a journal at half load; its memory must not grow.

Most requests are echoed. Some fail, some are cancelled, some run out of time, some are started under a ticket and their results
collected: what the broker, the workers, the client and the journal remember of all these must end with them. Exit code 1: a
request was lost, or the memory of a process grew.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from pathlib import Path

from benchmarks.figure import median
from cbw.bench import Load, StartedSystem, measure, resident_bytes, started
from cbw.client.sync_client import Client
from cbw.core.histogram import Histogram, to_percent

WORKERS = 2
LOAD = 0.5
"""Of what the system does at full speed, measured first."""
TICK_S = 0.01
OPEN_TICKETS = 10
"""Tickets whose results are collected later."""
SAMPLE_S = 5.0
GROWTH_MAX = 0.05
"""How much the memory of a process may differ between the second tenth of the time and the last: pages of the allocator."""
MIB = 1 << 20


def handle(body: bytes) -> bytes:
    """What the workers do: echo, but fail and dawdle when asked to."""
    if body.startswith(b"fail"):
        raise ValueError("as it was asked to")
    if body.startswith(b"dawdle"):
        time.sleep(0.05)
    return body


class Soak:
    """Sends at a steady rate, and counts how requests end."""

    def __init__(self, client: Client, requests_per_s: float) -> None:
        self.ends: Counter[str] = Counter()
        self.sent = self.collected = 0
        self.latency = Histogram(to_percent)
        self._client = client
        self._requests_per_s = requests_per_s
        self._is_over = False
        self._tickets = threading.Thread(target=self._use_tickets, daemon=True)
        self._tickets.start()

    def send_for(self, seconds: float) -> None:
        """Send for so long."""
        began_at = last_at = time.perf_counter()
        owed = 0.0
        while (now := time.perf_counter()) - began_at < seconds:
            owed += (now - last_at) * self._requests_per_s
            last_at = now
            for _ in range(int(owed)):
                self._send()
            owed -= int(owed)
            time.sleep(TICK_S)

    def _send(self) -> None:
        number, client = self.sent, self._client
        self.sent += 1
        kind, body, timeout = number % 1000, b"%d" % number, 60.0
        if kind <= 10:
            body = b"fail %d" % number
        elif kind == 11:
            body, timeout = b"dawdle %d" % number, 0.02
        future = client.submit(body.ljust(100), timeout=timeout)
        if 20 <= kind < 25:
            future.cancel()
        sent_at = time.perf_counter() if number % 64 == 0 else 0.0
        future.add_done_callback(lambda future: self._ended(future, sent_at))

    def _ended(self, future: Future[bytes], sent_at: float) -> None:
        if future.cancelled():
            self.ends["cancelled"] += 1
        elif (error := future.exception()) is not None:
            self.ends[type(error).__name__] += 1
        else:
            self.ends["answered"] += 1
            if sent_at:
                self.latency.add(time.perf_counter() - sent_at)

    def _use_tickets(self) -> None:
        """Start requests under tickets, and collect the results of earlier ones."""
        tickets: deque[str] = deque()
        while tickets or not self._is_over:
            if not self._is_over:
                tickets.append(self._client.start(b"ticket"))
            if len(tickets) > OPEN_TICKETS or self._is_over:
                self.collected += self._client.result(tickets.popleft(), timeout=60) == b"ticket"
            time.sleep(TICK_S)

    def end(self) -> None:
        """Wait for everything, at most a minute."""
        self._is_over = True
        until = time.monotonic() + 60
        self._tickets.join(60)
        while self.open and time.monotonic() < until:
            time.sleep(0.1)

    @property
    def open(self) -> int:
        """How many requests have not ended."""
        return self.sent - sum(self.ends.values()) + self._tickets.is_alive()


def soak(minutes: float) -> bool:
    """Do it, and print what was seen. Returns whether all is well."""
    with tempfile.TemporaryDirectory(prefix="cbw-soak-") as folder:
        full = measure(Load(workers=WORKERS, seconds=5.0, journal=f"{folder}/full")).requests_per_s
        rate = LOAD * full
        print(f"full load {full:,.0f} requests/s; {rate:,.0f} for {minutes:g} minutes", flush=True)
        journal = f"{folder}/soak"
        with (
            started(workers=WORKERS, handlers=("benchmarks.soak:handle",), journal=journal) as system,
            Client(f"127.0.0.1:{system.client_port}", timeout=60.0) as client,
        ):
            run = Soak(client, rate)
            samples = _samples(run, system, Path(journal), minutes * 60)
            run.end()
    return _report(run, samples)


def _samples(run: Soak, system: StartedSystem, journal: Path, seconds: float) -> dict[str, list[float]]:
    """The memory of each process in bytes, and the size of the journal, while ``run`` sends."""
    pids = {"broker": system.broker_pid, "client": os.getpid()}
    for number, worker in enumerate(system.processes.workers, 1):
        assert worker.process is not None
        pids[f"worker {number}"] = worker.process.pid
    samples: dict[str, list[float]] = {name: [] for name in (*pids, "journal")}
    began_at = said_at = time.monotonic()
    while time.monotonic() - began_at < seconds:
        run.send_for(SAMPLE_S)
        for name, pid in pids.items():
            samples[name].append(resident_bytes(pid))
        samples["journal"].append(sum(path.stat().st_size for path in journal.iterdir()))
        if time.monotonic() - said_at >= 60:
            said_at = time.monotonic()
            sizes = ", ".join(f"{name} {values[-1] / MIB:.1f}" for name, values in samples.items())
            print(f"{(said_at - began_at) / 60:4.0f} min  {run.sent:,} sent; MiB: {sizes}", flush=True)
    return samples


def _report(run: Soak, samples: dict[str, list[float]]) -> bool:
    ends = ", ".join(f"{name} {count:,}" for name, count in sorted(run.ends.items()))
    p50, p99 = run.latency.quantile(0.5), run.latency.quantile(0.99)
    assert p50 is not None and p99 is not None, "nothing was answered"
    print(f"{run.sent:,} sent: {ends}; without an end: {run.open}; results of tickets collected: {run.collected:,}")
    print(f"answered within p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")
    is_well = not run.open
    for name, values in samples.items():
        tenth = max(1, len(values) // 10)
        early, late = median(values[tenth : 2 * tenth] or values), median(values[-tenth:])
        growth = late / early - 1
        has_grown = growth > GROWTH_MAX and name != "journal"  # which is cut now and then
        is_well = is_well and not has_grown
        print(f"{name:9} {early / MIB:6.1f} MiB early, {late / MIB:6.1f} late: {growth:+.1%}{' GROWN' * has_grown}")
    return is_well


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    sys.exit(0 if soak(parser.parse_args().minutes) else 1)
