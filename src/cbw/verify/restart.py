"""G4 and G11 of a deployment whose broker and logger were restarted under load: nothing is lost, and the log is complete.

The trace says what the verification did, in records of the role ``verify``: ``deployed`` (``text``: the services that run);
``broker_killed`` or ``broker_restarted``, then ``broker_back``; ``logger_killed`` or ``logger_restarted``, then
``logger_writes``. Records with a ``boot`` came through the logger.
"""

from __future__ import annotations

from typing import NamedTuple

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.logs.numbers import Numbers
from cbw.verify.verdict import EVIDENCE_MAX, Figure, Verdict, longest

UNSENT_S = 1.0
"""A record made within this time before its process was killed may have died with it: records are sent every 20 ms, and have
to cross a network."""
_STORY = (catalogue.ACCEPTED, catalogue.HANDED_OUT, catalogue.ANSWERED)
"""What a broker records of every request that is answered."""


class _Restart:
    """One time that the broker was brought down: the requests that were open meanwhile, and what became of them."""

    def __init__(self, down: Record, open_requests: list[str]) -> None:
        self.how = down.event.removeprefix("broker_").removeprefix("owner_").replace("_", " ")
        self.at = down.at
        self.back_at: float | None = None
        self.recovered_at: float | None = None
        self.was_busy = bool(open_requests)
        self.open: dict[str, None] = dict.fromkeys(open_requests)
        self.answers: dict[str, int] = {}
        self.last_answer_at: float | None = None


class BrokerDown:
    """A broker that was brought down under load: the one that comes back, or another one of several, answers every request of its
    clients, once.

    The clients send open requests again. A request may be executed twice; that is counted. ``event`` says how it was brought
    down: killed, stopped and started, frozen, cut off, or killed as the owner of a journal that has standbys.
    """

    def __init__(self, event: catalogue.EventName) -> None:
        self.name = "standby-takes-over"
        if event != catalogue.OWNER_KILLED:
            self.name = f"{event.removeprefix('broker_').replace('_', '-')}-broker"
        self._event = event
        self._is_down = False
        self._open: dict[str, None] = {}
        self._restarts: list[_Restart] = []
        self._begun: dict[str, dict[tuple[str, int], None]] = {}  # of each request, by whom and as which task
        self._errors: dict[str, str] = {}

    def see(self, record: Record) -> None:
        request = record.request
        match record.role, record.event:
            case "verify", self._event:
                self._is_down = True
                self._restarts.append(_Restart(record, list(self._open)))
            case "verify", catalogue.BROKER_BACK if self._is_down:
                self._is_down = False
                self._restarts[-1].back_at = record.at
            case "client", catalogue.SENT:
                self._open[request] = None
                if self._restarts and self._restarts[-1].back_at is None:
                    self._restarts[-1].open[request] = None
            case "client", catalogue.GOT:
                self._got(record)
            case "client", catalogue.FAILED:
                self._ended(request)
                if self._restarts:
                    self._errors[request] = record.text
            case "worker", catalogue.BEGUN if self._is_open(request):
                # A worker may tell it twice: to its trace, and to that of its handler.
                begun = self._begun.setdefault(request, {})
                begun[record.worker or record.sender, record.task or -len(begun)] = None
            case _:
                pass

    def _is_open(self, request: str) -> bool:
        return request in self._open or any(request in restart.open for restart in self._restarts)

    def _ended(self, request: str) -> None:
        self._open.pop(request, None)
        if not self._is_open(request):
            self._begun.pop(request, None)

    def _got(self, record: Record) -> None:
        self._ended(record.request)
        for restart in self._restarts:
            if record.request in restart.open:
                restart.answers[record.request] = restart.answers.get(record.request, 0) + 1
                restart.last_answer_at = record.at
                if restart.back_at is not None and restart.recovered_at is None:
                    restart.recovered_at = record.at

    def verdict(self) -> Verdict:
        evidence: list[str] = []
        complaints: list[str] = []
        for restart in self._restarts:
            found = self._complaints(restart)
            complaints += found
            evidence += found[:EVIDENCE_MAX] or [self._story(restart)]
        requests = dict.fromkeys(request for restart in self._restarts for request in restart.open)
        lost = sum(restart.answers.get(request, 0) == 0 for restart in self._restarts for request in restart.open)
        twice = sum(count > 1 for restart in self._restarts for count in restart.answers.values())
        figures: dict[str, Figure] = {
            "judged": len(requests),
            "restarts": len(self._restarts),
            "lost": lost,
            "answered_twice": twice,
            "executed_again": sum(len(self._begun.get(request, ())) > 1 for request in requests),
            "recovery_s": longest([(restart.at, restart.recovered_at) for restart in self._restarts]),
            "answered_s": longest([(restart.at, restart.last_answer_at) for restart in self._restarts]),
        }
        if not self._restarts:
            whom, _, how = self._event.replace("_", " ").partition(" ")
            who = "owner of a journal" if whom == "owner" else "broker"
            return Verdict(self.name, True, figures, f"no {who} was {how} in this trace")
        summary = (
            f"brought down {_times(len(self._restarts))} with {len(requests)} requests open: {lost} lost, "
            f"{twice} answered twice, {figures['executed_again']} executed again"
        )
        return Verdict(self.name, not complaints, figures, summary, evidence)

    def _complaints(self, restart: _Restart) -> list[str]:
        if not restart.was_busy:
            return [f"no request was open when the broker was {restart.how}: the trial proves nothing"]
        if restart.back_at is None:
            return [f"the broker did not come back after it was {restart.how}"]
        complaints = []
        for request in restart.open:
            count = restart.answers.get(request, 0)
            if count == 0:
                why = f": {self._errors[request]}" if request in self._errors else ""
                complaints.append(f"{request} was not answered after the broker was {restart.how}{why}")
            elif count > 1:
                complaints.append(f"{request} was answered {count} times")
        return complaints

    def _story(self, restart: _Restart) -> str:
        story = f"the broker was {restart.how} with {len(restart.open)} requests open, all of them answered"
        if restart.recovered_at is not None and restart.back_at is not None:
            back, recovered = restart.back_at - restart.at, restart.recovered_at - restart.at
            story += f"; it was back after {back:.3f} s, the first answer came {recovered:.3f} s after the harm"
        return story


