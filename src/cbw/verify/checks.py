"""The checks: pure functions over a recorded trace, so that a saved trace can be judged again.

Each check sees every record once, in the order of time, keeps only what is open, and gives a verdict at the end. A check
that finds nothing to judge in a trace says so in its figures (``"judged": 0``) and passes; :func:`judge` refuses a trace
that holds nothing at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from cbw.core.events import Record
from cbw.errors import UsageError

IDLE_S_MAX = 0.020
"""G2: on the wire no worker is free for longer than this while a request that it could serve waits (p99)."""
EVIDENCE_MAX = 5
"""Lines of evidence that a verdict carries; the figures count all."""

Figure = float | int | str | None


class Verdict(msgspec.Struct):
    """What a check found. ``evidence`` is for people, ``figures`` for programs (times in seconds)."""

    name: str
    passed: bool
    figures: dict[str, Figure]
    evidence: list[str] = []


class Check(Protocol):
    """A check in progress."""

    def see(self, record: Record) -> None:
        """The next record of the trace."""

    def verdict(self) -> Verdict:
        """What was found in all of them."""


class OwnReplies:
    """Each client got the replies to its own requests and to no other: a reply begins with its request's text."""

    def __init__(self) -> None:
        self._sent: dict[str, str] = {}
        self._replies = 0
        self._failed = 0
        self._clients: set[str] = set()
        self._wrong: list[str] = []
        self._wrong_count = 0

    def see(self, record: Record) -> None:
        if record.role != "client":
            return
        if record.event == "sent":
            self._sent[record.request] = record.text
            self._clients.add(record.client)
        elif record.event == "failed":
            self._sent.pop(record.request, None)
            self._failed += 1
        elif record.event == "got":
            text = self._sent.pop(record.request, None)
            self._replies += 1
            if text is None:
                self._blame(
                    f"{record.client} got {record.text!r} for {record.request}, which it had not asked or had got"
                )
            elif record.text != text and not record.text.startswith(text + " "):
                self._blame(f"{record.client} asked {text!r} and got {record.text!r}")

    def _blame(self, line: str) -> None:
        self._wrong_count += 1
        if len(self._wrong) < EVIDENCE_MAX:
            self._wrong.append(line)

    def verdict(self) -> Verdict:
        figures: dict[str, Figure] = {
            "judged": self._replies,
            "clients": len(self._clients),
            "wrong": self._wrong_count,
            "failed": self._failed,
            "unanswered": len(self._sent),
        }
        evidence = self._wrong + [f"no answer for {request}" for request in list(self._sent)[:EVIDENCE_MAX]]
        if not evidence:
            evidence = [f"{len(self._clients)} clients got {self._replies} replies, each to its own request"]
        return Verdict("own-replies", not self._wrong_count and not self._failed and not self._sent, figures, evidence)


