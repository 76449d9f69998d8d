"""How long something took, by service, as the end that does it measures it: a worker its handlers, a client its requests.

What ends is only remembered, and counted many at a time: a client spends 7 µs on a request. Whoever looks gets a
:class:`CountedLatencies` of its own, so that another thread may look.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from cbw.core.histogram import BOUNDS_S, TIMED_SERVICES_MAX, Latencies, quantile_of

UNCOUNTED_MAX = 500
"""What is remembered before it is counted. To count it takes some 50 µs, for which an answer that has just come may wait."""
RECENT_COUNT_MAX = 1000
"""When so many are counted as recent, they count half from then on: quantiles are those of about the last thousand."""


class _Timed:
    """The latencies of one service, and how many of the recent ones are in each bucket."""

    __slots__ = ("recent", "whole")

    def __init__(self) -> None:
        self.whole = Latencies()
        self.recent = [0] * len(self.whole.counts)

    def plus(self, seconds: list[float]) -> _Timed:
        """These and ``seconds``, which are sorted thereby."""
        made = _Timed()
        made.whole.merge(self.whole)
        made.whole.add(seconds)
        kept = self.recent if sum(self.recent) < RECENT_COUNT_MAX else [count // 2 for count in self.recent]
        new = map(operator.sub, made.whole.counts, self.whole.counts)
        made.recent = list(map(operator.add, kept, new))
        return made

    def merge(self, other: _Timed) -> None:
        """Count all that ``other`` has counted."""
        self.whole.merge(other.whole)
        self.recent = list(map(operator.add, self.recent, other.recent))

    def shown(self, kind: str) -> dict[str, Any]:
        return {
            kind: {"counts": list(self.whole.counts), "total_s": self.whole.total_s},
            "p50_s": quantile_of(self.whole, 0.5, self.recent),
            "p99_s": quantile_of(self.whole, 0.99, self.recent),
        }


class CountedLatencies:
    """Latencies of at most :data:`~cbw.core.histogram.TIMED_SERVICES_MAX` services, those that came first, and of all others
    together. It does not change when it is made.
    """

    __slots__ = ("_by_service", "_others")

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._by_service = {service: _Timed() for service in [*services][:TIMED_SERVICES_MAX]}
        self._others = _Timed()

    @classmethod
    def together(cls, parts: Iterable[CountedLatencies]) -> CountedLatencies:
        """All of ``parts``, which have different services."""
        made = cls()
        for part in parts:
            made._others.merge(part._others)
            for service, timed in part._by_service.items():
                if len(made._by_service) < TIMED_SERVICES_MAX:
                    made._by_service[service] = timed
                else:
                    made._others.merge(timed)
        return made

    def plus(self, seconds: Mapping[str, list[float]]) -> CountedLatencies:
        """These and ``seconds`` by service, which are sorted thereby."""
        made = CountedLatencies()
        made._by_service, made._others = self._by_service.copy(), self._others
        for service, more in seconds.items():
            known = made._by_service.get(service)
            if known is not None or len(made._by_service) < TIMED_SERVICES_MAX:
                made._by_service[service] = (known or _Timed()).plus(more)
            else:
                made._others = made._others.plus(more)
        return made

    def shown(self, kind: str) -> dict[str, Any]:
        """The part of a status that tells them: under ``kind`` the counts since the start, and quantiles of about the last
        thousand."""
        rows = [{"service": service, **timed.shown(kind)} for service, timed in self._by_service.items()]
        return {"bounds_s": BOUNDS_S, "service_durations": rows, "other_durations": self._others.shown(kind)}


class ServiceLatencies:
    """Counts latencies by service. ``services`` are shown before they have any.

    One thread adds. It may write to :attr:`remembered` itself, and owes a call of :meth:`count` then, for each
    :data:`UNCOUNTED_MAX`.
    """

    __slots__ = ("_left", "_shared", "remembered")

    def __init__(self, services: Iterable[str] = ()) -> None:
        self._begin(CountedLatencies(services))

    def _begin(self, counted: CountedLatencies) -> None:
        self._left = UNCOUNTED_MAX
        self.remembered: defaultdict[str, list[float]] = defaultdict(list)
        """Seconds by service that are still to be counted."""
        self._shared = (
            counted,
            self.remembered,
        )  # one attribute: whoever looks finds nothing twice, and misses nothing

    def add(self, seconds: Mapping[str, list[float]]) -> None:
        """Count the ``seconds`` that calls took, by service."""
        for service, more in seconds.items():
            self.remembered[service] += more
            self._left -= len(more)
        if self._left <= 0:
            self.count()

    def count(self) -> None:
        """Count what is remembered."""
        self._begin(self._shared[0].plus(self.remembered))

    def look(self) -> CountedLatencies:
        """All so far. Safe from any thread."""
        counted, remembered = self._shared
        return counted.plus({service: [*seconds] for service, seconds in dict(remembered).items()})
