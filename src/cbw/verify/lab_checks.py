"""What is judged of a broker of the lab only: whose turn it is, one task at a time, bad frames."""

from __future__ import annotations

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.verify.failover import HARMS
from cbw.verify.verdict import EVIDENCE_MAX, Figure, Verdict

TIE_S = 0.03
"""Workers that became free within this time of each other may come up in any order: their answers cross on the way."""


class LeastRecentlyUsed:
    """While one request is open at a time, it goes to the worker that has been free for longest.

    A worker is known from its first answer on.
    """

    name = "least-recently-used"

    def __init__(self) -> None:
        self._free: dict[str, float] = {}  # worker: since when
        self._open: dict[str, None] = {}
        self._judged = 0
        self._wrong: list[str] = []

    def see(self, record: Record) -> None:
        match record.role, record.event:
            case "client", catalogue.SENT:
                self._open[record.request] = None
            case "client", catalogue.GOT | catalogue.FAILED:
                self._open.pop(record.request, None)
            case "worker", catalogue.DONE:
                self._free[record.worker] = record.at
            case "worker", catalogue.BEGUN:
                self._begun(record)
            case "verify", event if event in HARMS:
                self._free.pop(record.worker, None)
            case _:
                pass

    def _begun(self, record: Record) -> None:
        since = self._free.pop(record.worker, None)
        if since is None or not self._free or list(self._open) != [record.request]:
            return
        self._judged += 1
        longest, before = min(self._free.items(), key=lambda item: item[1])
        if since - before > TIE_S:
            self._wrong.append(
                f"{record.request} went to {record.worker}, free for {record.at - since:.3f} s, "
                f"while {longest} had been free for {record.at - before:.3f} s"
            )

    def verdict(self) -> Verdict:
        wrong = len(self._wrong)
        figures: dict[str, Figure] = {"judged": self._judged, "wrong": wrong}
        if not self._judged:
            return Verdict(self.name, True, figures, "no request found several free workers that were known")
        summary = (
            f"{self._judged} requests found several free workers, {wrong} went to one that was not free for longest"
        )
        return Verdict(self.name, not wrong, figures, summary, self._wrong[:EVIDENCE_MAX])


class OneAtATime:
    """A worker of the lab is given a task only when it has answered the one before: a REQ socket would never see it."""

    name = "one-at-a-time"

    def __init__(self) -> None:
        self._begun = 0
        self._wrong: list[str] = []

    def see(self, record: Record) -> None:
        if record.role == "worker" and record.event == catalogue.BEGUN:
            self._begun += 1
        elif record.role == "worker" and record.event == catalogue.SECOND_TASK:
            self._wrong.append(f"{record.worker} was given {record.request} while it worked on {record.text}")

    def verdict(self) -> Verdict:
        wrong = len(self._wrong)
        figures: dict[str, Figure] = {"judged": self._begun, "wrong": wrong}
        summary = f"{self._begun} tasks, {wrong} given to a worker that was at work"
        return Verdict(self.name, not wrong, figures, summary, self._wrong[:EVIDENCE_MAX])


class BadFrames:
    """A broker goes on to answer after a message that no program of the lab sends."""

    name = "bad-frames"

    def __init__(self) -> None:
        self._sent: dict[str, bool] = {}  # what was sent: whether a client was answered after it
        self._last = ""

    def see(self, record: Record) -> None:
        if record.role == "verify" and record.event == catalogue.STRANGE_SENT:
            self._last = record.text
            self._sent[record.text] = False
        elif self._last and record.role == "client" and record.event == catalogue.GOT:
            self._sent[self._last] = True

    def verdict(self) -> Verdict:
        silent = [what for what, is_answered in self._sent.items() if not is_answered]
        figures: dict[str, Figure] = {"judged": len(self._sent), "unanswered": len(silent)}
        if not self._sent:
            return Verdict(self.name, True, figures, "no bad frames were sent (--bad-frames sends some)")
        summary = f"{len(self._sent)} bad messages, clients were answered after {len(self._sent) - len(silent)} of them"
        evidence = [f"after {what} nobody was answered any more" for what in silent]
        return Verdict(self.name, not silent, figures, summary, evidence[:EVIDENCE_MAX])
