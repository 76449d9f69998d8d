"""G2: no worker is free while a request that it could serve waits.

Two sources can tell. The broker's records know when a request is accepted, handed out and put back, and who has nothing
in hand; joined with the workers' records they also show what was handed out only to lie behind other work. Without a
broker's trace the clients' and the workers' own records must do, which see the way to the broker and back as idleness, and
know a worker from its first request on. Free is who has nothing at all in hand, however many slots it has.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from cbw.clock import clock_of
from cbw.core import catalogue
from cbw.core.histogram import Histogram
from cbw.core.record import HAS_JOURNAL, Record
from cbw.verify.failover import HARMS
from cbw.verify.verdict import Figure, Verdict

IDLE_S_MAX = 0.020
"""G2: on the wire no worker is free for longer than this while a request that it could serve waits (p99)."""
WAY_S_MAX = 0.180
"""Allowed on top where only the ends can be seen: to them an answer's way to the broker, the next task's way back, and the
turns that processes take on a busy machine all look like idleness. A broker that is farther away needs its own trace."""
PRINTED_S_MAX = 0.250
"""Allowed instead where what containers print must do: Docker notes when it reads a line, not when it was printed."""
ANSWERED_MAX = 10_000
"""Requests that are remembered because their answer was told before their beginning, which comes seconds later or never."""
_STEP_S = 0.0001
"""Quantiles are as exact as this: so they take the same memory for any number of requests."""


_ENDS = tuple(
    ("verify", event)
    for event in (
        catalogue.BROKER_KILLED,
        catalogue.BROKER_RESTARTED,
        catalogue.BROKER_FROZEN,
        catalogue.BROKER_CUT_OFF,
        catalogue.OWNER_KILLED,
    )
)


def _rounded_up(seconds: float) -> float:
    """``seconds`` to the next tenth of a millisecond."""
    return math.ceil(seconds / _STEP_S) * _STEP_S


class _Meter:
    """Measures, service by service, the intervals in which somebody is free while something waits.

    Each counts once, and once more for every request that waited in it: a long one may hide among hundreds of short ones,
    but not together with all that it kept waiting.
    """

    def __init__(self) -> None:
        self.intervals = Histogram(_rounded_up)
        self.waits = Histogram(_rounded_up)  # of the same lengths, each counted for every request that waited in it
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

    def start_again(self) -> None:
        """Forget what waits, and what was measured. Who is free stays so."""
        self.intervals, self.waits, self.worst = Histogram(_rounded_up), Histogram(_rounded_up), ""
        self._waiting.clear()
        self._open.clear()
        self._most.clear()

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
            self.intervals.add(lasted)
            self.waits.add(lasted, most)


class _InHand:
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
    """Who was free, by the broker's records: a worker with nothing in hand that wants something.

    A request waits until it is handed out. If its worker records what it begins and is at work, the request goes on
    waiting until it is begun itself: prefetch must not break the promise either.
    """

    def __init__(self, *, has_journal: bool = False) -> None:
        self.meter = _Meter()
        self.accepted = 0
        self.has_journal = has_journal  # then a request waits for that first, which takes the time that the disk takes
        self._open: dict[str, str] = {}  # request: service
        self._in_hand: dict[str, _InHand] = {}

    def see(self, record: Record) -> None:
        at, worker, task, request, service = record.at, record.worker, record.task, record.request, record.service
        if record.role == "worker":
            if record.event == catalogue.BEGUN:
                self._begun(at, worker, task)
            return
        match record.event:
            case catalogue.STARTED:  # again, maybe: what it knew before is gone
                self.has_journal = HAS_JOURNAL in (record.fields or {})
                for name in list(self._in_hand):
                    self._drop(at, name)
                for name in list(self._open):
                    self._close(at, name)
            case catalogue.WORKER_READY:
                self._drop(at, worker)
                self._in_hand[worker] = _InHand(record.text.split(","))
                self._place(at, worker)
            case catalogue.WORKER_LOST | catalogue.WORKER_LEFT:
                self._drop(at, worker)
            case catalogue.WORKER_LATE:
                self._mark(at, worker, is_late=True)
            case catalogue.CREDIT_CHANGED:
                self._mark(at, worker, is_paused=record.text == "0")
            case catalogue.WORKER_DRAINED | catalogue.WORKER_UNDRAINED:
                self._mark(at, worker, is_paused=record.event == catalogue.WORKER_DRAINED)
            case catalogue.ACCEPTED:
                self.accepted += 1
                self._open[request] = service
                if not self.has_journal:
                    self.meter.wait(at, request, service)
            case catalogue.STORED if request in self._open:
                if (
                    not self.has_journal
                ):  # its start is not in this trace: what was accepted could not be handed out yet
                    self.has_journal = True
                    self.meter.start_again()
                self.meter.wait(at, request, service)
            case catalogue.HANDED_OUT | catalogue.TASK_RECOVERED:
                self._handed_out(at, worker, task, request, service)
            case catalogue.ANSWERED | catalogue.FAILED | catalogue.GAVE_UP | catalogue.EXPIRED | catalogue.STOPPED:
                self._take(at, worker, task)
                self._close(at, request)
            case catalogue.CANCELLED:  # its worker keeps the slot until it has said what became of it
                self._close(at, request)
            case catalogue.ATTEMPT_FAILED | catalogue.RETURNED:
                self._take(at, worker, task)
                if request in self._open:
                    self.meter.wait(at, request, service)
            case catalogue.RETRIED | catalogue.DELAYED:  # it waits again when it is due
                self._take(at, worker, task)
                self.meter.unwait(at, request, service)
            case catalogue.DUE:
                if request in self._open:
                    self.meter.wait(at, request, service)
            case catalogue.FENCED:
                self._mark(at, worker, is_late=False)
                self._take(at, worker, task)
            case _:
                pass

    def _handed_out(self, at: float, worker: str, task: int, request: str, service: str) -> None:
        in_hand = self._in_hand.setdefault(worker, _InHand([service]))
        in_hand.is_late = False
        in_hand.tasks[task] = (request, service)
        if not in_hand.is_at_work:
            self.meter.unwait(at, request, service)
        self._place(at, worker)

    def _begun(self, at: float, worker: str, task: int) -> None:
        in_hand = self._in_hand.get(worker)
        if in_hand is None or task not in in_hand.tasks or task in in_hand.begun:
            return
        in_hand.begun.add(task)
        self.meter.unwait(at, *in_hand.tasks[task])
        if not in_hand.is_at_work:
            in_hand.is_at_work = True
            for other, (request, service) in in_hand.tasks.items():
                if other not in in_hand.begun and request in self._open:
                    self.meter.wait(at, request, service)

    def _take(self, at: float, worker: str, task: int) -> None:
        in_hand = self._in_hand.get(worker)
        if in_hand is None or in_hand.tasks.pop(task, None) is None:
            return
        in_hand.begun.discard(task)
        in_hand.is_at_work &= bool(in_hand.tasks)
        self._place(at, worker)

    def _mark(self, at: float, worker: str, *, is_late: bool | None = None, is_paused: bool | None = None) -> None:
        in_hand = self._in_hand.get(worker)
        if in_hand is not None:
            in_hand.is_late = in_hand.is_late if is_late is None else is_late
            in_hand.is_paused = in_hand.is_paused if is_paused is None else is_paused
            self._place(at, worker)

    def _place(self, at: float, worker: str) -> None:
        in_hand = self._in_hand[worker]
        if in_hand.is_free:
            self.meter.free(at, worker, in_hand.services)
        else:
            self.meter.busy(at, worker, in_hand.services)

    def _drop(self, at: float, worker: str) -> None:
        in_hand = self._in_hand.pop(worker, None)
        if in_hand is not None:
            self.meter.busy(at, worker, in_hand.services)

    def _close(self, at: float, request: str) -> None:
        service = self._open.pop(request, None)
        if service is not None:
            self.meter.unwait(at, request, service)


class EndsView:
    """Who was free, by the ends: a request waits from ``sent`` to ``begun``, a worker is free from ``done`` to ``begun``.

    A worker that was hurt is not there to be free, and what it had does not wait: that the broker cannot know
    yet, and how soon it must notice is another promise. A request with a delay waits from the end of that on. One that was
    begun does not wait again, also if its handler has asked for another try: only the broker knows when that is due.
    A beginning that is told later than the answer, as Docker may be late, leaves nobody at work.
    """

    def __init__(self) -> None:
        self.meter = _Meter()
        self.begun = 0
        self._answered: dict[str, None] = {}  # the latest requests whose answer was told before their beginning
        self._waiting: dict[str, str] = {}  # request: service
        self._delayed: list[
            tuple[float, str]
        ] = []  # a heap: until when each of some of these requests does not wait yet
        self._in_hand: dict[str, set[str]] = {}
        self._services: dict[str, list[str]] = {}

    def see(self, record: Record) -> None:
        at, worker, request = record.at, record.worker, record.request
        self._let_wait(at)
        match record.role, record.event:
            case "client", catalogue.SENT:
                self._waiting[request] = record.service
                heapq.heappush(self._delayed, (at + _delay_s(record), request))
                self._let_wait(at)
            case "client", catalogue.GOT:
                if request in self._waiting:
                    self._answered[request] = None
                    if len(self._answered) > ANSWERED_MAX:
                        del self._answered[next(iter(self._answered))]
                self._unwait(at, request)
            case "client", catalogue.FAILED:
                self._unwait(at, request)
            case "worker", catalogue.BEGUN if request:
                self._begin(record)
            case "worker", catalogue.DONE | catalogue.ERROR if request:
                in_hand = self._in_hand.get(worker, set())
                if request in in_hand:
                    in_hand.discard(request)
                    if not in_hand:
                        self.meter.free(at, worker, self._services[worker])
            case "verify", catalogue.KILLED | catalogue.FROZEN | catalogue.CUT_OFF:
                self._in_hand.pop(worker, None)
                self.meter.busy(at, worker, self._services.get(worker, []))
            case _:
                pass

    def _begin(self, record: Record) -> None:
        at, worker, request = record.at, record.worker, record.request
        in_hand = self._in_hand.setdefault(worker, set())
        # A worker may tell it twice: to its trace, and to that of its handler.
        self.begun += request not in in_hand
        if request not in self._answered:
            in_hand.add(request)
        self._unwait(at, request)
        services = self._services.setdefault(worker, [])
        if record.service not in services:
            services.append(record.service)
        if in_hand:
            self.meter.busy(at, worker, services)
        else:
            self.meter.free(at, worker, services)

    def start_again(self, at: float) -> None:
        """Judge from ``at`` on. The workers stay known: one that gets nothing more is free all the time."""
        self.meter = _Meter()
        self.begun = 0
        self._waiting.clear()
        self._delayed.clear()
        for worker, services in self._services.items():
            if not self._in_hand.get(worker):
                self.meter.free(at, worker, services)

    def _let_wait(self, until: float) -> None:
        """The delays that are over by then are over."""
        while self._delayed and self._delayed[0][0] <= until:
            at, request = heapq.heappop(self._delayed)
            if request in self._waiting:
                self.meter.wait(at, request, self._waiting[request])

    def _unwait(self, at: float, request: str) -> None:
        service = self._waiting.pop(request, None)
        if service is not None:
            self.meter.unwait(at, request, service)


def _delay_s(record: Record) -> float:
    """For how long the request is not to be handed out that ``record`` says was sent. A trace may be anybody's."""
    delay_s = (record.fields or {}).get("delay_s", 0.0)
    return max(0.0, delay_s) if isinstance(delay_s, (int, float)) else 0.0


