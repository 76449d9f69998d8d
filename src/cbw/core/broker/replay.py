"""Reads what a broker's journal says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cbw.core.journal_records import (
    AnswersDropped,
    AnswerStored,
    AnyRecord,
    AttemptEnded,
    AttemptFailed,
    BrokerStarted,
    DeadLetterKept,
    FailedAttempt,
    RequestAccepted,
    RequestDelayed,
    RequestEnded,
    TaskBegun,
    WorkerForgotten,
    WorkerKnown,
)
from cbw.wire.journal import decode_batch


class Replay:
    """What a journal says, record by record, oldest first. ``position`` is that of its last batch, which may have been dropped
    with all others."""

    def __init__(self, position: int = 0) -> None:
        self.position = position  # of the last batch
        self.at = 0.0  # the journal's time of that
        self.last_number = 0
        self.accepted: dict[int, RequestAccepted] = {}
        self.begun: dict[int, TaskBegun] = {}
        self.failures: dict[int, list[FailedAttempt]] = {}
        self.delayed: dict[int, RequestDelayed] = {}
        """The last delay of each request, also if it is over."""
        self.answers: dict[int, AnswerStored] = {}
        self.dead: dict[int, DeadLetterKept] = {}
        self.workers: dict[bytes, str] = {}
        self.written: dict[int, int] = {}
        """Where the last full record of each request stands that is still needed, in the order of these positions."""
        self.sizes: list[tuple[int, int]] = []
        """Each batch with its bytes."""
        self._on: dict[type, Any] = {
            BrokerStarted: self._started,
            RequestAccepted: self._accepted,
            TaskBegun: self._begun,
            AttemptEnded: self._attempt_ended,
            RequestDelayed: self._delayed,
            RequestEnded: self._ended,
            AnswerStored: self._stored,
            AnswersDropped: self._dropped,
            WorkerKnown: self._worker_known,
            WorkerForgotten: self._worker_forgotten,
            AttemptFailed: self._attempt_failed,
            DeadLetterKept: self._dead_letter_kept,
        }

    def read(self, position: int, data: bytes) -> None:
        """Take in the batch at ``position``, whose bytes are ``data``.

        Raises:
            JournalTooNew, JournalDamaged: as :func:`~cbw.wire.journal.decode_batch`.
        """
        batch = decode_batch(position, data)
        self.position = position
        self.at = batch.at
        self.sizes.append((position, len(data)))
        on = self._on
        accepted, written, asker = self.accepted, self.written, None
        for record in batch.records:
            if type(record) is RequestAccepted and record.number > self.last_number:  # the usual case
                number = self.last_number = record.number
                accepted[number] = record
                written[number] = position
                if record.asker == asker:
                    record.asker = asker
                else:
                    asker = record.asker
            else:
                on[type(record)](record)

    def records(self) -> Iterator[AnyRecord]:
        """Everything that is still needed, as records that say it anew."""
        for peer, dialect in self.workers.items():
            yield WorkerKnown(peer, dialect)
        for number in self.written:
            if number in self.answers:
                yield self.answers[number]
            elif number in self.dead:
                yield self.dead[number]
            else:
                yield self.accepted[number]
                yield from (AttemptFailed(number, attempt) for attempt in self.failures.get(number, ()))
                if number in self.delayed:
                    yield self.delayed[number]
                if number in self.begun:
                    yield self.begun[number]

    def _started(self, record: BrokerStarted) -> None:
        pass  # who it was matters to those who look into a journal

    def _accepted(self, record: RequestAccepted) -> None:
        number = record.number
        if number > self.last_number:
            self.last_number = number
        else:  # it is written again
            self._forget(number)
        self.accepted[number] = record
        self.written[number] = self.position

    def _begun(self, record: TaskBegun) -> None:
        if record.number in self.accepted:
            self.begun[record.number] = record

    def _attempt_ended(self, record: AttemptEnded) -> None:
        accepted = self.accepted.get(record.number)
        if accepted is not None:
            accepted.attempt = record.attempt
            self.begun.pop(record.number, None)

    def _attempt_failed(self, record: AttemptFailed) -> None:
        if record.number in self.accepted:
            self.failures.setdefault(record.number, []).append(record.attempt)

    def _delayed(self, record: RequestDelayed) -> None:
        if record.number in self.accepted:
            self.delayed[record.number] = record
            self.begun.pop(record.number, None)

    def _ended(self, record: RequestEnded) -> None:
        number = record.number
        accepted = self.accepted.pop(number, None)
        self.begun.pop(number, None)
        self.failures.pop(number, None)
        self.delayed.pop(number, None)
        if accepted is None or not record.is_stored:
            self.written.pop(number, None)
            return
        self.answers[number] = AnswerStored(
            number,
            accepted.asker,
            accepted.id,
            accepted.envelope,
            record.status,
            record.body,
            self.at,
            record.fingerprint,
        )

    def _stored(self, record: AnswerStored) -> None:
        self.last_number = max(self.last_number, record.number)
        self._forget(record.number)
        self.answers[record.number] = record
        self.written[record.number] = self.position

    def _dead_letter_kept(self, record: DeadLetterKept) -> None:
        self.last_number = max(self.last_number, record.number)
        self._forget(record.number)
        self.dead[record.number] = record
        self.written[record.number] = self.position

    def _dropped(self, record: AnswersDropped) -> None:
        for number in record.numbers:
            self._forget(number)

    def _forget(self, number: int) -> None:
        self.accepted.pop(number, None)
        self.begun.pop(number, None)
        self.failures.pop(number, None)
        self.delayed.pop(number, None)
        self.answers.pop(number, None)
        self.dead.pop(number, None)
        self.written.pop(number, None)

    def _worker_known(self, record: WorkerKnown) -> None:
        self.workers[record.peer] = record.dialect

    def _worker_forgotten(self, record: WorkerForgotten) -> None:
        self.workers.pop(record.peer, None)
