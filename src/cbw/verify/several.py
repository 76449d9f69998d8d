"""G2 and G4 of a deployment with several brokers: workers serve all of them, and one that has lost its journal is not believed.

The trace says what the verification did, in records of the role ``verify``: ``broker_asked`` (``text``: the broker that is asked
alone from here on; empty: it is over), ``zombie_woken`` and ``zombie_ended`` (``count``: its exit code).
"""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.errors import JournalFenced
from cbw.verify.verdict import EVIDENCE_MAX, Figure, Verdict


class WorkShared:
    """While one broker has more requests than its workers can run, all workers have some of them.

    Those that begin their first request later, such as one that a Swarm starts in place of a killed one, are not judged.
    """

    name = "work-shared"

    def __init__(self) -> None:
        self._workers: dict[str, None] = {}
        self._asked = ""
        self._requests: dict[str, str] = {}  # of clients that asked one broker alone, and which
        self._begun: dict[str, dict[str, int]] = {}  # broker: worker: its requests
        self._present: dict[str, dict[str, None]] = {}  # broker: the workers that were there when it was asked alone

    def see(self, record: Record) -> None:
        match record.role, record.event:
            case "verify", catalogue.BROKER_ASKED:
                if self._asked:
                    self._present[self._asked] = dict(self._workers)
                self._asked = record.text
                if self._asked:
                    self._begun[self._asked] = {}
            case "client", catalogue.SENT if self._asked:
                self._requests[record.request] = self._asked
            case "worker", catalogue.BEGUN:
                worker = record.worker or record.sender
                self._workers[worker] = None
                if (broker := self._requests.get(record.request)) is not None:
                    self._begun[broker][worker] = self._begun[broker].get(worker, 0) + 1
            case _:
                pass

    def verdict(self) -> Verdict:
        evidence = [
            f"{worker} began none of {sum(begun.values())} requests that the broker at {broker} had alone"
            for broker, begun in self._begun.items()
            for worker in self._present.get(broker, self._workers)
            if worker not in begun
        ]
        count = len(dict.fromkeys(worker for present in self._present.values() for worker in present) or self._workers)
        figures: dict[str, Figure] = {
            "judged": len(self._begun),
            "workers": count,
            "missing": len(evidence),
        }
        if not self._begun:
            return Verdict(self.name, True, figures, "no broker of several was asked alone in this trace")
        summary = (
            f"{len(self._begun)} brokers were asked alone; in {len(evidence)} cases one of {count} workers had none"
        )
        return Verdict(self.name, not evidence, figures, summary, evidence[:EVIDENCE_MAX])


class FencedZombie:
    """A broker that stood still until a standby had its journal ends when it runs again. (What it had said is judged as all
    answers are.)
    """

    name = "fenced-zombie"

    def __init__(self) -> None:
        self._woken: list[Record] = []
        self._ended: list[Record] = []

    def see(self, record: Record) -> None:
        if record.role == "verify" and record.event == catalogue.ZOMBIE_WOKEN:
            self._woken.append(record)
        elif record.role == "verify" and record.event == catalogue.ZOMBIE_ENDED:
            self._ended.append(record)

    def verdict(self) -> Verdict:
        figures: dict[str, Figure] = {"judged": len(self._woken), "ended": len(self._ended)}
        if not self._woken:
            return Verdict(self.name, True, figures, "no owner of a journal was frozen in this trace")
        evidence = [
            f"{record.text} ended with exit code {record.count} in place of {JournalFenced.exit_code}"
            for record in self._ended
            if record.count != JournalFenced.exit_code
        ]
        if len(self._ended) < len(self._woken):
            evidence.append(f"{self._woken[-1].text} lost its journal to a standby, and runs on")
        summary = f"{len(self._woken)} lost its journal while it was frozen, {len(self._ended)} ended when it ran again"
        return Verdict(self.name, not evidence, figures, summary, evidence[:EVIDENCE_MAX])
