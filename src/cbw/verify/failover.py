"""G3 and G4: a request survives its worker, and only the answer of its live attempt counts.

The trace says, in records of the role ``verify`` with worker, request and task, which workers the verification killed, froze
and woke, or cut off and connected again. That a worker had begun its request is taken from the worker's own record.
"""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.verdict import Figure, Verdict, longest

HARMS = (catalogue.KILLED, catalogue.FROZEN, catalogue.CUT_OFF)
"""What a verification does to a worker in the middle of a request."""
HEALED = (catalogue.THAWED, catalogue.RECONNECTED)
"""How a verification ends the harm to a worker that lives on."""
_OUT_OF_ORDER_S = 1.0
"""How much the times may be wrong that Docker notes for lines of two containers. Records with task numbers need no order."""


class _Victim:
    """A worker that was hurt while it worked on a request, and what became of both."""

    def __init__(self, hurt: Record, task: int, has_begun: bool) -> None:
        self.worker = hurt.worker
        self.request = hurt.request
        self.task = task
        self.at = hurt.at
        self.has_begun = has_begun
        self.replacements: dict[str, None] = {}  # workers that have begun the request after the harm
        self.handed_out_at: float | None = None
        self.begun_at: float | None = None
        self.answers: list[str] = []
        self.answered_at: float | None = None
        self.error = ""
        self.broker_answers = 0
        self.is_in_broker_trace = False
        self.healed_at: float | None = None
        self.late_at: float | None = None
        self.is_fenced = False
        self.used_again_at: float | None = None

    def is_concerned_by(self, fenced: Record) -> bool:
        """Whether ``fenced`` is about this victim's answer. A printed line names no task: then its time must decide."""
        is_in_time = self.used_again_at is None or fenced.at <= self.used_again_at + _OUT_OF_ORDER_S
        return fenced.task == self.task and fenced.worker in ("", self.worker) and (self.task != 0 or is_in_time)

    @property
    def answer_count(self) -> int:
        """Answers to the request, by the records of the client or of the broker, whichever has more."""
        return max(len(self.answers), self.broker_answers)

    @property
    def answered_by(self) -> str:
        """The worker that answered first: an answer ends with the id of its worker."""
        return self.answers[0].rpartition(" ")[2] if self.answers else ""


class _Failover:
    """What the checks of killed, frozen and cut-off workers have in common."""

    event = catalogue.EventName("")
    name = ""

    @property
    def harm(self) -> str:
        """What was done to the worker, for people."""
        return self.event.replace("_", " ")

    def __init__(self) -> None:
        self._requests: dict[int, str] = {}  # task: request, of what workers have, by the broker's records
        self._begun: dict[str, dict[str, int]] = {}  # worker: request: task
        self._victims: list[_Victim] = []
        self._earlier: list[_Victim] = []  # of other verifications in this trace, whose requests had the same names

    def see(self, record: Record) -> None:
        if record.role == "verify" and record.event == catalogue.STARTED:
            self._earlier += self._victims
            self._victims = []
            self._requests.clear()
            self._begun.clear()
        elif record.role == "verify" and record.event in HARMS:
            if record.event == self.event:
                task = self._begun.get(record.worker, {}).get(record.request)
                self._victims.append(_Victim(record, task or record.task, task is not None))
        elif record.role == "broker":
            self._see_broker(record)
        elif record.role == "worker" and record.event in (catalogue.BEGUN, catalogue.DONE, catalogue.ERROR):
            self._see_worker(record, record.request or self._requests.get(record.task, ""))
        elif record.role == "client":
            for victim in self._of(record.request):
                if record.event == catalogue.GOT:
                    victim.answers.append(record.text)
                    victim.answered_at = victim.answered_at or record.at
                elif record.event == catalogue.FAILED:
                    victim.error = record.text
        elif record.role == "verify" and record.event in HEALED:
            for victim in self._victims:
                if victim.worker == record.worker:
                    victim.healed_at = record.at

    def _of(self, request: str) -> Iterable[_Victim]:
        return [victim for victim in self._victims if victim.request == request]

    def _see_broker(self, record: Record) -> None:
        match record.event:
            case catalogue.HANDED_OUT:
                self._requests[record.task] = record.request
                for victim in self._of(record.request):
                    victim.is_in_broker_trace = True
                    if victim.handed_out_at is None and record.task != victim.task:
                        victim.handed_out_at = record.at
            case catalogue.ANSWERED | catalogue.FAILED | catalogue.GAVE_UP:
                self._requests.pop(record.task, None)
                for victim in self._of(record.request):
                    victim.broker_answers += 1
            case (
                catalogue.ATTEMPT_FAILED
                | catalogue.RETURNED
                | catalogue.RETRIED
                | catalogue.CANCELLED
                | catalogue.EXPIRED
                | catalogue.STOPPED
            ):
                self._requests.pop(record.task, None)
                for victim in self._of(record.request):
                    victim.is_in_broker_trace = True
            case catalogue.FENCED:
                for victim in self._victims:
                    if victim.is_concerned_by(record):
                        victim.is_fenced = True
                        victim.late_at = victim.late_at or record.at
            case _:
                pass

    def _see_worker(self, record: Record, request: str) -> None:
        hand = self._begun.setdefault(record.worker, {})
        if record.event == catalogue.BEGUN:
            hand[request] = record.task
        else:
            hand.pop(request, None)
        for victim in self._victims:
            if record.worker == victim.worker:
                if victim.healed_at is None:
                    continue
                if record.event == catalogue.BEGUN:
                    victim.used_again_at = victim.used_again_at or record.at
                elif request == victim.request:
                    victim.late_at = victim.late_at or record.at
            elif record.event == catalogue.BEGUN and request == victim.request:
                victim.replacements[record.worker] = None
                victim.begun_at = victim.begun_at or record.at

    # --- the verdict

    @property
    def _all(self) -> list[_Victim]:
        return self._earlier + self._victims

    def _complaints(self, victim: _Victim) -> list[str]:
        worker, request = victim.worker, victim.request
        if not victim.has_begun:
            return [f"{worker} had not begun {request} when it was {self.harm}: the trial proves nothing"]
        complaints = []
        if not victim.answers:
            why = f": {victim.error}" if victim.error else ""
            complaints.append(f"{request} was never answered after {worker} was {self.harm}{why}")
        elif victim.answered_by == worker:
            complaints.append(f"{request} was answered by {worker} itself, which was {self.harm}")
        elif victim.answered_by not in victim.replacements:
            complaints.append(f"{request} was answered {victim.answers[0]!r}, but no such worker had begun it")
        if victim.answer_count > 1:
            complaints.append(f"{request} was answered {victim.answer_count} times")
        return complaints

    def _story(self, victim: _Victim) -> str:
        assert victim.answered_at is not None
        how = ""
        if victim.handed_out_at is not None:
            how = f"was given it {victim.handed_out_at - victim.at:.3f} s later and "
        elif victim.begun_at is not None:
            how = f"began it {victim.begun_at - victim.at:.3f} s later and "
        answered_s = victim.answered_at - victim.at
        return (
            f"{victim.worker} was {self.harm} while it worked on {victim.request}; "
            f"{victim.answered_by} {how}had answered it {answered_s:.3f} s after the harm"
        )

    def _figures(self) -> dict[str, Figure]:
        """Times are counted from the harm on; each is the longest of all victims."""
        victims = self._all
        return {
            "judged": len(victims),
            "unanswered": sum(not victim.answers for victim in victims),
            "answered_twice": sum(victim.answer_count > 1 for victim in victims),
            "handed_out_again_s": longest((victim.at, victim.handed_out_at) for victim in victims),
            "begun_again_s": longest((victim.at, victim.begun_at) for victim in victims),
            "answered_s": longest((victim.at, victim.answered_at) for victim in victims),
        }

    def verdict(self) -> Verdict:
        evidence: list[str] = []
        passed = True
        for victim in self._all:
            complaints = self._complaints(victim)
            passed &= not complaints
            evidence += complaints or [self._story(victim)]
        figures = self._figures()
        return Verdict(self.name, passed, figures, self._summary(figures), evidence)

    def _summary(self, figures: dict[str, Figure]) -> str:
        if not self._all:
            return f"no worker was {self.harm} in this trace"
        count, lost = len(self._all), int(figures["unanswered"] or 0)
        summary = f"{count} worker{'s' if count > 1 else ''} {self.harm}, {count - lost} of {count} requests answered"
        soonest = (
            figures["handed_out_again_s"] if figures["handed_out_again_s"] is not None else figures["begun_again_s"]
        )
        return summary if soonest is None else f"{summary}; given to another after {soonest:.3f} s"


