"""The thread between a broker's loop and its journal: the loop hands batches over and never waits for a disk.

While one append runs, the next batches gather, and then go to the disk together (group commit).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cbw.errors import JournalBroken, JournalError, JournalFenced, JournalFull, JournalUnreachable
from cbw.journal.backend import BATCHES_MAX, Append, Backend

APPEND_BYTES_MAX = 4 << 20
"""Batches of this size together go into one append, and at least one batch: what is appended is answered all at once, so more
would only make those wait that came first."""
TIGHT = 0.75
"""When this part of the journal's room is taken, batches are appended one by one: what each of them lets go makes room for the
next."""
RETRY_S = 0.25
"""Between two attempts to write to a full disk, or to learn how an append ended."""
UNKNOWN_S = 30.0
"""How long an append may stay unknown. Servers of a journal elect a new leader in 4 to 9 s (measured), and brokers wait that
long; one that never learns it must not answer any more."""
LAST_BATCHES_S = 5.0
"""How long :meth:`Writer.close` waits for the disk."""


def append_for_certain(
    backend: Backend, position: int, batches: Sequence[bytes], has_waited: Callable[[], bool], wait: Callable[[], None]
) -> None:
    """Append ``batches`` to ``backend``, and again after each ``wait`` until it is known that they are stored.

    Raises:
        JournalBroken: it is unknown still, and it ``has_waited`` for long enough.
        JournalFenced: another broker has written there.
    """
    while (outcome := backend.append(position, batches)) is Append.UNKNOWN:
        if has_waited():
            raise JournalBroken(f"the journal does not say whether it has stored batch {position}")
        wait()
    if outcome is Append.FENCED:
        raise JournalFenced(f"another broker has written batch {position} of the journal")


class Writer:
    """Appends to ``backend``, which has been opened and read to the end, and closes it at the end.

    ``wake`` is called from the thread whenever :attr:`stored`, :attr:`problem` or :attr:`error` has changed.
    """

    def __init__(self, backend: Backend, wake: Callable[[], None]) -> None:
        self._backend = backend
        self._wake = wake
        self._changed = threading.Condition()  # of all that follows; the properties read single values without it
        self._waiting: deque[bytes] = deque()  # the first of them will be at _stored + 1
        self._stored = backend.next_position - 1
        self._compactions: deque[tuple[int, int]] = deque()  # drop what is before the first, when the second is stored
        self._compact_before = 0
        self._is_compacting = False
        self._problem = ""
        self._error: JournalError | None = None
        self._close_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def stored(self) -> int:
        """The position of the last durable batch: what depends on this batch or an earlier one may be sent now."""
        return self._stored

    @property
    def problem(self) -> str:
        """Why nothing is stored at present, for people; "" while all is well. It is tried again, and passes."""
        return self._problem

    @property
    def error(self) -> JournalError | None:
        """Why nothing will ever be stored again: the broker has to end with this error, and must answer nothing more."""
        return self._error

    @property
    def size_bytes(self) -> int:
        """What the journal takes on disk."""
        return self._backend.size_bytes

    def describe(self) -> dict[str, Any]:
        """What people are shown of the journal."""
        return self._backend.describe()

    @property
    def filled(self) -> float:
        """How much of the room that the journal may take is taken, from 0 to 1, in steps of a hundredth."""
        return round(self._backend.filled, 2)

    def put(self, position: int, batch: bytes) -> None:
        """Store ``batch``, after all before it. ``position`` is the one after that of the batch before.

        Raises:
            JournalError: it is :attr:`error`.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            assert self._close_at is None, "the writer is closed"
            expected = self._stored + len(self._waiting) + 1
            assert position == expected, f"batch {position} was put where {expected} comes next"
            self._waiting.append(batch)
            self._changed.notify()

    def compact(self, before: int) -> None:
        """Let the journal drop batches with a position below ``before``, little by little between appends, once everything that
        was put so far is stored: what is still needed of those batches is in it.
        """
        with self._changed:
            self._compactions.append((before, self._stored + len(self._waiting)))
            self._begin_compactions()
            self._changed.notify()

    def _begin_compactions(self) -> None:
        """Begin to drop what may be dropped now. The caller has the lock."""
        while self._compactions and self._compactions[0][1] <= self._stored:
            self._compact_before = max(self._compact_before, self._compactions.popleft()[0])
            self._is_compacting = True

    def close(self, timeout_s: float = LAST_BATCHES_S) -> bool:
        """Store what was put, within ``timeout_s``, and close the journal. Returns whether everything is stored.

        If the disk does not answer even then, the thread is left to it: the journal stays locked until the process ends.
        """
        with self._changed:
            self._close_at = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + RETRY_S)
        return not self._waiting and self._error is None and not self._thread.is_alive()

    # --- in the thread

    def _run(self) -> None:
        for work in (self._serve, self._backend.close):
            try:
                work()
            except JournalError as error:
                self._end(error)
            except BaseException as error:
                found = JournalBroken(f"the thread that writes the journal failed: {type(error).__name__}: {error}")
                found.__cause__ = error
                self._end(found)

    def _end(self, error: JournalError) -> None:
        with self._changed:
            self._error = self._error or error
        with contextlib.suppress(Exception):  # it may be what failed; whoever looks finds the error
            self._wake()

    def _serve(self) -> None:
        while self._wait():
            self._turn()

    def _wait(self) -> bool:
        """Wait for something to do. Returns whether there is anything; if not, it is time to close the journal."""
        with self._changed:
            while not self._waiting and not self._is_compacting and self._close_at is None:
                self._changed.wait()
            if self._close_at is None:
                return True
            return bool(self._waiting) and time.monotonic() < self._close_at

    def _turn(self) -> None:
        """Append what has gathered, then do one step of a compaction, which may make room when the disk is full."""
        problem = ""
        for work in (self._append, self._compact):
            try:
                work()
            except (JournalFull, JournalUnreachable) as error:  # nothing is lost, and it passes
                problem = problem or f"{error}. {error.advice}"
        self._tell(problem)
        if problem:
            self._pause()

    def _gathered(self) -> list[bytes]:
        batches: list[bytes] = []
        size, size_max = 0, APPEND_BYTES_MAX if self.filled < TIGHT else 0
        with self._changed:
            for batch in self._waiting:
                size += len(batch)
                if batches and (size > size_max or len(batches) == BATCHES_MAX):
                    break
                batches.append(batch)
        return batches

    def _append(self) -> None:
        if not (batches := self._gathered()):
            return
        position = self._stored + 1
        until = time.monotonic() + UNKNOWN_S

        def has_waited() -> bool:
            return time.monotonic() >= min(until, self._close_at or until)

        append_for_certain(self._backend, position, batches, has_waited, self._ask_again)
        with self._changed:
            for _ in batches:
                self._waiting.popleft()
            self._stored += len(batches)
            self._begin_compactions()
        self._wake()

    def _ask_again(self) -> None:
        self._tell("the journal does not say whether it has stored what was written last; asking again")
        self._pause()

    def _compact(self) -> None:
        if not self._is_compacting:
            return
        before = self._compact_before
        is_more = self._backend.compact(before)
        with self._changed:
            self._is_compacting = is_more or before < self._compact_before

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            with self._changed:
                self._problem = problem
            self._wake()

    def _pause(self) -> None:
        """Wait for :data:`RETRY_S`, whatever the loop does meanwhile; at the end only as long as there is time."""
        until = time.monotonic() + RETRY_S
        with self._changed:
            while (left := min(until, self._close_at or until) - time.monotonic()) > 0:
                self._changed.wait(left)
