"""What health and metrics cost a broker.

Throughput with and without, in turns, shows nothing that small on a busy machine; so the work itself is timed too: what the
loop and the page's thread do in a second in which Prometheus asks once, and the counting of latencies, which is never off.
"""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from benchmarks import viewers
from benchmarks.dispatch import filled_core
from benchmarks.figure import Row, fastest_s, median, print_rows
from cbw.bench import Load, Measured, measure
from cbw.core.broker.snapshot import snapshot
from cbw.core.histogram import Latencies
from cbw.observe.inquiry import status_of
from cbw.observe.metrics import page
from cbw.settings import STATUS_PORT

ROUNDS = 15
SECONDS = 3.0
CLIENTS, WORKERS = 10_000, 1_000
BATCH = 64
REPEATS = 30


def rows() -> Iterator[Row]:
    """The work of a second, the counting of a request, both kinds of runs in turns, and what viewers of the page cost."""
    yield _second()
    yield _counting()
    yield from _in_turns()
    yield from viewers.rows()


def _second() -> Row:
    core = filled_core(waiting=CLIENTS, workers=WORKERS, clients=CLIENTS)
    now = time.monotonic()
    status = status_of("broker", "b", now, "", **snapshot(core, now))
    asked_s = fastest_s(lambda: snapshot(core, now), REPEATS)
    scraped_s = fastest_s(lambda: page(status), REPEATS)
    busy_s = 2 * asked_s + scraped_s  # the server's own sample, and the scrape
    name = "status pages of a broker with 10 000 clients and 1 000 workers, scraped each second"
    detail = f"loop {asked_s * 1e3:.1f} ms a question, page {scraped_s * 1e3:.1f} ms; limit 20 ms a second"
    return Row(name, f"{busy_s * 1e3:.1f} ms a second", detail, f"{busy_s / 0.020:.2f}")


def _counting() -> Row:
    latencies = Latencies()
    batch = [0.001 * (number % 7 + 1) for number in range(BATCH)]

    def count() -> None:
        for _ in range(100):
            latencies.add(list(batch))

    count_s = fastest_s(count, REPEATS) / (100 * BATCH)
    name = f"counting latencies in batches of {BATCH}"
    return Row(name, f"{count_s * 1e9:.0f} ns/request", "limit 100 ns", f"{count_s / 1e-7:.2f}")


def _in_turns() -> Iterator[Row]:
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
        ratio = median(ratios)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} pairs, {scrapes} scrapes"
        figure = f"{name} with status pages, scraped each second"
        yield Row(figure, f"{ratio:.3f} of that without", spread, f"{ratio:.2f}")


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
    print_rows(rows())
