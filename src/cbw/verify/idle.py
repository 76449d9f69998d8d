"""G2: no worker is free while a request that it could serve waits.

Two sources can tell. The broker's records know when a request is accepted, handed out and put back, and who has nothing
in hand; joined with the workers' records they also show what was handed out only to lie behind other work. Without a
broker's trace the clients' and the workers' own records must do, which see the way to the broker and back as idleness, and
know a worker from its first request on. Free is who has nothing at all in hand, however many slots it has.
"""

from __future__ import annotations

import math
from collections import Counter

from cbw.clock import clock_of
from cbw.core.events import Record
from cbw.verify.verdict import Figure, Verdict

IDLE_S_MAX = 0.020
"""G2: on the wire no worker is free for longer than this while a request that it could serve waits (p99)."""
WAY_S_MAX = 0.180
"""Allowed on top where only the ends can be seen: to them an answer's way to the broker, the next task's way back, and the
turns that processes take on a busy machine all look like idleness. A broker that is farther away needs its own trace."""
PRINTED_S_MAX = 0.250
"""Allowed instead where what containers print must do: Docker notes when it reads a line, not when it was printed."""
_STEP_S = 0.0001
"""Quantiles are as exact as this: so they take the same memory for any number of requests."""


_ENDS = (("verify", "broker_killed"), ("verify", "broker_restarted"))


