"""What is remembered of the failed attempts at requests that are not given up yet, within bounds."""

from __future__ import annotations

from collections.abc import Iterable

from cbw.core.broker.tables import Entry
from cbw.core.journal_records import FailedAttempt
from cbw.core.messages import TRACEBACK_CHARS_MAX, error_parts

ATTEMPTS_KEPT = 10
"""Most attempts that a story tells: the first one, and the last of the others. A handler may be called again 1000 times."""
ATTEMPT_BYTES = 250
"""What an attempt takes, beside its texts (measured: 170 bytes, and the text objects themselves)."""
REASON_CHARS_MAX = 300
"""Longest reason of a failed attempt that is kept, in characters: it may come from a worker."""


class Stories:
    """All stories (``Entry.failures``), which take at most ``bytes_max`` together, and one attempt each beyond that: then a
    story keeps the last attempt only, without its traceback.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max

    def add(self, entry: Entry, attempt: FailedAttempt) -> None:
        """Go on with the story of ``entry``."""
        self.tell(entry, [*(entry.failures or ()), attempt])

    def tell(self, entry: Entry, attempts: list[FailedAttempt]) -> None:
        """``attempts`` are all of the story of ``entry``, as a journal has it."""
        self.forget(entry)
        if len(attempts) > ATTEMPTS_KEPT:
            attempts = [attempts[0], *attempts[1 - ATTEMPTS_KEPT :]]
        if self.bytes + bytes_of(attempts) > self._bytes_max:
            last = attempts[-1]
            attempts = [FailedAttempt(last.worker, last.begun_at, last.ended_at, last.reason)]
        entry.failures = attempts
        self.bytes += bytes_of(attempts)

    def forget(self, entry: Entry) -> None:
        """``entry`` has ended, or its story is told anew."""
        if entry.failures is not None:
            self.bytes -= bytes_of(entry.failures)
            entry.failures = None


def attempt_of(entry: Entry, worker: str, now: float, error: bytes) -> FailedAttempt:
    """The last attempt at ``entry``, whose handler has raised the ``error``."""
    parts = error_parts(error)
    reason, traceback = parts.line[:REASON_CHARS_MAX], parts.traceback[-TRACEBACK_CHARS_MAX:]
    return FailedAttempt(worker, entry.handed_out_at, now, reason, traceback)


def crash_of(entry: Entry, worker: str, now: float, why: str) -> FailedAttempt:
    """The last attempt at ``entry``, which ``worker`` has not answered."""
    return FailedAttempt(worker, entry.handed_out_at, now, why[:REASON_CHARS_MAX])


def bytes_of(attempts: Iterable[FailedAttempt]) -> int:
    """The memory that ``attempts`` take; texts may have four bytes a character."""
    return sum(ATTEMPT_BYTES + 4 * (len(each.reason) + len(each.traceback)) for each in attempts)
