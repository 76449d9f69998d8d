"""What records take in the journal: whatever can be long is counted."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.core.broker.journal_items import needed_size, size_of
from cbw.core.broker.tables import DeadLetter
from cbw.core.journal_records import (
    AnswerStored,
    AnyRecord,
    Asker,
    AttemptFailed,
    DeadLetterKept,
    FailedAttempt,
    RequestAccepted,
    RequestEnded,
)

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
