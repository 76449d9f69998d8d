"""Figures of a period: requests, answers, how long they took, failures, workers, clients, and what the log itself lacks.

They come from the broker's records of each request, so they need a log of level ``debug``; with ``--log-sample`` they are of
the sample.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from cbw.core.events import Record
from cbw.logs.files import Part
from cbw.logs.search import Query, Search, found, record_of

FAILURES = ("failed", "gave_up", "expired", "cancelled", "stopped", "refused")
"""How a request ends without an answer."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_EXACT = 2
"""Digits behind the first by which latencies are counted: memory stays small, quantiles are good to 1 %."""


class Latencies:
    """Durations in seconds, as counts of rounded values."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self.longest: float | None = None

    def add(self, seconds: float) -> None:
        """One more."""
        digits = _EXACT - math.floor(math.log10(seconds)) if seconds > 0 else 6
        self._counts[round(seconds, digits)] += 1
        self.longest = seconds if self.longest is None else max(self.longest, seconds)

    def figures(self) -> dict[str, float | None]:
        """Quantiles and the longest; None if there was none."""
        found = {name: self._quantile(share) for name, share in QUANTILES.items()}
        return found | {"max": None if self.longest is None else round(self.longest, 6)}

    def _quantile(self, share: float) -> float | None:
        left = share * sum(self._counts.values())
        for seconds, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return seconds
        return None


class Worker(msgspec.Struct):
    """``done`` are answers that counted; ``errors`` its handler's; ``lost`` attempts that ended with it; ``fenced`` answers
    that came too late; ``went`` how often it was lost itself."""

    done: int = 0
    errors: int = 0
    lost: int = 0
    fenced: int = 0
    went: int = 0


class Client(msgspec.Struct):
    """What became of its requests."""

    requests: int = 0
    answered: int = 0
    failed: int = 0


class Stats(msgspec.Struct):
    """Times are seconds; ``since`` and ``until`` are those of the first and the last record, since 1970.

    ``gaps`` are records that senders made and the log lacks, ``lines_lost`` lines of text that it had no room for,
    ``duplicates`` records that came twice and were written once.
    """

    since: float | None = None
    until: float | None = None
    records: int = 0
    text_lines: int = 0
    requests: int = 0
    answered: int = 0
    failed: dict[str, int] = {}
    open: int = 0
    attempts_lost: int = 0
    latency_s: dict[str, float | None] = {}
    gaps: int = 0
    lines_lost: int = 0
    duplicates: int = 0
    workers: dict[str, Worker] = {}
    clients: dict[str, Client] = {}


class Counting:
    """Fed line by line; what it keeps grows with what is open, with workers and with clients, not with the log."""

    def __init__(self) -> None:
        self._stats = Stats()
        self._failed: Counter[str] = Counter()
        self._accepted: dict[str, dict[str, float]] = {}  # broker: its open requests: when
        self._latencies = Latencies()

    def add(self, lines: Iterable[bytes]) -> None:
        """Count these lines."""
        stats = self._stats
        for line in lines:
            record = record_of(line)
            if record is None:
                stats.text_lines += 1
                continue
            stats.records += 1
            stats.since = record.at if stats.since is None else min(stats.since, record.at)
            stats.until = record.at if stats.until is None else max(stats.until, record.at)
            if record.role == "broker":
                self._broker_said(record)
            elif record.role == "logger":
                self._logger_said(record)

    def stats(self) -> Stats:
        """What was counted."""
        self._stats.failed = dict(self._failed)
        self._stats.open = sum(map(len, self._accepted.values()))
        self._stats.latency_s = self._latencies.figures()
        return self._stats

    def _broker_said(self, record: Record) -> None:
        stats, event = self._stats, record.event
        if event == "accepted":
            stats.requests += 1
            self._client(record).requests += 1
            self._accepted.setdefault(record.sender, {})[record.request] = record.at
        elif event == "answered":
            stats.answered += 1
            self._worker(record).done += 1
            self._client(record).answered += 1
            self._end(record)
        elif event in FAILURES and record.request:
            if event == "refused":  # so it was never accepted
                stats.requests += 1
                self._client(record).requests += 1
            self._failed[event] += 1
            self._client(record).failed += 1
            if event == "failed":
                self._worker(record).errors += 1
            self._end(record)
        elif event == "attempt_failed":
            stats.attempts_lost += 1
            self._worker(record).lost += 1
        elif event == "fenced":
            self._worker(record).fenced += 1
        elif event == "worker_lost":
            self._worker(record).went += 1
        elif event == "started":  # what it knew before is gone with it, unless clients send it again
            self._accepted.pop(record.sender, None)

    def _logger_said(self, record: Record) -> None:
        if record.event == "gap":
            self._stats.gaps += record.count
        elif record.event == "lost":
            self._stats.lines_lost += record.count
        elif record.event == "duplicates":
            self._stats.duplicates += record.count

    def _end(self, record: Record) -> None:
        accepted_at = self._accepted.get(record.sender, {}).pop(record.request, None)
        if accepted_at is not None and record.event == "answered":
            self._latencies.add(max(0.0, record.at - accepted_at))

    def _worker(self, record: Record) -> Worker:
        return self._stats.workers.setdefault(record.worker, Worker())

    def _client(self, record: Record) -> Client:
        return self._stats.clients.setdefault(record.client, Client())


def stats_of(parts: Iterable[Part], query: Query) -> Stats:
    """The figures of what ``query`` wants of the log."""
    counting = Counting()
    for lines in found(parts, Search(query)):
        counting.add(lines)
    return counting.stats()
