"""What a broker's page shows of the last minutes: figures, one sample a second, and what each worker was at."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from cbw.core.histogram import bucket_quantile

SAMPLES_MAX = 600
"""Samples of figures that are kept: ten minutes, some 100 kB."""
STREAM_MAX = 60
"""Samples of workers that are kept: a minute."""
STREAM_WORKERS_MAX = 40
"""Workers of which it is kept what they were at: as many rows as the page shows."""
SAMPLE_MIN_S = 0.5
"""Shortest time between two samples."""


FIGURES = ("waiting", "running", "rate", "p50_s", "p99_s")
"""The figures of a sample, for the page."""


class _Sample(NamedTuple):
    at: float
    waiting: int
    running: int
    rate: float
    p50_s: float | None
    p99_s: float | None


class History:
    """Samples of a broker's status, bounded in number. ``sample`` is called by one thread, the rest by any."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._counts: deque[list[int]] = deque(maxlen=STREAM_MAX)
        self._stream: deque[tuple[float, float, dict[str, Any]]] = deque(maxlen=STREAM_MAX)
        self._answered: dict[str, int] = {}
        self._ended = 0

    def sample(self, status: Mapping[str, Any], now: float) -> None:
        """Remember the figures of ``status``, unless it is that of a broker that only stands by."""
        if "latency" not in status:
            return
        before = self._samples[-1] if self._samples else None
        span_s = now - before.at if before is not None else 0.0
        if before is not None and span_s < SAMPLE_MIN_S:
            return
        counts: list[int] = status["latency"]["counts"]
        ended = status["counts"].get("answered", 0) + status["counts"].get("failed", 0)
        new = [count - was for count, was in zip(counts, self._counts[-1], strict=True)] if self._counts else counts
        rate = max(0, ended - self._ended) / span_s if span_s else 0.0
        p50_s, p99_s = bucket_quantile(new, 0.5), bucket_quantile(new, 0.99)
        self._samples.append(_Sample(now, status["waiting"], status["in_flight"], rate, p50_s, p99_s))
        self._counts.append(counts)
        self._ended = ended
        workers = status["workers"][:STREAM_WORKERS_MAX]
        known = {
            row["worker"]: (
                row["at"],
                row["at_service"] or row["services"][0],
                row["at_s"],
                row["answered"] - self._answered.get(row["worker"], row["answered"]),
            )
            for row in workers
        }
        self._answered = {row["worker"]: row["answered"] for row in workers}
        self._stream.append((now, span_s or SAMPLE_MIN_S, known))

    def shown(self, now: float) -> dict[str, Any]:
        """The history for the page: lists of figures, oldest first; ``stream``: when, and what each worker was at then."""
        samples, counts = tuple(self._samples), tuple(self._counts)
        last = [count - was for count, was in zip(counts[-1], counts[0], strict=True)] if len(counts) > 1 else []
        return {
            "history": {name: [getattr(one, name) for one in samples] for name in FIGURES},
            "p50_s": bucket_quantile(last, 0.5) if last else None,
            "p99_s": bucket_quantile(last, 0.99) if last else None,
            "stream": [({"ago": now - at, "span": span_s}, known) for at, span_s, known in tuple(self._stream)],
        }
