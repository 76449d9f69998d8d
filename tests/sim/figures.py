"""What a broker's page shows of each service and each worker, compared with what its trace has told: how many requests were
answered and failed, how fast, and for how long what is there has been there.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cbw.core import catalogue
from cbw.core.broker.core import BrokerCore
from cbw.core.broker.durations import QUANTILES_S, RATE_S, SLOT_S
from cbw.core.broker.states import RequestState
from cbw.core.histogram import BOUNDS_S
from cbw.core.record import Record

from .account import Accepted, SeenAttempt, entries_of
from .hands import Hands
from .world import ViolationError

EXACTNESS_S = 1e-6
BROKE_OFF = "the answer broke off"
"""How the record begins of a stream that is broken: its handler has not answered."""
BY_A_WORKER = (catalogue.ANSWERED, catalogue.FAILED, catalogue.RETRIED)
"""Ends of attempts that a worker has told."""


class Figures:
    """Of one broker, since its start. One that ``has_journal`` knows only about how old the requests are that it read there."""

    def __init__(self, *, has_journal: bool) -> None:
        self._has_journal = has_journal
        self._failed: Counter[str] = Counter()  # by service
        self._took: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # by service: when, and how long
        self._told: Counter[tuple[str, str]] = Counter()  # ends of attempts by worker, since it has registered
        self._hands = Hands()

    def clear(self) -> None:
        """The next broker begins with nothing."""
        self._failed.clear()
        self._took.clear()
        self._told.clear()
        self._hands.clear()

    def heard(self, record: Record) -> None:
        """The broker has told this."""
        event, worker = record.event, record.worker
        self._hands.heard(record)
        if event in (catalogue.FAILED, catalogue.GAVE_UP):
            self._failed[record.service] += 1
        if event in BY_A_WORKER and not record.text.startswith(BROKE_OFF):
            self._told[worker, "answered"] += 1
        elif event == catalogue.ATTEMPT_FAILED:
            self._told[worker, "failed"] += 1
        elif event in (catalogue.WORKER_READY, catalogue.WORKER_LOST):
            self._told[worker, "answered"] = self._told[worker, "failed"] = 0

    def answered(self, service: str, accepted: Accepted, now: float) -> None:
        """A request for ``service`` was answered, or its handler has failed."""
        self._took[service].append((now, now - accepted.at))

    def check(self, core: BrokerCore, status: Mapping[str, Any], accepted: Mapping[int, Accepted], now: float) -> None:
        """
        Raises:
            ViolationError: the page shows something else.
        """
        entries = entries_of(core)
        waiting: defaultdict[str, list[float]] = defaultdict(list)
        was_delayed: dict[str, None] = {}
        for entry in entries:
            if entry.state in (RequestState.WAITING, RequestState.SUSPECT):
                waiting[entry.request.service].append(entry.waits_since)
                if entry.delay is not None:
                    was_delayed[entry.request.service] = None
        for service in status["services"]:
            name = service["service"]
            self._service(service, waiting[name], now, was_delayed=name in was_delayed)
        hands: defaultdict[str, list[SeenAttempt]] = defaultdict(list)
        for one in accepted.values():
            if one.attempts and not one.attempts[-1].void:
                hands[one.attempts[-1].worker].append(one.attempts[-1])
        for worker in status["workers"]:
            self._worker(worker)
            if not self._has_journal:
                self._hands.check(worker, now)
            _at(worker, hands[worker["worker"]], now)

    def _service(self, shown: Mapping[str, Any], waiting: Sequence[float], now: float, *, was_delayed: bool) -> None:
        """``was_delayed``: something that waits was to wait before. If it was due while what came earlier was being stored, or
        while the broker stood still, the queue is not in the order of these times.
        """
        name, took = shown["service"], self._took[shown["service"]]
        oldest_s = now - min(waiting, default=now)
        shorter_s = oldest_s - shown["oldest_s"]
        _need(
            shorter_s > -EXACTNESS_S and (was_delayed or shorter_s < EXACTNESS_S),
            f"{name!r} waits for {shown['oldest_s']} s, not {oldest_s}",
        )
        _need(shown["waiting"] == len(waiting), f"{shown['waiting']} wait for {name!r}, not {len(waiting)}")
        _need(shown["failed"] == self._failed[name], f"{shown['failed']} failed at {name!r}, of {self._failed[name]}")
        _need(shown["age_s"] >= -EXACTNESS_S, f"{name!r} is known since {shown['age_s']} s")
        _need(shown["answered"] == len(took), f"{shown['answered']} answers of {name!r}, and {len(took)} were told")
        _rate(shown, [at for at, _ in took], now)
        last_at = took[-1][0] if took else now
        lately = sorted(seconds for at, seconds in took if at >= _slot(last_at) - QUANTILES_S + SLOT_S)
        if len(lately) == len(took) and not self._has_journal:  # what is older leaves slot by slot
            _quantiles(shown, lately, name)

    def _worker(self, shown: Mapping[str, Any]) -> None:
        name = shown["worker"]
        answered, failed = self._told[name, "answered"], self._told[name, "failed"]
        # A child process that has died is an answer and a failed attempt.
        _need(
            answered <= shown["answered"] <= answered + failed,
            f"{name} has answered {shown['answered']}, and {answered} were told",
        )
        _need(shown["failed"] <= failed, f"{name} has failed {shown['failed']} times, and {failed} were told")
        age_s = max(shown["age_s"], EXACTNESS_S)
        _need(0 <= shown["busy"] <= 1, f"{name} is busy for {shown['busy']} of its time")
        _need(0 <= shown["rate"] <= shown["answered"], f"{name} gives {shown['rate']} answers a second")
        mean_s = shown["mean_s"]
        _need((mean_s is None) == (not shown["answered"]), f"{name} takes {mean_s} s for an answer")
        if mean_s is not None and not self._has_journal:  # what it goes on with was handed out before it came here
            _need(0 <= mean_s * shown["answered"] <= age_s + EXACTNESS_S, f"{name} takes {mean_s} s for an answer")
        p50_s, p99_s = shown["p50_s"], shown["p99_s"]
        longest_s = _bounds(age_s)[1] if not self._has_journal else math.inf
        _need((p50_s is None) == (p99_s is None), f"{name} has quantiles {p50_s} and {p99_s}")
        _need(p50_s is None or 0 < p50_s <= p99_s <= longest_s, f"{name} has quantiles {p50_s} and {p99_s}")


def _at(shown: Mapping[str, Any], hand: Sequence[SeenAttempt], now: float) -> None:
    """A worker is at the oldest of what it has in hand."""
    if not hand or any(attempt.recovered_at is not None for attempt in hand):
        return
    oldest = min(hand, key=lambda attempt: attempt.task)
    name, at_s = shown["worker"], now - oldest.handed_at
    _need(shown["at"] is not None, f"{name} is at nothing, and was given {oldest.token}")
    _need(shown["at"].endswith(f"/{oldest.request}"), f"{name} is at {shown['at']}, not at {oldest.request}")
    _need(abs(shown["at_s"] - at_s) < EXACTNESS_S, f"{name} is at {oldest.token} for {shown['at_s']} s, not {at_s}")


def _rate(shown: Mapping[str, Any], answered_at: Sequence[float], now: float) -> None:
    """Answers of the last ten seconds or so, by their number."""
    new = sum(at >= _slot(now - RATE_S) for at in answered_at)
    most, least = new + EXACTNESS_S, new / (RATE_S + SLOT_S) - EXACTNESS_S
    _need(least <= shown["rate"] <= most, f"{shown['service']!r} gives {shown['rate']} answers a second, of {new}")


def _quantiles(shown: Mapping[str, Any], took: Sequence[float], name: str) -> None:
    for key, share in (("p50_s", 0.5), ("p99_s", 0.99)):
        if not took:
            _need(shown[key] is None, f"{name!r} has a {key} of {shown[key]}, and no answer")
            continue
        low, high = _bounds(took[max(0, math.ceil(share * len(took) - EXACTNESS_S) - 1)])
        is_so = shown[key] is not None and low - EXACTNESS_S <= shown[key] <= high + EXACTNESS_S
        _need(is_so, f"{name!r} has a {key} of {shown[key]}, not from {low} to {high}")


def _bounds(seconds: float) -> tuple[float, float]:
    """Of the step in which so many seconds are counted. What is beyond the last bound is shown as that."""
    step = bisect_left(BOUNDS_S, seconds)
    return (0.0, *BOUNDS_S)[step], (*BOUNDS_S, BOUNDS_S[-1])[step]


def _slot(at: float) -> float:
    return at // SLOT_S * SLOT_S


def _need(is_so: bool, text: str) -> None:
    if not is_so:
        raise ViolationError(f"status: {text}")
