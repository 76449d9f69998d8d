"""Figures of a period: requests, answers, latencies, failures, workers, clients, and what the log itself lacks.

They are made from the broker's records of each request, so the log must be of level ``debug``; with ``--log-sample`` they
are those of the sample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import median

import msgspec

from cbw.core import catalogue
from cbw.core.histogram import Histogram, to_percent
from cbw.core.record import Record
from cbw.logs.files import Part
from cbw.logs.numbers import Numbers
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
ATTEMPT_ENDS = (*FAILURES, catalogue.ANSWERED, catalogue.ATTEMPT_FAILED, catalogue.RETURNED, catalogue.RETRIED)
"""Events after which nobody is at the task that they name."""
SLOW_TIMES = 2.0
"""A worker is slow at a service if half of its requests take at least so many times what they take with the others there."""
SLOW_ANSWERS_MIN = 20
"""Fewest answers of a worker for a service by which it is judged, or others are: the half of fewer may be chance."""


def figures_of(latencies: Histogram) -> dict[str, float | None]:
    """The quantiles and the longest of ``latencies``, in seconds; None if there was none."""
    found = {name: latencies.quantile(share) for name, share in QUANTILES.items()}
    return found | {"max": round(latencies.longest, 6) if latencies.count else None}


class WorkerFigures(msgspec.Struct):
    """What a worker did. ``done`` counts answers that reached the client, ``errors`` those of its handler, ``lost`` attempts
    that ended because it was lost, ``fenced`` answers that came too late, ``went`` the times that it was lost itself. ``took_s``
    is how long its answers took from the handing out of a request."""

    done: int = 0
    errors: int = 0
    lost: int = 0
    fenced: int = 0
    went: int = 0
    took_s: dict[str, float | None] = {}


class ServiceFigures(msgspec.Struct):
    """What became of the requests of a service. ``latency_s`` is from acceptance to answer, ``took_s`` from the handing out."""

    answered: int = 0
    failed: int = 0
    latency_s: dict[str, float | None] = {}
    took_s: dict[str, float | None] = {}


class SlowWorker(msgspec.Struct):
    """Half of the requests of ``service`` take ``p50_s`` or more with ``worker``, but ``others_p50_s`` with the others."""

    worker: str
    service: str
    p50_s: float
    others_p50_s: float


class ClientFigures(msgspec.Struct):
    """What became of the requests of a client."""

    requests: int = 0
    answered: int = 0
    failed: int = 0


class Stats(msgspec.Struct):
    """The figures of a period, in seconds. ``since`` and ``until`` are the times of its first and last record, since 1970.

    ``gaps`` counts records that senders made and the log tells that it lacks, ``lines_lost`` lines of text that were lost,
    ``duplicates`` records that arrived twice and were written once. ``missing`` counts records that are neither there nor told to
    be lost, as if somebody had cut them out; only of a whole log, as the clocks of those that end a period differ.
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
    missing: int = 0
    workers: dict[str, WorkerFigures] = {}
    clients: dict[str, ClientFigures] = {}
    services: dict[str, ServiceFigures] = {}
    slow: list[SlowWorker] = []


