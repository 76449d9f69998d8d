"""Requests per second with the broker's status pages served and scraped each second, against the same without, in turns."""

from __future__ import annotations

import statistics
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

from cbw.bench import Load, measure
from cbw.settings import STATUS_PORT

ROUNDS = 9
SECONDS = 3.0


def rows() -> Iterator[tuple[str, str, str, str]]:
    """The median of the ratios of neighbouring runs: the machine's moods outlast a pair."""
    ratios, scrapes = [], 0
    for _ in range(ROUNDS):
        without = measure(Load(seconds=SECONDS)).requests_per_s
        with_pages, count = _scraped()
        ratios.append(with_pages / without)
        scrapes += count
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} pairs, {scrapes} scrapes"
    yield "throughput with status pages, scraped each second", f"{ratio:.3f} of that without", spread, f"{ratio:.2f}"


def _scraped() -> tuple[float, int]:
    is_over = threading.Event()
    counts: list[int] = []

    def scrape() -> None:
        count = 0
        while not is_over.wait(1.0):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{STATUS_PORT}/metrics", timeout=5) as page:
                    count += b"cbw_broker_requests_ended_total" in page.read()
            except (OSError, urllib.error.URLError):
                continue
        counts.append(count)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        rate = measure(Load(seconds=SECONDS, has_status=True)).requests_per_s
    finally:
        is_over.set()
        thread.join()
    return rate, counts[0]


if __name__ == "__main__":
    for row in rows():
        print(*row, sep=" | ")
