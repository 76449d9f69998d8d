"""What health and metrics cost a broker.

Throughput with and without, in turns, shows nothing that small on a busy machine; so the work itself is timed too: what the
loop and the page's thread do in a second in which Prometheus asks once, and the counting of latencies, which is never off.
"""

from __future__ import annotations

import statistics
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from cbw.bench import Load, Measured, measure
from cbw.core import events as e
from cbw.core import messages as m
from cbw.core.broker import BrokerCore
from cbw.core.latency import Latencies
from cbw.core.overview import overview
from cbw.metrics import page
from cbw.settings import STATUS_PORT
from cbw.status import status_of

ROUNDS = 15
SECONDS = 3.0
CLIENTS, WORKERS = 10_000, 1_000
BATCH = 64
REPEATS = 30


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The work of a second, the counting of a request, and both kinds of runs in turns."""
    yield _second()
    yield _counting()
    yield from _in_turns()


def _second() -> tuple[str, str, str, str]:
    core = BrokerCore()
    now = time.monotonic()
    for number in range(CLIENTS):
        request = m.Request(1, "nobody", b"x", 60.0)
        core.step([e.ClientSaid(b"c%d" % number, [m.ClientHello(f"c{number}", "b"), request])], now)
    for number in range(WORKERS):
        core.step([e.WorkerSaid(b"w%d" % number, [m.WorkerHello(f"w{number}", "b", ["s"], 1, 100)])], now)
    status = status_of("broker", "b", now, "", **overview(core, now))
    asked_s = _fastest_s(lambda: overview(core, now))
    scraped_s = _fastest_s(lambda: page(status))
    busy_s = 2 * asked_s + scraped_s  # the server's own sample, and the scrape
    name = "status pages of a broker with 10 000 clients and 1 000 workers, scraped each second"
    detail = f"loop {asked_s * 1e3:.1f} ms a question, page {scraped_s * 1e3:.1f} ms; limit 20 ms a second"
    return name, f"{busy_s * 1e3:.1f} ms a second", detail, f"{busy_s / 0.020:.2f}"


def _counting() -> tuple[str, str, str, str]:
    latencies = Latencies()
    batch = [0.001 * (number % 7 + 1) for number in range(BATCH)]

    def count() -> None:
        for _ in range(100):
            latencies.add(list(batch))

    count_s = _fastest_s(count) / (100 * BATCH)
    name = f"counting latencies in batches of {BATCH}"
    return name, f"{count_s * 1e9:.0f} ns/request", "limit 100 ns", f"{count_s / 1e-7:.2f}"


def _fastest_s(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(REPEATS):
        began_at = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began_at)
    return min(spent)


def _in_turns() -> Iterator[tuple[str, str, str, str]]:
    """Medians of the ratios of neighbouring runs, each first in half of the pairs: the machine's moods outlast a pair."""
    rates, costs, scrapes = [], [], 0
    for number in range(ROUNDS):
        if number % 2:
            without = measure(Load(seconds=SECONDS))
            with_pages, count = _scraped()
        else:
            with_pages, count = _scraped()
            without = measure(Load(seconds=SECONDS))
        rates.append(with_pages.requests_per_s / without.requests_per_s)
        costs.append(with_pages.cpu_us["broker"] / without.cpu_us["broker"])
        scrapes += count
    for name, ratios in (("throughput", rates), ("CPU time of the broker for a request", costs)):
        ratio = statistics.median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} pairs, {scrapes} scrapes"
        yield f"{name} with status pages, scraped each second", f"{ratio:.3f} of that without", spread, f"{ratio:.2f}"


def _scraped() -> tuple[Measured, int]:
    is_over = threading.Event()
    counts: list[int] = []

    def scrape() -> None:
        count = 0
        while not is_over.wait(1.0):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{STATUS_PORT}/metrics", timeout=5) as answer:
                    count += b"cbw_broker_requests_ended_total" in answer.read()
            except (OSError, urllib.error.URLError):
                continue
        counts.append(count)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        measured = measure(Load(seconds=SECONDS, status_port=STATUS_PORT))
    finally:
        is_over.set()
        thread.join()
    return measured, counts[0]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
