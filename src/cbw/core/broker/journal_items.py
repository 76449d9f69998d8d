"""What the journal says of a request, of its answer, or of a dead letter: rows of the tables as records, and back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cbw.core.broker.tables import ClientRow, DeadLetter, Entry, ReqWorkerRow, WorkerRow
from cbw.core.headers import memory_of_headers
from cbw.core.journal_records import (
    AnswerStored,
    AnyRecord,
    Asker,
    AttemptFailed,
    DeadLetterKept,
    FailedAttempt,
    RequestAccepted,
    RequestDelayed,
    RequestEnded,
    TaskBegun,
)
from cbw.core.messages import Answer, Parts, Request, Status, StreamRequest
from cbw.core.plain_messages import Envelope

RECORD_BYTES = 100
"""What a record takes beside its bodies, roughly: names, times, and its share of a batch."""


class Finished(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The request ``number`` of ``client`` ended, and what it gets when that is stored. It may be sent again after a crash."""

    number: int
    client: ClientRow
    envelope: Envelope
    answer: Answer
    ended_at: float


Needed = Entry | Finished | DeadLetter
"""What the journal must be able to say of a request, or of a dead letter."""


def _asker_of(client: ClientRow) -> Asker:
    asker = client.asker
    if asker is None:
        has_sessions = client.dialect.has_sessions
        peer = b"" if has_sessions else client.peer
        name = client.name if has_sessions else ""
        asker = Asker(name, client.boot, peer, client.dialect.name, client.proof, client.key.name)
        client.asker = asker
    return asker


def accepted_record(entry: Entry, offset: float) -> RequestAccepted:
    """A request that was accepted. ``offset``, here and below, is the journal's time minus the broker's."""
    request, client, deadline_at = entry.request, entry.client, entry.deadline_at
    body = request.body
    return RequestAccepted(
        entry.number,
        client.asker or _asker_of(client),
        request.id,
        request.service,
        (body,) if type(body) is bytes else frames_of_body(body),
        entry.accepted_at + offset,
        None if deadline_at is None else deadline_at + offset,
        entry.envelope,
        entry.attempt,
        request.priority,
        request.headers,
        None if entry.stream is None and type(request) is Request else _stream_of(entry),
    )


def _stream_of(entry: Entry) -> tuple[int | None, bool, bool] | None:
    """What is written of a request whose answer is wanted in parts."""
    stream, request = entry.stream, entry.request
    if stream is not None:
        return None if stream.wants_one else stream.first, stream.restarts, stream.wants_progress
    if not isinstance(request, StreamRequest):
        return None
    return request.parts, request.restarts, request.wants_progress


def begun_record(worker: WorkerRow, entry: Entry) -> TaskBegun:
    """``worker`` has the request as a task."""
    if isinstance(worker, ReqWorkerRow):
        return TaskBegun(entry.number, entry.task, "", "", worker.peer, worker.dialect.name)
    return TaskBegun(entry.number, entry.task, worker.name, worker.boot, proof=worker.proof)


def delayed_record(entry: Entry, offset: float) -> RequestDelayed:
    """The request waits for its time."""
    delay = entry.delay
    assert delay is not None
    return RequestDelayed(entry.number, delay.until + offset, delay.retries, delay.kind, delay.text)


def failed_record(number: int, attempt: FailedAttempt, offset: float) -> AttemptFailed:
    """An attempt at the request ``number`` has failed."""
    return AttemptFailed(number, shifted(attempt, offset))


def stored_record(finished: Finished, offset: float) -> AnswerStored:
    """The answer of a request that ended, written again."""
    client, answer = finished.client, finished.answer
    return AnswerStored(
        finished.number,
        _asker_of(client),
        answer.id,
        finished.envelope,
        answer.status,
        frames_of_body(answer.body),
        finished.ended_at + offset,
        client.fingerprint,
    )


def letter_record(letter: DeadLetter, offset: float) -> DeadLetterKept:
    """A dead letter that is kept."""
    return DeadLetterKept(
        letter.number,
        letter.id,
        letter.client,
        letter.request,
        letter.service,
        frames_of_body(letter.body),
        letter.accepted_at + offset,
        letter.died_at + offset,
        letter.kind,
        letter.error,
        [shifted(attempt, offset) for attempt in letter.attempts],
        letter.requeued,
        letter.priority,
        letter.ticket,
        letter.headers,
    )


def frames_of_body(body: bytes) -> tuple[bytes, ...]:
    """How the journal writes a body."""
    return body.parts if type(body) is Parts else (body,)


def joined(parts: tuple[bytes, ...]) -> bytes:
    """The body whose parts these are."""
    return parts[0] if len(parts) == 1 else Parts(parts)


def finished_of(stored: AnswerStored, client: ClientRow, offset: float) -> Finished:
    """The request of ``client`` whose answer was stored."""
    answer = Answer(stored.id, Status(stored.status), joined(stored.body))
    return Finished(stored.number, client, stored.envelope, answer, stored.ended_at - offset)


def letter_of(kept: DeadLetterKept, offset: float) -> DeadLetter:
    """The dead letter that was kept."""
    return DeadLetter(
        kept.name,
        kept.client,
        kept.request,
        kept.service,
        joined(kept.body),
        kept.accepted_at - offset,
        kept.died_at - offset,
        kept.kind,
        kept.error,
        [shifted(attempt, -offset) for attempt in kept.attempts],
        kept.requeued,
        kept.priority,
        kept.number,
        kept.ticket,
        kept.headers,
    )


def shifted(attempt: FailedAttempt, offset: float) -> FailedAttempt:
    """``attempt`` in the time of another clock, which is ``offset`` ahead of the first."""
    begun_at, ended_at = attempt.begun_at + offset, attempt.ended_at + offset
    return FailedAttempt(attempt.worker, begun_at, ended_at, attempt.reason, attempt.traceback)


def needed_size(item: Needed) -> int:
    """The bytes that records of ``item`` take in the journal."""
    if type(item) is Entry:
        request = item.request
        size = RECORD_BYTES + len(request.body)
        if request.headers is not None:
            size += memory_of_headers(request.headers)
        return size if item.failures is None else size + story_bytes(item.failures)
    if type(item) is Finished:
        return RECORD_BYTES + len(item.answer.body)
    assert type(item) is DeadLetter
    size = RECORD_BYTES + len(item.body) + memory_of_headers(item.headers)
    return size + len(item.error) + story_bytes(item.attempts)


def story_bytes(attempts: Iterable[FailedAttempt]) -> int:
    """The bytes that records of ``attempts`` take in the journal."""
    return sum(RECORD_BYTES + len(attempt.reason) + len(attempt.traceback) for attempt in attempts)


def size_of(record: AnyRecord) -> int:
    """The bytes that ``record`` takes in the journal, about."""
    if type(record) is RequestAccepted:
        return RECORD_BYTES + sum(map(len, record.body)) + memory_of_headers(record.headers)
    if type(record) is AnswerStored or type(record) is RequestEnded:
        return RECORD_BYTES + sum(map(len, record.body))
    if type(record) is DeadLetterKept:
        size = RECORD_BYTES + sum(map(len, record.body)) + memory_of_headers(record.headers)
        return size + len(record.error) + story_bytes(record.attempts)
    if type(record) is AttemptFailed:
        return story_bytes([record.attempt])
    return RECORD_BYTES
