"""What records take in the journal, where whatever can be long is counted, and what is read out of them."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core.broker.journal_items import letter_of, letter_record, needed_size, size_of
from cbw.core.broker.replay import Replay
from cbw.core.broker.tables import DeadLetter
from cbw.core.journal_records import (
    AnswerStored,
    AnyRecord,
    Asker,
    AttemptFailed,
    Batch,
    DeadLetterKept,
    FailedAttempt,
    RequestAccepted,
    RequestEnded,
    WorkerForgotten,
    WorkerKnown,
)
from cbw.wire.journal import encode_batch

MORE = "x" * 1000
ASKER = Asker("C1", "b", b"", "")


def attempt(reason: str = "", traceback: str = "") -> FailedAttempt:
    return FailedAttempt("W1", 0.0, 1.0, reason, traceback)


def kept(body: bytes = b"", error: str = "", *attempts: FailedAttempt) -> DeadLetterKept:
    return DeadLetterKept(1, "C1/1", "C1", 1, "s", (body,), 0.0, 1.0, "gave_up", error, list(attempts), 0, 5)


def letter(body: bytes = b"", error: str = "", *attempts: FailedAttempt) -> DeadLetter:
    return DeadLetter("C1/1", "C1", 1, "s", body, 0.0, 1.0, "gave_up", error, list(attempts), 0, 5, 1, "")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (RequestAccepted(1, ASKER, 1, "s", (), 0.0), RequestAccepted(1, ASKER, 1, "s", (MORE.encode(),), 0.0)),
        (RequestEnded(1, 0, ()), RequestEnded(1, 0, (MORE.encode(),))),
        (AnswerStored(1, ASKER, 1, (), 0, ()), AnswerStored(1, ASKER, 1, (), 0, (MORE.encode(),))),
        (AttemptFailed(1, attempt()), AttemptFailed(1, attempt(reason=MORE))),
        (AttemptFailed(1, attempt()), AttemptFailed(1, attempt(traceback=MORE))),
        (kept(), kept(MORE.encode())),
        (kept(), kept(b"", MORE)),
        (kept(b"", "", attempt()), kept(b"", "", attempt(MORE))),
    ],
)
def test_a_record(less: AnyRecord, more: AnyRecord) -> None:
    assert size_of(more) == size_of(less) + len(MORE)


@pytest.mark.parametrize("more", [(MORE.encode(),), (b"", MORE), (b"", "", attempt(MORE, ""))])
def test_a_dead_letter_takes_what_its_record_takes(more: tuple[Any, ...]) -> None:
    assert needed_size(letter(*more)) == size_of(kept(*more)) > len(MORE)


def test_every_attempt_takes_room() -> None:
    assert size_of(kept(b"", "", attempt(), attempt())) > size_of(kept(b"", "", attempt())) > size_of(kept())


def test_a_dead_letter_is_the_same_in_the_next_brokers_time() -> None:
    before = letter(b"x", "why", attempt("crashed"))
    assert letter_of(letter_record(before, 50.0), 50.0).attempts == before.attempts
    after = letter_of(letter_record(before, 50.0), 20.0)
    assert [(each.begun_at, each.ended_at) for each in after.attempts] == [(30.0, 31.0)]
    assert (after.accepted_at, after.died_at) == (30.0, 31.0)


def test_workers_that_are_known_are_among_what_is_still_needed() -> None:
    replay = Replay()
    known = WorkerKnown(b"P1", "lab")
    replay.read(1, encode_batch(Batch(0.0, [known, WorkerKnown(b"P2", "lab"), WorkerForgotten(b"P2")])))
    assert list(replay.records()) == [known]
