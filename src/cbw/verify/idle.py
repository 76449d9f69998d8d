"""G2: no worker is free while a request that it could serve waits.

Two sources can tell. The broker's records know when a request is accepted, handed out and put back, and who has nothing
in hand; joined with the workers' records they also show what was handed out only to lie behind other work. Without a
broker's trace the clients' and the workers' own records must do, which see the way to the broker and back as idleness.
"""

from __future__ import annotations

import math
import time
from collections import Counter

from cbw.core.events import Record
from cbw.verify.verdict import Figure, Verdict

IDLE_S_MAX = 0.020
"""G2: on the wire no worker is free for longer than this while a request that it could serve waits (p99)."""
WAY_S_MAX = 0.080
"""Allowed on top where only the ends can be seen: to them an answer's way to the broker, the next task's way back, and the
turns that processes take on a busy machine all look like idleness. A broker that is farther away needs its own trace."""
_STEP_S = 0.0001
"""Quantiles are as exact as this: so they take the same memory for any number of requests."""


class _Times:
    """Many durations in little memory: their count, sum and largest, and quantiles rounded up to 0.1 ms."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.longest = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self._counts[math.ceil(seconds / _STEP_S)] += 1

    def p99(self) -> float:
        rank = math.ceil(0.99 * self.count)
        for steps, count in sorted(self._counts.items()):
            rank -= count
            if rank <= 0:
                return min(steps * _STEP_S, self.longest)
        return 0.0


class _Meter:
    """Measures, service by service, the intervals in which somebody is free while something waits.

    And for each request how long it waited in such intervals: a long one hides among thousands of short ones, but not
    from the requests that it kept waiting.
    """

    def __init__(self) -> None:
        self.intervals = _Times()
        self.requests = _Times()
        self.worst = ""
        self.is_open = False
        self._waiting: dict[str, dict[str, float]] = {}  # service: request: the service's clock when it began to wait
        self._free: dict[str, dict[str, None]] = {}  # service: workers
        self._since: dict[str, tuple[float, str]] = {}  # service: since when somebody is free, and who beside what
        self._clocks: dict[str, float] = {}  # service: seconds in such intervals so far
        self._waited: dict[str, float] = {}  # request: its share of them

    def wait(self, at: float, request: str, service: str) -> None:
        self._waiting.setdefault(service, {}).setdefault(request, self._clock(at, service))
        self._look(at, service)

    def unwait(self, at: float, request: str, service: str) -> None:
        since = self._waiting.get(service, {}).pop(request, None)
        if since is not None:
            self._waited[request] = self._waited.get(request, 0.0) + self._clock(at, service) - since
            self._look(at, service)

    def close(self, at: float, request: str, service: str) -> None:
        """It waits no more, for good."""
        self.unwait(at, request, service)
        self.requests.add(self._waited.pop(request, 0.0))

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
        for service, waiting in self._waiting.items():
            self.is_open |= service in self._since and at > self._since[service][0]
            for request in list(waiting):
                self.close(at, request, service)

    def _clock(self, at: float, service: str) -> float:
        since = self._since.get(service)
        return self._clocks.get(service, 0.0) + (max(0.0, at - since[0]) if since else 0.0)

    def _look(self, at: float, service: str) -> None:
        waiting, free = self._waiting.get(service), self._free.get(service)
        if waiting and free:
            if service not in self._since:
                self._since[service] = (at, f"{next(iter(free))} was free while {next(iter(waiting))} waited")
        elif service in self._since:
            since, what = self._since.pop(service)
            lasted = at - since
            if lasted > 0:
                self._clocks[service] = self._clocks.get(service, 0.0) + lasted
                if lasted > self.intervals.longest:
                    clock = time.strftime("%H:%M:%S", time.localtime(since)) + f".{int(since * 1000) % 1000:03d}"
                    self.worst = f"from {clock} on {what}, for {lasted:.3f} s"
                self.intervals.add(lasted)


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
            self.meter.close(at, request, service)


class EndsView:
    """As clients and workers tell it: a request waits from ``sent`` to ``begun``, a worker is free from ``done`` to ``begun``.

    A worker that was killed or frozen is not there to be free, and what it had does not wait: that the broker cannot know
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
                self.begun += 1
                self._unwait(at, request)
                services = self._services.setdefault(worker, [])
                if record.service not in services:
                    services.append(record.service)
                self._hands.setdefault(worker, set()).add(request)
                self.meter.busy(at, worker, services)
            case "worker", "done" if request:
                hand = self._hands.get(worker)
                if hand is not None and request in hand:
                    hand.discard(request)
                    if not hand:
                        self.meter.free(at, worker, self._services[worker])
            case "verify", "killed" | "frozen":
                self._hands.pop(worker, None)
                self.meter.busy(at, worker, self._services.get(worker, []))
            case _:
                pass

    def _unwait(self, at: float, request: str) -> None:
        service = self._waiting.pop(request, None)
        if service is not None:
            self.meter.close(at, request, service)


class NoIdleWhileWaiting:
    """Passes if the p99 of the intervals, and of what they cost each request, are at most what the source allows."""

    name = "no-idle-while-waiting"

    def __init__(self) -> None:
        self._broker = BrokerView()
        self._ends = EndsView()
        self._only: dict[str, None] = {}  # services of the verifications in this trace: others are not theirs to judge
        self._last = 0.0

    def see(self, record: Record) -> None:
        self._last = max(self._last, record.at)
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
        return not record.request or record.service in self._only

    def verdict(self) -> Verdict:
        if self._broker.accepted or not self._ends.begun:
            return self._verdict(self._broker.meter, self._broker.accepted, "the broker", IDLE_S_MAX)
        return self._verdict(self._ends.meter, self._ends.begun, "clients and workers", IDLE_S_MAX + WAY_S_MAX)

    def _verdict(self, meter: _Meter, judged: int, source: str, allowed: float) -> Verdict:
        meter.end(self._last)
        intervals, p99, request_p99 = meter.intervals, meter.intervals.p99(), meter.requests.p99()
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
                f"a worker was free while one of {judged} requests waited {count} time{'s' if count > 1 else ''}: longest "
                f"{intervals.longest * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, together {intervals.total * 1000:.1f} ms"
            )
        summary += f" (seen by {source})"
        evidence = []
        if source != "the broker":
            evidence.append(
                f"allowed are {allowed * 1000:.0f} ms: {IDLE_S_MAX * 1000:.0f} ms, and {WAY_S_MAX * 1000:.0f} ms "
                "for the way to the broker and back; --trace with the broker's trace knows better"
            )
        if not passed:
            evidence.append(meter.worst)
            evidence.append(f"99 of 100 requests waited for at most {request_p99 * 1000:.1f} ms beside a free worker")
        if meter.is_open:
            evidence.append("and at the end of the trace a worker was still free while a request waited")
        return Verdict(self.name, passed, figures, summary, evidence)
