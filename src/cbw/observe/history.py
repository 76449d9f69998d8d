"""What a broker's page shows of the last minutes: figures, one sample a second, and what each worker was at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cbw.core.catalogue import FENCED, WORKER_LOST
from cbw.core.histogram import bucket_quantile
from cbw.observe.choice import WorkerChoice, urgencies

SAMPLES_MAX = 600
"""Samples of figures that are kept: ten minutes, some 100 kB."""
STREAM_MAX = 60
"""Samples of workers that are kept: a minute."""
STREAM_WORKERS_MAX = 40
"""Rows of the worker stream, and so workers of which it is kept what they were at in a sample."""
MAP_WORKERS_MAX = 14
"""Workers in the picture of who serves whom: as many as fit on a screen beside each other's lines."""
STREAM_LOST_S = 60.0
"""How long a lost worker, or one that answered too late, is in the worker stream: as long as what is kept of it."""
MAP_LOST_S = 10.0
"""How long a lost worker is in the picture of who serves whom."""
LOST_MAX = 1000
"""Lost workers that are remembered, and as many that answered too late."""
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
        self._notable: dict[str, dict[str, float]] = {WORKER_LOST: {}, FENCED: {}}  # the last time of each worker
        self._stream_choice = WorkerChoice(STREAM_WORKERS_MAX)
        self._map_choice = WorkerChoice(MAP_WORKERS_MAX)
        self._rows: dict[str, list[str]] = {"stream": [], "map": []}
        self._lost: dict[str, float] = {}

    def sample(self, status: Mapping[str, Any], now: float, events: Iterable[Mapping[str, Any]] = ()) -> None:
        """Remember the figures of ``status``, unless it is that of a broker that only stands by. ``events`` are the broker's
        last, with how long ago each was (``ago_s``).
        """
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
        workers = status["workers"]
        answered = {
            row["worker"]: row["answered"] - self._answered.get(row["worker"], row["answered"]) for row in workers
        }
        self._answered = {row["worker"]: row["answered"] for row in workers}
        self._note(events, now)
        self._choose(workers, {name for name, count in answered.items() if count > 0}, now)
        chosen = frozenset(self._rows["stream"])
        known = {
            row["worker"]: (
                row["at"],
                row["at_service"] or row["services"][0],
                row["at_s"],
                answered[row["worker"]],
            )
            for row in workers
            if row["worker"] in chosen
        }
        self._stream.append((now, span_s or SAMPLE_MIN_S, known))

    def _note(self, events: Iterable[Mapping[str, Any]], now: float) -> None:
        """Remember when workers were lost or answered too late: others drive these events out of the broker's last."""
        for event in events:
            if event["event"] in self._notable:
                self._notable[event["event"]][event["worker"]] = now - event["ago_s"]
        for kind, times in self._notable.items():
            newest = sorted(((at, name) for name, at in times.items() if now - at < STREAM_LOST_S), reverse=True)
            self._notable[kind] = {name: at for at, name in newest[:LOST_MAX]}

    def _choose(self, workers: list[Mapping[str, Any]], active: set[str], now: float) -> None:
        """Choose the workers of both pictures."""
        lost = {name: now - at for name, at in self._notable[WORKER_LOST].items()}
        gone = lost.keys() - {row["worker"] for row in workers}
        gone_lately = {name: lost[name] for name in gone if lost[name] < MAP_LOST_S}
        late = self._notable[FENCED]
        in_stream = urgencies(workers, active, lost, late, STREAM_WORKERS_MAX)
        in_map = urgencies(workers, active, gone_lately, late, MAP_WORKERS_MAX)
        self._rows = {
            "stream": self._stream_choice.choose(in_stream, now),
            "map": self._map_choice.choose(in_map, now),
        }
        self._lost = dict(self._notable[WORKER_LOST])

    def shown(self, now: float) -> dict[str, Any]:
        """The history for the page: lists of figures, oldest first; ``stream``: when, and what each of its workers was at then;
        ``rows``: the workers that each picture shows; ``lost``: how many seconds ago workers were lost.
        """
        samples, counts = tuple(self._samples), tuple(self._counts)
        last = [count - was for count, was in zip(counts[-1], counts[0], strict=True)] if len(counts) > 1 else []
        return {
            "history": {name: [getattr(one, name) for one in samples] for name in FIGURES},
            "p50_s": bucket_quantile(last, 0.5) if last else None,
            "p99_s": bucket_quantile(last, 0.99) if last else None,
            "stream": [({"ago": now - at, "span": span_s}, known) for at, span_s, known in tuple(self._stream)],
            "rows": self._rows,
            "lost": {name: now - at for name, at in self._lost.items()},
        }
