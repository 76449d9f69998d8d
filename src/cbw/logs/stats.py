"""Figures of a period: requests, answers, latencies, failures, workers, clients, and what the log itself lacks.

They are made from the broker's records of each request, so the log must be of level ``debug``; with ``--log-sample`` they
are those of the sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from cbw.core import catalogue
from cbw.core.histogram import Histogram, to_percent
from cbw.core.record import Record
from cbw.logs.files import Part
from cbw.logs.search import Query, Search, found, record_of

FAILURES = (
    catalogue.FAILED,
    catalogue.GAVE_UP,
    catalogue.EXPIRED,
    catalogue.CANCELLED,
    catalogue.STOPPED,
    catalogue.REFUSED,
)
"""Events with which a request ends without an answer."""
REFUSED_MAX = 100_000
"""Most refused requests that are remembered in case they are sent again, so that they count once; the oldest are forgotten."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def figures_of(latencies: Histogram) -> dict[str, float | None]:
    """The quantiles and the longest of ``latencies``, in seconds; None if there was none."""
    found = {name: latencies.quantile(share) for name, share in QUANTILES.items()}
    return found | {"max": round(latencies.longest, 6) if latencies.count else None}


class WorkerFigures(msgspec.Struct):
    """What a worker did. ``done`` counts answers that reached the client, ``errors`` those of its handler, ``lost`` attempts
    that ended because it was lost, ``fenced`` answers that came too late, ``went`` the times that it was lost itself."""

    done: int = 0
    errors: int = 0
    lost: int = 0
    fenced: int = 0
    went: int = 0


class ClientFigures(msgspec.Struct):
    """What became of the requests of a client."""

    requests: int = 0
    answered: int = 0
    failed: int = 0


class Stats(msgspec.Struct):
    """The figures of a period, in seconds. ``since`` and ``until`` are the times of its first and last record, since 1970.

    ``gaps`` counts records that senders made and the log lacks, ``lines_lost`` lines of text that were lost, ``duplicates``
    records that arrived twice and were written once.
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
    workers: dict[str, WorkerFigures] = {}
    clients: dict[str, ClientFigures] = {}


class Counting:
    """Counts lines of a log. Its memory grows with open and refused requests, workers and clients, not with the log."""

    def __init__(self) -> None:
        self._stats = Stats()
        self._failed: Counter[str] = Counter()
        self._accepted: dict[str, dict[str, float]] = {}  # broker: its open requests: when they were accepted
        self._refused: dict[tuple[str, str], None] = {}  # requests, by broker and name
        self._latencies = Histogram(to_percent)

    def add(self, lines: Iterable[bytes]) -> None:
        """Count ``lines``."""
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
        """The figures of everything that was counted."""
        self._stats.failed = dict(+self._failed)
        self._stats.open = sum(map(len, self._accepted.values()))
        self._stats.latency_s = figures_of(self._latencies)
        return self._stats

    def _broker_said(self, record: Record) -> None:
        stats, event = self._stats, record.event
        if event == catalogue.ACCEPTED:
            self._no_longer_refused(record)
            stats.requests += 1
            self._client(record).requests += 1
            self._accepted.setdefault(record.sender, {})[record.request] = record.at
        elif event == catalogue.ANSWERED:
            stats.answered += 1
            self._worker(record).done += 1
            self._client(record).answered += 1
            self._end(record)
        elif event in FAILURES and record.request:
            if event == catalogue.REFUSED:  # it was never accepted
                if not self._is_newly_refused(record):
                    return
                stats.requests += 1
                self._client(record).requests += 1
            self._failed[event] += 1
            self._client(record).failed += 1
            if event == catalogue.FAILED:
                self._worker(record).errors += 1
            self._end(record)
        elif event == catalogue.ATTEMPT_FAILED:
            stats.attempts_lost += 1
            self._worker(record).lost += 1
        elif event == catalogue.FENCED:
            self._worker(record).fenced += 1
        elif event == catalogue.WORKER_LOST:
            self._worker(record).went += 1
        elif event == catalogue.STARTED:  # its earlier requests are gone, unless clients send them again
            self._accepted.pop(record.sender, None)

    def _is_newly_refused(self, record: Record) -> bool:
        """Whether it is the first refusal of this request."""
        key = (record.sender, record.request)
        if key in self._refused:
            return False
        self._refused[key] = None
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        return True

    def _no_longer_refused(self, record: Record) -> None:
        """It was sent again and is accepted: a request like any other."""
        key = (record.sender, record.request)
        if key in self._refused:
            del self._refused[key]
            client = self._client(record)
            client.requests -= 1
            client.failed -= 1
            self._stats.requests -= 1
            self._failed[catalogue.REFUSED] -= 1

    def _logger_said(self, record: Record) -> None:
        if record.event == catalogue.GAP:
            self._stats.gaps += record.count
        elif record.event == catalogue.LOST:
            self._stats.lines_lost += record.count
        elif record.event == catalogue.DUPLICATES:
            self._stats.duplicates += record.count

    def _end(self, record: Record) -> None:
        accepted_at = self._accepted.get(record.sender, {}).pop(record.request, None)
        if accepted_at is not None and record.event == catalogue.ANSWERED:
            self._latencies.add(max(0.0, record.at - accepted_at))

    def _worker(self, record: Record) -> WorkerFigures:
        return self._stats.workers.setdefault(record.worker, WorkerFigures())

    def _client(self, record: Record) -> ClientFigures:
        return self._stats.clients.setdefault(record.client, ClientFigures())


def stats_of(parts: Iterable[Part], query: Query) -> Stats:
    """The figures of the lines that ``query`` selects from the log."""
    counting = Counting()
    for lines in found(parts, Search(query)):
        counting.add(lines)
    return counting.stats()