class NoIdleWhileWaiting:
    """No worker has nothing to do while a request that it could serve waits, for longer than :data:`IDLE_S_MAX` (p99).

    Judged from the broker's records: a request waits from ``accepted`` (or a failed attempt) to ``handed_out``, a worker
    is idle while it has nothing in hand. In a trace without them, from what clients and workers recorded: a request waits
    from ``sent`` to ``begun``, a worker is idle from ``done`` to ``begun``; then the way there and back counts as waiting.
    """

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._hands: dict[str, set[int | str]] = {}
        self._late: set[str] = set()
        self._services: dict[str, list[str]] = {}
        self._since: float | None = None
        self._most_waiting = 0
        self._intervals: list[tuple[float, int]] = []  # how long, and how many requests waited meanwhile
        self._worst = ""
        self._requests = 0
        self._from_broker: bool | None = None

    def see(self, record: Record) -> None:
        if self._from_broker is None and record.role in ("broker", "worker", "client"):
            self._from_broker = record.role == "broker"
        if record.role == "broker":
            if not self._from_broker:  # a broker's trace joined late: begin again with the better source
                self.__init__()  # type: ignore[misc]
                self._from_broker = True
            self._see_broker(record)
        elif not self._from_broker and record.role in ("worker", "client", "verify"):
            self._see_ends(record)
        else:
            return
        self._look(record)

    def _see_broker(self, record: Record) -> None:
        service, worker, task = record.service, record.worker, record.task
        match record.event:
            case "worker_ready":
                self._hands[worker] = set()
                self._services[worker] = record.text.split(",")
            case "worker_lost" | "worker_left":
                self._hands.pop(worker, None)
                self._late.discard(worker)
            case "worker_late":
                self._late.add(worker)
            case "accepted":
                self._waiting[service] += 1
                self._requests += 1
            case "handed_out":
                self._waiting[service] -= 1
                self._hands.setdefault(worker, set()).add(task)
                self._services.setdefault(worker, [service])
                self._late.discard(worker)
            case "answered" | "failed" | "gave_up" | "stopped" if worker:
                self._hands.get(worker, set()).discard(task)
            case "attempt_failed" | "returned":
                self._hands.get(worker, set()).discard(task)
                self._waiting[service] += 1
            case "fenced":
                self._hands.get(worker, set()).discard(task)
                self._late.discard(worker)
            case "expired" | "cancelled" | "stopped" if not worker:
                self._waiting[service] -= 1
            case _:
                pass
        if record.event == "gave_up":
            self._waiting[service] -= 1  # its last attempt_failed put it back for a moment

    def _see_ends(self, record: Record) -> None:
        match record.role, record.event:
            case "client", "sent":
                self._waiting[""] += 1
                self._requests += 1
            case "worker", "begun":
                self._waiting[""] -= 1
                self._hands.setdefault(record.worker, set()).add(record.request)
            case "worker", "done":
                self._hands.setdefault(record.worker, set()).discard(record.request)
            case "verify", "killed" | "frozen":  # what it had is waiting again; it is not there to be idle
                self._waiting[""] += len(self._hands.pop(record.worker, ()))
            case _:
                pass
        self._services[record.worker] = [""]

    def _look(self, record: Record) -> None:
        idle = [name for name, hand in self._hands.items() if not hand and name not in self._late]
        services = {service for name in idle for service in self._services.get(name, ())}
        waiting = sum(self._waiting[service] for service in services)
        if waiting > 0:
            if self._since is None:
                self._since = record.at
            self._most_waiting = max(self._most_waiting, waiting)
        elif self._since is not None:
            lasted = record.at - self._since
            if lasted > 0:
                if all(lasted > other for other, _ in self._intervals):
                    self._worst = f"the longest one ended by {record.event} of {record.worker or record.request}"
                self._intervals.append((lasted, self._most_waiting))
            self._since, self._most_waiting = None, 0

    def _p99(self) -> float:
        """Of the times that requests waited beside a free worker, over all requests; most waited for 0 s."""
        chances = max(self._requests, sum(count for _, count in self._intervals))
        beyond = chances - math.ceil(0.99 * chances)  # so many may have waited for longer
        for lasted, count in sorted(self._intervals, reverse=True):
            if count > beyond:
                return lasted
            beyond -= count
        return 0.0

    def verdict(self) -> Verdict:
        p99 = self._p99()
        longest = max((lasted for lasted, _ in self._intervals), default=0.0)
        total = sum(lasted for lasted, _ in self._intervals)
        figures: dict[str, Figure] = {
            "judged": self._requests,
            "longest_s": round(longest, 6),
            "total_s": round(total, 6),
            "intervals": len(self._intervals),
            "p99_s": round(p99, 6),
            "source": "broker" if self._from_broker else "clients and workers",
        }
        evidence = [
            f"longest {longest * 1000:.1f} ms, in total {total * 1000:.1f} ms in {len(self._intervals)} intervals"
        ]
        if self._since is not None:
            evidence.append("at the end of the trace a worker is still free while a request waits")
        elif longest > IDLE_S_MAX:
            evidence.append(self._worst)
        return Verdict("no-idle-while-waiting", p99 <= IDLE_S_MAX and self._since is None, figures, evidence)


class _Victim:
    """A worker that was hurt while it worked on a request, and what became of both."""

    def __init__(self, record: Record, has_begun: bool) -> None:
        self.worker = record.worker
        self.request = record.request
        self.at = record.at
        self.has_begun = has_begun
        self.heir = ""
        self.begun_again_at: float | None = None
        self.answer = ""
        self.answered_at: float | None = None
        self.answers = 0
        self.thawed_at: float | None = None
        self.is_fenced = False
        self.is_done_late = False
        self.is_used_again = False