class _Answer(NamedTuple):
    at: float
    worker: str


class CompleteLog:
    """The log holds the story of every request that was answered, and every record of every sender, or says what it lacks.

    A lost record stands in the log as a counted gap. A record that is missing without one, or is there twice, breaks the
    promise. What a process recorded just before it was killed may have died with it, and is counted separately.
    """

    name = "complete-log"

    def __init__(self) -> None:
        self._is_deployed = False
        self._numbers: dict[str, Numbers] = {}  # by boot
        self._gaps = 0
        self._answers: dict[str, _Answer] = {}
        self._stories: dict[str, dict[str, None]] = {}  # request: what the log tells of it
        self._has_workers = False
        self._killed: dict[str, list[float]] = {}  # worker, or "" for the broker: times when it was killed
        self._down: list[Record] = []
        self._recoveries: list[tuple[float, float | None]] = []

    def see(self, record: Record) -> None:
        if record.role == "verify":
            self._see_note(record)
        elif record.role == "client" and not record.boot:
            if record.event == catalogue.GOT:
                self._answers.setdefault(record.request, _Answer(record.at, record.text.rpartition(" ")[2]))
        elif record.role == "logger" and record.event == catalogue.GAP:
            self._gaps += record.count
        elif record.boot:
            self._see_logged(record)

    def _see_note(self, record: Record) -> None:
        match record.event:
            case catalogue.DEPLOYED:
                self._is_deployed = "log" in record.text.split()
            case catalogue.KILLED:
                self._killed.setdefault(record.worker, []).append(record.at)
            case catalogue.BROKER_KILLED:
                self._killed.setdefault("", []).append(record.at)
            case catalogue.LOGGER_KILLED | catalogue.LOGGER_RESTARTED:
                self._down.append(record)
            case catalogue.LOGGER_WRITES if self._down:
                self._recoveries.append((self._down[-1].at, record.at))
            case _:
                pass

    def _see_logged(self, record: Record) -> None:
        self._numbers.setdefault(record.boot, Numbers(record.sender)).add(record.seq)
        if record.role == "broker" and record.request:
            self._stories.setdefault(record.request, {})[record.event] = None
        elif record.role == "worker" and record.event in (catalogue.BEGUN, catalogue.DONE) and record.request:
            self._has_workers = True
            self._stories.setdefault(record.request, {})[f"{record.event} by {record.worker}"] = None

    def verdict(self) -> Verdict:
        if not self._is_deployed:
            return Verdict(self.name, True, {"judged": 0}, "the deployment has no logger (service log)")
        untold, died = self._untold()
        missing = sum(numbers.missing for numbers in self._numbers.values())
        lost = max(0, missing - self._gaps)
        twice = sum(numbers.twice for numbers in self._numbers.values())
        figures: dict[str, Figure] = {
            "judged": len(self._answers),
            "records": sum(numbers.count for numbers in self._numbers.values()),
            "restarts": len(self._down),
            "untold": len(untold),
            "lost": lost,
            "counted_gaps": self._gaps,
            "written_twice": twice,
            "died_with_their_sender": died,
            "recovery_s": longest(self._recoveries),
        }
        evidence = [f"the log does not tell that {request} was {', '.join(what)}" for request, what in untold.items()]
        evidence = evidence[:EVIDENCE_MAX]
        if not self._numbers:
            evidence = [
                "the log holds no record of this verification; do the roles know LOGGER_HOST, does it write JSON?"
            ]
        for numbers in self._numbers.values():
            if lost and numbers.missing:
                evidence.append(
                    f"{numbers.missing} records of {numbers.sender} are missing, {self._gaps} are known as lost"
                )
            if numbers.twice:
                evidence.append(f"{numbers.twice} records of {numbers.sender} are there twice")
        passed = bool(self._numbers) and not untold and not lost and not twice
        summary = (
            f"{figures['records']} records tell of {len(self._answers)} requests: "
            f"{len(untold)} stories incomplete, {lost} records lost without a word, {twice} written twice"
        )
        if self._down:
            summary += f"; the logger was brought down {_times(len(self._down))}"
        if passed and (seconds := figures["recovery_s"]) is not None:
            evidence.append(f"the logger wrote again {seconds:.3f} s after the harm at the latest")
        return Verdict(self.name, passed, figures, summary, evidence)

    def _untold(self) -> tuple[dict[str, list[str]], int]:
        """What the log lacks of each answered request, and how many such records died with the process that made them."""
        untold: dict[str, list[str]] = {}
        died = 0
        for request, answer in self._answers.items():
            story = self._stories.get(request, {})
            ends = [f"begun by {answer.worker}", f"done by {answer.worker}"] if self._has_workers else []
            for what in (*_STORY, *ends):
                if what in story:
                    continue
                if self._may_have_died("" if what in _STORY else answer.worker, answer.at):
                    died += 1
                else:
                    untold.setdefault(request, []).append(what.replace("_", " "))
        return untold, died

    def _may_have_died(self, sender: str, at: float) -> bool:
        return any(0.0 <= killed_at - at <= UNSENT_S for killed_at in self._killed.get(sender, ()))


def _times(count: int) -> str:
    return "once" if count == 1 else "twice" if count == 2 else f"{count} times"
