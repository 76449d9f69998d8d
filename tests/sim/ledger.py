"""What a journal says, by an account of its own: nothing in it is shared with the broker's own replay.

It is kept from the first batch to the last, so it does not know what a compaction drops.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cbw.core.journal_records import (
    AnswersDropped,
    AnswerStored,
    AnyRecord,
    Asker,
    AttemptEnded,
    DeadLetterKept,
    RequestAccepted,
    RequestDelayed,
    RequestEnded,
    TaskBegun,
    WorkerForgotten,
    WorkerKnown,
)
from cbw.core.plain_messages import Envelope
from cbw.core.port import is_anonymous, printable

from .world import ViolationError


@dataclass
class Note:
    """A request of which the journal knows."""

    number: int
    id: int
    asker: Asker
    envelope: Envelope
    service: str
    priority: int
    body: bytes
    at: float
    """When it was accepted: simulated time, as all times here."""
    attempts: list[tuple[int, str]] = field(default_factory=list)
    """Each task, and what became of it: ``""`` it runs, ``returned``, ``failed``, ``retried``."""
    retries: int = 0
    ended_at: float | None = None
    answer: tuple[int, bytes] | None = None

    @property
    def client(self) -> str:
        """The name of who asked, as the broker's trace has it."""
        return self.asker.name or printable(self.asker.peer)

    @property
    def is_of_nobody(self) -> bool:
        """Whether who asked cannot be reached by another broker."""
        return not self.asker.name and is_anonymous(self.asker.peer)

    @property
    def is_of_lab(self) -> bool:
        """Whether it came from a program of the lab."""
        return not self.asker.name

    @property
    def failed(self) -> int:
        """Attempts that count."""
        return sum(outcome == "failed" for _, outcome in self.attempts)

    @property
    def task(self) -> int | None:
        """What a worker is at."""
        return self.attempts[-1][0] if self.attempts and not self.attempts[-1][1] else None


class Ledger:
    """The requests that have not ended, the answers and dead letters that are stored, the REQ workers that are known."""

    def __init__(self) -> None:
        self.requests: dict[int, Note] = {}
        self.answers: dict[int, Note] = {}
        self.letters: dict[int, DeadLetterKept] = {}
        """Dead letters, by numbers of their own."""
        self.workers: dict[bytes, None] = {}
        self.ids: dict[int, int] = {}
        """The client's number of each request, by the journal's, ended or not."""
        self.accepted_ids: dict[int, None] = {}
        self.answered_ids: dict[int, int] = {}
        """Those of :attr:`answers`, and the journal's numbers."""
        self.at = 0.0
        """When the last batch was written."""

    def copy(self) -> Ledger:
        """Another with the same contents."""
        other = Ledger()
        other.requests = {n: replace(note, attempts=[*note.attempts]) for n, note in self.requests.items()}
        other.answers = dict(self.answers)
        other.letters = dict(self.letters)
        other.workers = dict(self.workers)
        other.ids = dict(self.ids)
        other.accepted_ids = dict(self.accepted_ids)
        other.answered_ids = dict(self.answered_ids)
        other.at = self.at
        return other

    def apply(self, at: float, records: list[AnyRecord]) -> None:
        """Take in a batch that was written at ``at``."""
        self.at = at
        for record in records:
            if isinstance(record, RequestAccepted):
                self._accepted(record, at)
            elif isinstance(record, TaskBegun):
                note = self.requests.get(record.number)
                if note is not None and note.task != record.task:  # otherwise it is written again
                    note.attempts.append((record.task, ""))
            elif isinstance(record, AttemptEnded):
                self._attempt_ended(record)
            elif isinstance(record, RequestDelayed):
                self._delayed(record)
            elif isinstance(record, RequestEnded):
                self._ended(record, at)
            elif isinstance(record, AnswerStored):
                self._answer_stored(record, at)
            elif isinstance(record, AnswersDropped):
                for number in record.numbers:
                    self.letters.pop(number, None)
                    if self.answers.pop(number, None) is not None:
                        self.answered_ids.pop(self.ids[number], None)
                    elif (note := self.requests.pop(number, None)) is not None:
                        _need(note.is_of_nobody, f"request {note.id} is dropped, and its client may come back")
            elif isinstance(record, DeadLetterKept):
                self._letter_kept(record)
            elif isinstance(record, WorkerKnown):
                self.workers[record.peer] = None
            elif isinstance(record, WorkerForgotten):
                self.workers.pop(record.peer, None)

    def _accepted(self, record: RequestAccepted, at: float) -> None:
        known = self.requests.get(record.number)
        if known is None:
            self.requests[record.number] = Note(
                record.number,
                record.id,
                record.asker,
                record.envelope,
                record.service,
                record.priority,
                b"".join(record.body),
                at,
            )
            self.ids[record.number] = record.id
            self.accepted_ids[record.id] = None
            return
        is_same = (known.id, known.asker, known.body) == (record.id, record.asker, b"".join(record.body))
        _need(is_same, f"request {record.id} is written again, and is another")
        _need(record.attempt == 1 + known.failed, f"request {record.id} is written again with attempt {record.attempt}")

    def _answer_stored(self, record: AnswerStored, at: float) -> None:
        known, answer = self.answers.get(record.number), (record.status, b"".join(record.body))
        if known is not None:
            _need(known.answer == answer, f"the answer to {record.id} is written again, and is another")
            return
        # A reply that was to leave, and did not.
        _need(record.id not in self.answered_ids, f"the answer to {record.id} is stored twice")
        note = Note(record.number, record.id, record.asker, record.envelope, "", 0, b"", at, ended_at=at, answer=answer)
        self.answers[record.number] = note
        self.ids[record.number] = record.id
        self.answered_ids[record.id] = record.number

    def _letter_kept(self, record: DeadLetterKept) -> None:
        known = self.letters.setdefault(record.number, record)
        is_same = (known.name, known.client, known.request, known.body) == (
            record.name,
            record.client,
            record.request,
            record.body,
        )
        _need(is_same, f"dead letter {record.name} is written again, and is another")

    def _attempt_ended(self, record: AttemptEnded) -> None:
        note = self.requests.get(record.number)
        if note is None or note.task is None:
            raise ViolationError(f"G8: the journal says that an attempt at {record.number} ended, and none runs")
        outcome = "failed" if record.attempt > 1 + note.failed else "returned"
        note.attempts[-1] = (note.attempts[-1][0], outcome)

    def _delayed(self, record: RequestDelayed) -> None:
        note = self.requests.get(record.number)
        if note is not None and record.retries > note.retries:  # otherwise it is new, or written again
            _need(record.retries == note.retries + 1, f"{record.number} has {record.retries} retries at once")
            note.retries = record.retries
            if note.task is not None:
                note.attempts[-1] = (note.attempts[-1][0], "retried")

    def _ended(self, record: RequestEnded, at: float) -> None:
        note = self.requests.pop(record.number, None)
        if note is None:
            raise ViolationError(f"G4: the journal says twice that {record.number} ended, or that it never began")
        if record.is_stored:
            self.answers[record.number] = replace(note, ended_at=at, answer=(record.status, b"".join(record.body)))
            self.answered_ids[note.id] = record.number


def _need(is_kept: bool, text: str) -> None:
    if not is_kept:
        raise ViolationError(f"G8: {text}")