class KilledWorker(_Failover):
    """A worker killed in the middle of a request: the request is answered by another."""

    event = catalogue.KILLED
    name = "killed-worker"


class FrozenWorker(_Failover):
    """A worker frozen in the middle of a request: the request is answered by another.

    What the worker says after it wakes is fenced, and it is used again.
    """

    event = catalogue.FROZEN
    name = "frozen-worker"

    def _complaints(self, victim: _Victim) -> list[str]:
        complaints = super()._complaints(victim)
        worker, request = victim.worker, victim.request
        if not victim.has_begun:
            return complaints
        if victim.healed_at is None:
            return [*complaints, f"{worker} was never woken"]
        if victim.late_at is None:
            complaints.append(f"no late answer of {worker} for {request} was seen after it woke")
        elif victim.is_in_broker_trace and not victim.is_fenced:
            complaints.append(f"the late answer of {worker} for {request} was not fenced off")
        if victim.used_again_at is None:
            complaints.append(f"{worker} was not used again after it woke")
        return complaints

    def _story(self, victim: _Victim) -> str:
        fate = "was fenced off" if victim.is_fenced else "reached nobody"
        return f"{super()._story(victim)}; when {victim.worker} woke, its late answer {fate}, and it was used again"

    def _figures(self) -> dict[str, Figure]:
        return super()._figures() | {
            "late": sum(victim.late_at is not None for victim in self._all),
            "fenced": sum(victim.is_fenced for victim in self._all),
            "used_again": sum(victim.used_again_at is not None for victim in self._all),
        }


class CutOffWorker(_Failover):
    """A worker cut off from its network in the middle of a request: the request is answered by another.

    Once connected again the worker is used again. Whether its late answer still arrives depends on which end has given the
    connection up by then.
    """

    event = catalogue.CUT_OFF
    name = "cut-off-worker"

    def _complaints(self, victim: _Victim) -> list[str]:
        complaints = super()._complaints(victim)
        if not victim.has_begun:
            return complaints
        if victim.healed_at is None:
            return [*complaints, f"{victim.worker} was never connected again"]
        if victim.used_again_at is None:
            complaints.append(f"{victim.worker} was not used again after it was connected again")
        return complaints

    def _story(self, victim: _Victim) -> str:
        fate = "its late answer was fenced off, and it" if victim.is_fenced else "it"
        return f"{super()._story(victim)}; when {victim.worker} was connected again, {fate} was used again"

    def _figures(self) -> dict[str, Figure]:
        return super()._figures() | {
            "fenced": sum(victim.is_fenced for victim in self._all),
            "used_again": sum(victim.used_again_at is not None for victim in self._all),
        }