class NoIdleWhileWaiting:
    """Passes if 99 of 100 intervals, and those that 99 of 100 requests waited in, are no longer than the source allows.

    Once a verification brings the broker down nothing more is judged: then everybody waits, and nobody can be blamed. Of a
    deployment without a broker's trace only the load is judged, and of several loads the last: all times that Docker notes may be
    late, those around a harm to a container most of all.
    """

    name = "no-idle-while-waiting"

    def __init__(self) -> None:
        self._broker = BrokerView()
        self._ends = EndsView()
        self._only: dict[str, None] = {}  # services of the verifications in this trace: others are not theirs to judge
        self._last = 0.0
        self._way_s = WAY_S_MAX
        self._ends_until = math.inf  # when the first container of a deployment came to harm
        self._is_over = False
        self._has_tracer = True  # whether the broker could have a trace that knows better

    def see(self, record: Record) -> None:
        if self._is_over or (record.role, record.event) in _ENDS:
            self._is_over = True
            return
        self._last = max(self._last, record.at)
        match record.role, record.event:
            case "verify", catalogue.STARTED:
                if not self._only:
                    self._broker, self._ends = BrokerView(has_journal=self._broker.has_journal), EndsView()
                self._only[record.service] = None
                return
            case "verify", catalogue.DEPLOYED:
                self._way_s = PRINTED_S_MAX
            case "verify", catalogue.LAB_SPOKEN:
                self._has_tracer = False
            case "verify", catalogue.LOAD_REPEATED:
                self._ends.start_again(record.at)
            case "verify", event if event in HARMS and self._way_s == PRINTED_S_MAX:
                self._ends_until = min(self._ends_until, record.at)
            case _:
                pass
        if self._only and not self._concerns_us(record):
            return
        if record.role in ("broker", "worker"):
            self._broker.see(record)
        if record.role != "broker" and record.at < self._ends_until:
            self._ends.see(record)

    def _concerns_us(self, record: Record) -> bool:
        if record.event == catalogue.WORKER_READY:
            return any(service in self._only for service in record.text.split(","))
        has_service = (
            record.event in (catalogue.SENT, catalogue.BEGUN) if record.role != "broker" else bool(record.request)
        )
        return not has_service or record.service in self._only

    def verdict(self) -> Verdict:
        if self._broker.accepted or not self._ends.begun:
            return self._verdict(self._broker.meter, self._broker.accepted, "the broker", IDLE_S_MAX)
        return self._verdict(self._ends.meter, self._ends.begun, "clients and workers", IDLE_S_MAX + self._way_s)

    def _verdict(self, meter: _Meter, judged: int, source: str, allowed: float) -> Verdict:
        meter.end(self._last if meter is self._broker.meter else min(self._last, self._ends_until))
        intervals, p99 = meter.intervals, meter.intervals.quantile(0.99) or 0.0
        request_p99 = meter.waits.quantile(0.99, of=judged) or 0.0
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
        seen_by = "the broker" if source == "the broker" else "clients and workers"
        summary = f"no worker was free while one of {judged} requests waited (seen by {seen_by})"
        if count:
            summary = (
                f"{count} time{'s' if count > 1 else ''} a worker was free while one of {judged} requests waited: longest "
                f"{intervals.longest * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, together {intervals.total * 1000:.1f} ms "
                f"(seen by {seen_by})"
            )
        evidence = []
        if source != "the broker":
            why = "for the way to the broker and back" + (
                "; the broker's --trace knows better" if self._has_tracer else ""
            )
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


def is_nobody_idle(records: Iterable[Record]) -> bool:
    """Whether ``records``, in the order of time, show no worker free for too long while a request waited."""
    check = NoIdleWhileWaiting()
    for record in records:
        check.see(record)
    return check.verdict().passed
