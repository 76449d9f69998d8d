"""G1: a client gets the answers to its own requests and nobody else's."""

from __future__ import annotations

import re

from cbw.core import catalogue
from cbw.core.record import Record
from cbw.logs.numbers import Numbers
from cbw.verify.failover import HARMS
from cbw.verify.verdict import EVIDENCE_MAX, Figure, Verdict

_NAMED = re.compile(r"\S+[-/]\d+( |$)")


class OwnReplies:
    """Each reply is the text of its own request, alone or followed by the name of the worker; and no request gets two.

    That is what demonstration workers answer to ``cbw client`` and ``cbw verify``, whose texts name the request. Other clients
    record no texts, and other workers answer what they like: such replies are counted, not judged.

    In the trace of a ``cbw verify`` every request must be answered, except those whose worker came to harm, which another
    check follows; and the worker that is named in an answer must have begun the request. In any other trace a client may have
    been stopped, or an error may have been the right end, so requests without an answer are only counted.

    A log may lack records of a client, because its oldest files are deleted and a full spool leaves a gap. An answer to a
    request that may be among those is counted, not judged.
    """

    name = "own-replies"

    def __init__(self) -> None:
        self._sent: dict[str, tuple[str, str]] = {}  # request: its text, its service
        self._clients: dict[str, None] = {}
        self._replies = 0
        self._failed = 0
        self._wrong = 0
        self._evidence: list[str] = []
        self._failures: dict[str, str] = {}
        self._victims: dict[str, None] = {}
        self._numbers: dict[str, Numbers] = {}  # boot of a client: its records in the log
        self._untold = 0
        self._unread = 0
        self._names: dict[str, None] = {}  # names of workers that have a space in them
        self._verified: dict[str, None] = {}  # services of the verifications in this trace
        self._begun: set[tuple[str, str]] = set()  # in verifications: request, worker
        self._answered: list[tuple[str, str]] = []

    def see(self, record: Record) -> None:
        if " " in record.worker:
            self._names[record.worker] = None
        if record.role == "verify":
            if record.event == catalogue.STARTED:
                self._verified[record.service] = None
            elif record.event in HARMS:
                self._victims[record.request] = None
        elif record.role == "worker":
            if record.event == catalogue.BEGUN and record.request and self._verified:
                self._begun.add((record.request, record.worker))
        elif record.role == "client":
            if record.boot:
                self._numbers.setdefault(record.boot, Numbers(record.sender)).add(record.seq)
            if record.event == catalogue.SENT:
                self._sent[record.request] = (record.text, record.service)
                self._clients[record.client] = None
            elif record.event == catalogue.GOT:
                self._got(record)
            elif record.event == catalogue.FAILED:
                self._fail(record)
            elif record.event == catalogue.UNASKED:
                self._blame(f"{record.client} got {record.count} answers to requests that had ended")

    def _got(self, record: Record) -> None:
        sent = self._sent.pop(record.request, None)
        if sent is None and record.boot and not self._numbers[record.boot].is_whole:
            self._untold += 1
            return
        if sent is None:
            self._replies += 1
            self._blame(f"{record.client} got {record.text!r} for {record.request}, which it had not asked or had got")
            return
        text, service = sent
        if service not in self._verified and not (_NAMED.match(text) and _NAMED.match(record.text)):
            self._unread += 1
            return
        self._replies += 1
        beginning, _, name = record.text.partition(text + " ")
        if record.text != text and (beginning or not name or (" " in name and name not in self._names)):
            self._blame(f"{record.client} asked {text!r} and got {record.text!r}")
        elif service in self._verified:
            self._answered.append((record.request, name))

    def _blame(self, line: str) -> None:
        self._wrong += 1
        if len(self._evidence) < EVIDENCE_MAX:
            self._evidence.append(line)

    def _fail(self, record: Record) -> None:
        _, service = self._sent.pop(record.request, ("", ""))
        self._failed += 1
        if service in self._verified and len(self._failures) < EVIDENCE_MAX + len(self._victims):
            self._failures[record.request] = f"{record.request} was not answered: {record.text}"

    def verdict(self) -> Verdict:
        invented = [
            f"{request} was answered in the name of {worker or 'nobody'}, which had not begun it"
            for request, worker in (self._answered if self._begun else ())
            if (request, worker) not in self._begun
        ]
        wrong = self._wrong + len(invented)
        figures: dict[str, Figure] = {
            "judged": self._replies,
            "clients": len(self._clients),
            "wrong": wrong,
            "failed": self._failed,
            "unanswered": len(self._sent),
            "untold": self._untold,
            "unread": self._unread,
        }
        debts = [line for request, line in self._failures.items() if request not in self._victims]
        debts += [
            f"{request} was not answered"
            for request, (_, service) in self._sent.items()
            if service in self._verified and request not in self._victims
        ]
        evidence = self._evidence + invented[:EVIDENCE_MAX] + debts[:EVIDENCE_MAX]
        return Verdict(self.name, not evidence, figures, self._summary(wrong), evidence)

    def _summary(self, wrong: int) -> str:
        if not self._replies and not self._unread and not self._sent and not self._failed:
            return "no client's records in this trace"
        count = len(self._clients)
        whose = f"{wrong} of them not to their own requests" if wrong else "each to its own request"
        summary = f"{self._replies} replies to {count} client{'s' if count != 1 else ''}, {whose}"
        if self._unread and not self._replies:
            summary = f"{self._unread} replies, but none that names its request, so it is not known whose they are"
        elif self._unread:
            summary += f"; {self._unread} that do not name their requests"
        if missing := self._failed + len(self._sent):
            summary += f"; {missing} requests without an answer"
        if self._untold:
            summary += f"; {self._untold} to requests that the log does not tell of"
        return summary