class _Intervals:
    """The lengths of many intervals in little memory: count, sum, the largest, and quantiles rounded up to 0.1 ms."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._counts: Counter[int] = Counter()
        self._requests: Counter[int] = Counter()

    def add(self, seconds: float, requests: int) -> None:
        """An interval, and how many requests waited in it at most."""
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        steps = math.ceil(seconds / _STEP_S)
        self._counts[steps] += 1
        self._requests[steps] += requests

    def p99(self) -> float:
        """99 of 100 intervals were no longer than this."""
        return self._quantile(self._counts, self.count)

    def request_p99(self, requests: int) -> float:
        """At least 99 of 100 of all ``requests`` waited in no interval that was longer than this."""
        return self._quantile(self._requests, requests)

    def _quantile(self, counts: Counter[int], total: int) -> float:
        beyond = total // 100  # so many may be longer
        for steps, count in sorted(counts.items(), reverse=True):
            if count > beyond:
                return min(steps * _STEP_S, self.longest)
            beyond -= count
        return 0.0


class _Meter:
    """Measures, service by service, the intervals in which somebody is free while something waits.

    Each counts once, and once more for every request that waited in it: a long one may hide among hundreds of short ones,
    but not together with all that it kept waiting.
    """

    def __init__(self) -> None:
        self.intervals = _Intervals()
        self.worst = ""
        self.is_open = False
        self._waiting: dict[str, dict[str, None]] = {}  # service: requests
        self._free: dict[str, dict[str, None]] = {}  # service: workers
        self._open: dict[str, tuple[float, str]] = {}  # service: since when, and who was free beside what
        self._most: dict[str, int] = {}  # service: requests that wait in the open interval, at most

    def wait(self, at: float, request: str, service: str) -> None:
        self._waiting.setdefault(service, {})[request] = None
        self._look(at, service)

    def unwait(self, at: float, request: str, service: str) -> None:
        waiting = self._waiting.get(service, {})
        if request in waiting:
            del waiting[request]
            self._look(at, service)

    def free(self, at: float, worker: str, services: list[str]) -> None:
        for service in services:
            self._free.setdefault(service, {})[worker] = None
            self._look(at, service)

    def busy(self, at: float, worker: str, services: list[str]) -> None:
        for service in services:
            free = self._free.get(service, {})
            if worker in free:
                del free[worker]
                self._look(at, service)

    def end(self, at: float) -> None:
        """The trace is over: what is open has lasted until now."""
        for service in list(self._open):
            self.is_open |= at > self._open[service][0]
            self._close(at, service)

    def _look(self, at: float, service: str) -> None:
        waiting, free = self._waiting.get(service), self._free.get(service)
        if waiting and free:
            if service not in self._open:
                self._open[service] = (at, f"{next(iter(free))} was free while {next(iter(waiting))} waited")
            self._most[service] = max(self._most.get(service, 0), len(waiting))
        elif service in self._open:
            self._close(at, service)

    def _close(self, at: float, service: str) -> None:
        since, what = self._open.pop(service)
        most = self._most.pop(service)
        lasted = at - since
        if lasted > 0:
            if lasted > self.intervals.longest:
                self.worst = f"from {clock_of(since)} on {what}, for {lasted:.3f} s"
            self.intervals.add(lasted, most)


class _Hand:
    """What the broker has given a worker."""

    __slots__ = ("begun", "is_at_work", "is_late", "is_paused", "services", "tasks")

    def __init__(self, services: list[str]) -> None:
        self.services = services
        self.tasks: dict[int, tuple[str, str]] = {}  # task: request, service
        self.begun: set[int] = set()
        self.is_at_work = False  # it has said that it has begun something of what it has in hand
        self.is_late = False
        self.is_paused = False

    @property
    def is_free(self) -> bool:
        return not self.tasks and not self.is_late and not self.is_paused


class BrokerView:
    """As the broker's records tell it: free is a worker with nothing in hand that wants something.

    A request waits until it is handed out. If its worker records what it begins and is at work, the request goes on
    waiting until it is begun itself: prefetch must not break the promise either.
    """

    def __init__(self) -> None:
        self.meter = _Meter()
        self.accepted = 0
        self._open: dict[str, str] = {}  # request: service
        self._hands: dict[str, _Hand] = {}

    def see(self, record: Record) -> None:
        at, worker, task, request, service = record.at, record.worker, record.task, record.request, record.service
        if record.role == "worker":
            if record.event == "begun":
                self._begun(at, worker, task)
            return
        match record.event:
            case "started":  # again, maybe: what it knew before is gone
                for name in list(self._hands):
                    self._drop(at, name)
                for name in list(self._open):
                    self._close(at, name)
            case "worker_ready":
                self._drop(at, worker)
                self._hands[worker] = _Hand(record.text.split(","))
                self._place(at, worker)
            case "worker_lost" | "worker_left":
                self._drop(at, worker)
            case "worker_late":
                self._mark(at, worker, is_late=True)
            case "credit_changed":
                self._mark(at, worker, is_paused=record.text == "0")
            case "accepted":
                self.accepted += 1
                self._open[request] = service
                self.meter.wait(at, request, service)
            case "handed_out":
                self._handed_out(at, worker, task, request, service)
            case "answered" | "failed" | "gave_up" | "expired" | "stopped":
                self._take(at, worker, task)
                self._close(at, request)
            case "cancelled":  # its worker keeps the slot until it has said what became of it
                self._close(at, request)
            case "attempt_failed" | "returned":
                self._take(at, worker, task)
                if request in self._open:
                    self.meter.wait(at, request, service)
            case "fenced":
                self._mark(at, worker, is_late=False)
                self._take(at, worker, task)
            case _:
                pass

    def _handed_out(self, at: float, worker: str, task: int, request: str, service: str) -> None:
        hand = self._hands.setdefault(worker, _Hand([service]))
        hand.is_late = False
        hand.tasks[task] = (request, service)
        if not hand.is_at_work:
            self.meter.unwait(at, request, service)
        self._place(at, worker)

    def _begun(self, at: float, worker: str, task: int) -> None:
        hand = self._hands.get(worker)
        if hand is None or task not in hand.tasks or task in hand.begun:
            return
        hand.begun.add(task)
        self.meter.unwait(at, *hand.tasks[task])
        if not hand.is_at_work:
            hand.is_at_work = True
            for other, (request, service) in hand.tasks.items():
                if other not in hand.begun and request in self._open:
                    self.meter.wait(at, request, service)

    def _take(self, at: float, worker: str, task: int) -> None:
        hand = self._hands.get(worker)
        if hand is None or hand.tasks.pop(task, None) is None:
            return
        hand.begun.discard(task)
        hand.is_at_work &= bool(hand.tasks)
        self._place(at, worker)

    def _mark(self, at: float, worker: str, *, is_late: bool | None = None, is_paused: bool | None = None) -> None:
        hand = self._hands.get(worker)
        if hand is not None:
            hand.is_late = hand.is_late if is_late is None else is_late
            hand.is_paused = hand.is_paused if is_paused is None else is_paused
            self._place(at, worker)

    def _place(self, at: float, worker: str) -> None:
        hand = self._hands[worker]
        if hand.is_free:
            self.meter.free(at, worker, hand.services)
        else:
            self.meter.busy(at, worker, hand.services)

    def _drop(self, at: float, worker: str) -> None:
        hand = self._hands.pop(worker, None)
        if hand is not None:
            self.meter.busy(at, worker, hand.services)

    def _close(self, at: float, request: str) -> None:
        service = self._open.pop(request, None)
        if service is not None:
            self.meter.unwait(at, request, service)


class EndsView:
    """As clients and workers tell it: a request waits from ``sent`` to ``begun``, a worker is free from ``done`` to ``begun``.

    A worker that was hurt is not there to be free, and what it had does not wait: that the broker cannot know
    yet, and how soon it must notice is another promise.
    """

    def __init__(self) -> None:
        self.meter = _Meter()
        self.begun = 0
        self._waiting: dict[str, str] = {}  # request: service
        self._hands: dict[str, set[str]] = {}
        self._services: dict[str, list[str]] = {}

    def see(self, record: Record) -> None:
        at, worker, request = record.at, record.worker, record.request
        match record.role, record.event:
            case "client", "sent":
                self._waiting[request] = record.service
                self.meter.wait(at, request, record.service)
            case "client", "got" | "failed":
                self._unwait(at, request)
            case "worker", "begun" if request:
                hand = self._hands.setdefault(worker, set())
                # A worker may tell it twice: to its trace, and to that of its handler.
                self.begun += request not in hand
                hand.add(request)
                self._unwait(at, request)
                services = self._services.setdefault(worker, [])
                if record.service not in services:
                    services.append(record.service)
                self.meter.busy(at, worker, services)
            case "worker", "done" | "error" if request:
                hand = self._hands.get(worker, set())
                if request in hand:
                    hand.discard(request)
                    if not hand:
                        self.meter.free(at, worker, self._services[worker])
            case "verify", "killed" | "frozen" | "cut_off":
                self._hands.pop(worker, None)
                self.meter.busy(at, worker, self._services.get(worker, []))
            case _:
                pass

    def _unwait(self, at: float, request: str) -> None:
        service = self._waiting.pop(request, None)
        if service is not None:
            self.meter.unwait(at, request, service)


class NoIdleWhileWaiting:
    """Passes if 99 of 100 intervals, and those that 99 of 100 requests waited in, are no longer than the source allows.

    Once a verification brings the broker down nothing more is judged: then everybody waits, and nobody can be blamed.
    """

    name = "no-idle-while-waiting"

    def __init__(self) -> None:
        self._broker = BrokerView()
        self._ends = EndsView()
        self._only: dict[str, None] = {}  # services of the verifications in this trace: others are not theirs to judge
        self._last = 0.0
        self._way_s = WAY_S_MAX
        self._is_over = False

    def see(self, record: Record) -> None:
        if self._is_over or (record.role, record.event) in _ENDS:
            self._is_over = True
            return
        self._last = max(self._last, record.at)
        if record.role == "verify" and record.event == "deployed":
            self._way_s = PRINTED_S_MAX
        if record.role == "verify" and record.event == "started":
            if not self._only:
                self._broker, self._ends = BrokerView(), EndsView()
            self._only[record.service] = None
        elif self._only and not self._concerns_us(record):
            return
        elif record.role == "broker":
            self._broker.see(record)
        else:
            if record.role == "worker":
                self._broker.see(record)
            self._ends.see(record)

    def _concerns_us(self, record: Record) -> bool:
        if record.event == "worker_ready":
            return any(service in self._only for service in record.text.split(","))
        has_service = record.event in ("sent", "begun") if record.role != "broker" else bool(record.request)
        return not has_service or record.service in self._only

    def verdict(self) -> Verdict:
        if self._broker.accepted or not self._ends.begun:
            return self._verdict(self._broker.meter, self._broker.accepted, "the broker", IDLE_S_MAX)
        return self._verdict(self._ends.meter, self._ends.begun, "clients and workers", IDLE_S_MAX + self._way_s)

    def _verdict(self, meter: _Meter, judged: int, source: str, allowed: float) -> Verdict:
        meter.end(self._last)
        intervals, p99, request_p99 = meter.intervals, meter.intervals.p99(), meter.intervals.request_p99(judged)
        figures: dict[str, Figure] = {
            "judged": judged,
            "longest_s": round(intervals.longest, 6),
            "total_s": round(intervals.total, 6),
            "intervals": intervals.count,
            "p99_s": round(p99, 6),
            "request_p99_s": round(request_p99, 6),
            "allowed_s": allowed,
            "source": source.removeprefix("the "),
        }
        if not judged:
            return Verdict(
                self.name, True, figures, "no requests of a broker's trace, or of clients and workers, to judge"
            )
        passed = max(p99, request_p99) <= allowed
        count = intervals.count
        summary = f"no worker was free while one of {judged} requests waited"
        if count:
            summary = (
                f"{count} time{'s' if count > 1 else ''} a worker was free while one of {judged} requests waited: longest "
                f"{intervals.longest * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, together {intervals.total * 1000:.1f} ms"
            )
        summary += f" (seen by {source})"
        evidence = []
        if source != "the broker":
            why = "for the way to the broker and back; --trace with the broker's trace knows better"
            if self._way_s == PRINTED_S_MAX:
                why = "for Docker to note what a container prints; a logger (service log) knows better"
            evidence.append(
                f"allowed are {allowed * 1000:.0f} ms: {IDLE_S_MAX * 1000:.0f} ms, and {self._way_s * 1000:.0f} ms {why}"
            )
        if not passed:
            evidence.append(meter.worst)
            evidence.append(
                f"1 of 100 requests waited while a worker was free for {request_p99 * 1000:.0f} ms or longer"
            )
        if meter.is_open:
            evidence.append("and at the end of the trace a worker was still free while a request waited")
        return Verdict(self.name, passed, figures, summary, evidence)