class Counting:
    """Counts lines of a log. Its memory grows with open and refused requests, workers, their services, and clients, not with the
    log."""

    def __init__(self) -> None:
        self._stats = Stats()
        self._numbers: dict[str, Numbers] = {}  # by boot
        self._failed: Counter[str] = Counter()
        self._accepted: dict[str, dict[str, float]] = {}  # broker: its open requests: when they were accepted
        self._refused: dict[tuple[str, str], None] = {}  # requests, by broker and name
        self._latencies = Histogram(to_percent)
        self._handed_out: dict[str, dict[int, float]] = {}  # broker: the tasks that workers have: since when
        self._of_services: dict[str, Histogram] = defaultdict(_histogram)  # from acceptance to answer
        self._took: dict[tuple[str, str], Histogram] = defaultdict(
            _histogram
        )  # from handing out, by worker and by service
        self._took_of_workers: dict[str, Histogram] = defaultdict(_histogram)
        self._took_of_services: dict[str, Histogram] = defaultdict(_histogram)

    def add(self, lines: Iterable[bytes]) -> None:
        """Count ``lines``."""
        stats = self._stats
        for line in lines:
            record = record_of(line)
            if record is None:
                stats.text_lines += 1
                continue
            stats.records += 1
            if record.seq:
                self._number(record)
            stats.since = record.at if stats.since is None else min(stats.since, record.at)
            stats.until = record.at if stats.until is None else max(stats.until, record.at)
            if record.role == "broker":
                self._broker_said(record)
            elif record.role == "logger":
                self._logger_said(record)

    def _number(self, record: Record) -> None:
        if record.boot not in self._numbers:
            self._numbers[record.boot] = Numbers(record.sender)
        self._numbers[record.boot].add(record.seq)

    @property
    def missing(self) -> int:
        """How many records are not there between others of the same start of their sender, and are not told to be lost."""
        return max(0, sum(numbers.missing for numbers in self._numbers.values()) - self._stats.gaps)

    def stats(self) -> Stats:
        """The figures of everything that was counted."""
        self._stats.failed = dict(+self._failed)
        self._stats.open = sum(map(len, self._accepted.values()))
        self._stats.latency_s = figures_of(self._latencies)
        for name, worker in self._stats.workers.items():
            worker.took_s = figures_of(self._took_of_workers[name])
        for name, service in self._stats.services.items():
            service.latency_s = figures_of(self._of_services[name])
            service.took_s = figures_of(self._took_of_services[name])
        self._stats.slow = slow_workers(self._took)
        return self._stats

    def _broker_said(self, record: Record) -> None:
        stats, event = self._stats, record.event
        if event == catalogue.ACCEPTED:
            self._no_longer_refused(record)
            stats.requests += 1
            self._client(record).requests += 1
            self._accepted.setdefault(record.sender, {})[record.request] = record.at
        elif event == catalogue.HANDED_OUT:
            self._handed_out.setdefault(record.sender, {})[record.task] = record.at
        elif event == catalogue.ANSWERED:
            stats.answered += 1
            self._service(record).answered += 1
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
            self._service(record).failed += 1
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
            self._handed_out.pop(record.sender, None)
        if event in ATTEMPT_ENDS and record.task:
            self._end_attempt(record)

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
        """Count a request like any other that was refused, sent again, and is accepted."""
        key = (record.sender, record.request)
        if key in self._refused:
            del self._refused[key]
            client = self._client(record)
            client.requests -= 1
            client.failed -= 1
            self._stats.requests -= 1
            self._failed[catalogue.REFUSED] -= 1
            self._service(record).failed -= 1

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
            latency_s = max(0.0, record.at - accepted_at)
            self._latencies.add(latency_s)
            self._of_services[record.service].add(latency_s)

    def _end_attempt(self, record: Record) -> None:
        """Its worker has answered, with a result or an error, or will not."""
        since = self._handed_out.get(record.sender, {}).pop(record.task, None)
        if since is None or record.event not in (catalogue.ANSWERED, catalogue.FAILED):
            return
        took_s = max(0.0, record.at - since)
        self._took[record.worker, record.service].add(took_s)
        self._took_of_workers[record.worker].add(took_s)
        self._took_of_services[record.service].add(took_s)

    def _service(self, record: Record) -> ServiceFigures:
        return self._stats.services.setdefault(record.service, ServiceFigures())

    def _worker(self, record: Record) -> WorkerFigures:
        return self._stats.workers.setdefault(record.worker, WorkerFigures())

    def _client(self, record: Record) -> ClientFigures:
        return self._stats.clients.setdefault(record.client, ClientFigures())


def _histogram() -> Histogram:
    return Histogram(to_percent)


def slow_workers(took: Mapping[tuple[str, str], Histogram]) -> list[SlowWorker]:
    """The workers that are slow at a service, the slowest first. ``took`` is how long their answers took, by worker and service.

    A worker is slow if its p50 is at least :data:`SLOW_TIMES` the median p50 of the others that serve the same. Those with fewer
    than :data:`SLOW_ANSWERS_MIN` answers are left out.
    """
    halves: dict[str, dict[str, float]] = defaultdict(dict)
    for (worker, service), histogram in took.items():
        half = histogram.quantile(0.5)
        if half is not None and histogram.count >= SLOW_ANSWERS_MIN:
            halves[service][worker] = half
    found = []
    for service, by_worker in halves.items():
        for worker, half in by_worker.items():
            others = [other for name, other in by_worker.items() if name != worker]
            if others and half >= SLOW_TIMES * (usual := median(others)) > 0:
                found.append(SlowWorker(worker, service, round(half, 6), round(usual, 6)))
    return sorted(found, key=lambda slow: -slow.p50_s / slow.others_p50_s)


def stats_of(parts: Iterable[Part], query: Query) -> Stats:
    """The figures of the lines that ``query`` selects from the log."""
    counting = Counting()
    for lines in found(parts, Search(query)):
        counting.add(lines)
    stats = counting.stats()
    if not query.is_timed:
        stats.missing = counting.missing
    return stats