class _Failover:
    """What the checks of killed and frozen workers have in common."""

    event = ""
    name = ""

    def __init__(self) -> None:
        self._begun: dict[str, tuple[str, str]] = {}
        self._victims: list[_Victim] = []
        self._has_broker = False

    def see(self, record: Record) -> None:
        if record.role == "verify" and record.event == self.event:
            begun = self._begun.get(record.worker, ("", ""))[0] == record.request
            self._victims.append(_Victim(record, begun))
            return
        self._has_broker |= record.role == "broker"
        if record.role == "worker" and record.event == "begun":
            self._begun[record.worker] = (record.request, record.text)
        for victim in self._victims:
            self._follow(victim, record)

    def _follow(self, victim: _Victim, record: Record) -> None:
        if record.role == "worker" and record.event == "begun":
            if record.request == victim.request and record.worker != victim.worker and not victim.heir:
                victim.heir, victim.begun_again_at = record.worker, record.at
            elif record.worker == victim.worker and victim.thawed_at is not None:
                victim.is_used_again = True
        elif record.role == "worker" and record.event == "done":
            late = record.worker == victim.worker and record.request == victim.request and victim.thawed_at is not None
            victim.is_done_late |= late
        elif record.role == "client" and record.event == "got" and record.request == victim.request:
            victim.answers += 1
            victim.answer, victim.answered_at = record.text, record.at
        elif record.role == "verify" and record.event == "thawed" and record.worker == victim.worker:
            victim.thawed_at = record.at
        elif record.role == "broker" and record.event == "fenced" and record.worker == victim.worker:
            victim.is_fenced |= victim.thawed_at is not None

    def _complaints(self, victim: _Victim) -> list[str]:
        complaints = []
        if not victim.has_begun:
            complaints.append(f"{victim.worker} had not begun {victim.request}: the trial proves nothing")
        if victim.answered_at is None:
            complaints.append(f"{victim.request} was never answered after {victim.worker} was {self.event}")
        elif not victim.answer.endswith(f" {victim.heir}") or victim.heir in ("", victim.worker):
            complaints.append(
                f"{victim.request} was answered {victim.answer!r}, not by another worker than {victim.worker}"
            )
        if victim.answers > 1:
            complaints.append(f"{victim.request} was answered {victim.answers} times")
        return complaints

    def verdict(self) -> Verdict:
        evidence: list[str] = []
        passed = True
        for victim in self._victims:
            complaints = self._complaints(victim)
            passed &= not complaints
            evidence += complaints or [self._story(victim)]
        again = [v.begun_again_at - v.at for v in self._victims if v.begun_again_at is not None]
        answered = [v.answered_at - v.at for v in self._victims if v.answered_at is not None]
        figures: dict[str, Figure] = {
            "judged": len(self._victims),
            "lost": len(self._victims) - len(answered),
            "begun_again_s_max": round(max(again), 6) if again else None,
            "answered_s_max": round(max(answered), 6) if answered else None,
        }
        return Verdict(self.name, passed, figures, evidence or [f"no worker was {self.event} in this trace"])

    def _story(self, victim: _Victim) -> str:
        assert victim.begun_again_at is not None and victim.answered_at is not None
        return (
            f"{victim.worker} was {self.event} while it worked on {victim.request}; {victim.heir} began it "
            f"{victim.begun_again_at - victim.at:.3f} s later and answered it after {victim.answered_at - victim.at:.3f} s"
        )


class KilledWorker(_Failover):
    """A worker killed in the middle of a request: the request is answered by another."""

    event = "killed"
    name = "killed-worker"


class FrozenWorker(_Failover):
    """A worker frozen in the middle of a request: the same; what it says after it wakes is fenced off; it is used again."""

    event = "frozen"
    name = "frozen-worker"

    def _complaints(self, victim: _Victim) -> list[str]:
        complaints = super()._complaints(victim)
        if victim.thawed_at is None:
            return [*complaints, f"{victim.worker} was never woken"]
        if self._has_broker and not victim.is_fenced:
            complaints.append(f"the late answer of {victim.worker} for {victim.request} was not fenced off")
        if not self._has_broker and not victim.is_done_late:
            complaints.append(f"{victim.worker} did not finish {victim.request} after it woke: nothing was late")
        if not victim.is_used_again:
            complaints.append(f"{victim.worker} was not used again after it woke")
        return complaints

    def _story(self, victim: _Victim) -> str:
        fenced = "its late answer was fenced off" if self._has_broker else "its late answer reached nobody"
        return f"{super()._story(victim)}; {fenced} when it woke, and it was used again"


def judge(records: Iterable[Record]) -> list[Verdict]:
    """The verdicts of all checks over ``records``, which must be in the order of time.

    Raises:
        UsageError: there is no record.
    """
    checks: list[Check] = [OwnReplies(), NoIdleWhileWaiting(), KilledWorker(), FrozenWorker()]
    is_empty = True
    for record in records:
        is_empty = False
        for check in checks:
            check.see(record)
    if is_empty:
        raise UsageError("the trace holds no record", advice="Run the roles with --trace FILE.")
    return [check.verdict() for check in checks]


def report(verdicts: Iterable[Verdict]) -> Mapping[str, object]:
    """The verdicts as ``--json`` prints them."""
    verdicts = list(verdicts)
    checks = [{"name": v.name, "passed": v.passed, "figures": v.figures, "evidence": v.evidence} for v in verdicts]
    return {"checks": checks, "passed": all(verdict.passed for verdict in verdicts)}
