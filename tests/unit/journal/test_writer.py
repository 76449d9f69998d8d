"""The thread between the broker's loop and the journal, over a journal in memory that fails when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from cbw.errors import JournalBroken, JournalError, JournalFenced, JournalFull
from cbw.journal import writer as module
from cbw.journal.backend import BATCHES_MAX, Append
from cbw.journal.writer import Writer
from tests.unit.journal.memory import MemoryJournal

WAIT_S = 30.0
FULL = JournalFull("no room")


class Gated(MemoryJournal):
    """A journal whose appends wait until the test lets them go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def append(self, position: int, batches: Sequence[bytes]) -> Append:
        self.begun.release()
        assert self.gate.wait(WAIT_S)
        return super().append(position, batches)


class Loop:
    """What a broker's loop does with a writer: it hands over, and looks when it is woken."""

    def __init__(self, journal: MemoryJournal) -> None:
        list(journal.open())
        self.journal = journal
        self.woken = threading.Semaphore(0)
        self.writer = Writer(journal, self.woken.release)
        self.last = self.writer.stored

    def put(self, *batches: bytes) -> None:
        for batch in batches:
            self.last += 1
            self.writer.put(self.last, batch)

    def until(self, is_done: Callable[[Writer], object]) -> None:
        """Wait until it is, looking only when woken."""
        while not is_done(self.writer):
            assert self.woken.acquire(timeout=WAIT_S), "the loop was not woken"

    def until_all_is_stored(self) -> None:
        self.until(lambda writer: writer.stored == self.last)


@pytest.fixture
def journal() -> Gated:
    """Not open yet."""
    return Gated()


@pytest.fixture
def loop(journal: Gated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """With a writer for ``journal``."""
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    loop = Loop(journal)
    yield loop
    journal.gate.set()
    loop.writer.close()


def test_what_is_stored_is_told_in_order(loop: Loop, journal: Gated) -> None:
    for number in range(100):
        loop.put(b"%d" % number)
    loop.until_all_is_stored()
    assert journal.store.batches == {number + 1: b"%d" % number for number in range(100)}
    assert loop.writer.size_bytes == journal.size_bytes


def test_what_gathers_during_an_append_is_appended_together(loop: Loop, journal: Gated) -> None:
    journal.gate.clear()
    loop.put(b"first")
    assert journal.begun.acquire(timeout=WAIT_S)
    loop.put(*[b"more"] * 50)
    assert loop.writer.stored == 0
    journal.gate.set()
    loop.until_all_is_stored()
    assert journal.appends == [(1, 1), (2, 50)]


def test_an_append_is_bounded(loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "APPEND_BYTES_MAX", 1000)
    journal.gate.clear()
    loop.put(b"first")
    assert journal.begun.acquire(timeout=WAIT_S)
    loop.put(*[bytes(400)] * 3, bytes(5000), b"last")
    journal.gate.set()
    loop.until_all_is_stored()
    assert journal.appends == [(1, 1), (2, 2), (4, 1), (5, 1), (6, 1)]


def test_an_append_has_no_more_batches_than_a_back_end_takes(loop: Loop, journal: Gated) -> None:
    journal.gate.clear()
    loop.put(b"first")
    assert journal.begun.acquire(timeout=WAIT_S)
    loop.put(*[b"more"] * (BATCHES_MAX + 1))
    journal.gate.set()
    loop.until_all_is_stored()
    assert journal.appends == [(1, 1), (2, BATCHES_MAX), (BATCHES_MAX + 2, 1)]


def test_it_goes_on_where_the_journal_ended(journal: Gated) -> None:
    journal.store.next = 8
    loop = Loop(journal)
    assert loop.writer.stored == 7
    loop.put(b"eighth")
    loop.until_all_is_stored()
    assert loop.writer.close()
    assert journal.store.batches == {8: b"eighth"}


def test_a_gap_is_refused(loop: Loop) -> None:
    with pytest.raises(AssertionError, match="batch 3 was put where 1 comes next"):
        loop.writer.put(3, b"x")


def test_a_full_disk_is_told_and_tried_again(loop: Loop, journal: Gated) -> None:
    journal.failure = FULL
    loop.put(b"a")
    loop.until(lambda writer: writer.problem)
    assert "no room. Make room" in loop.writer.problem
    loop.put(b"b", b"c")
    journal.failure = None
    loop.until(lambda writer: not writer.problem)
    loop.until_all_is_stored()
    assert journal.store.batches == {1: b"a", 2: b"b", 3: b"c"}


def test_a_full_disk_is_not_tried_all_the_time(loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", WAIT_S)
    journal.failure = FULL
    loop.put(b"a")
    loop.until(lambda writer: writer.problem)
    loop.put(*[b"b"] * 1000)
    loop.writer.compact(1)
    assert loop.writer.close(timeout_s=0.05) is False
    assert len(journal.appends) == 1


def test_a_compaction_may_make_room(loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.put(b"a", b"b")
    loop.until_all_is_stored()
    journal.failure = FULL
    drop = journal.compact

    def make_room(before: int) -> bool:
        journal.failure = None
        return drop(before)

    monkeypatch.setattr(journal, "compact", make_room)
    loop.writer.compact(3)
    loop.put(b"c")
    loop.until_all_is_stored()
    assert journal.store.batches == {3: b"c"}


def test_a_compaction_waits_until_what_was_put_before_it_is_stored(loop: Loop, journal: Gated) -> None:
    """What is still needed of the old batches may be written again there, and nowhere else."""
    loop.put(b"a", b"b")
    loop.until_all_is_stored()
    journal.failure = FULL
    loop.put(b"a and b")
    loop.until(lambda writer: writer.problem)
    loop.writer.compact(3)
    for _ in range(10):  # tries to append
        assert journal.begun.acquire(timeout=WAIT_S)
    assert journal.store.batches == {1: b"a", 2: b"b"}
    journal.failure = None
    loop.until_all_is_stored()
    loop.put(b"c")
    loop.until_all_is_stored()
    loop.writer.close()
    assert journal.store.batches == {3: b"a and b", 4: b"c"}


def test_the_steps_of_a_compaction_come_between_appends(
    loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    done = threading.Event()

    def step(before: int) -> bool:
        steps.append(before)
        if len(steps) < 5:
            loop.woken.release()
            return True
        done.set()
        return False

    monkeypatch.setattr(journal, "compact", step)
    loop.writer.compact(7)
    loop.put(b"a")
    loop.until_all_is_stored()
    assert done.wait(WAIT_S)
    assert steps == [7] * 5


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (JournalBroken("the disk failed"), JournalBroken),
        (Append.FENCED, JournalFenced),
        (ZeroDivisionError("a bug"), JournalBroken),
        (MemoryError(), JournalBroken),
    ],
)
def test_what_cannot_pass_becomes_the_error(
    loop: Loop, journal: Gated, failure: Append | Exception, kind: type[JournalError]
) -> None:
    loop.put(b"a")
    loop.until_all_is_stored()
    journal.outcomes.append(failure)
    loop.put(b"b")
    loop.until(lambda writer: writer.error)
    assert type(loop.writer.error) is kind
    assert loop.writer.stored == 1
    with pytest.raises(kind):
        loop.put(b"c")
    assert loop.writer.close() is False
    assert journal.is_closed


def test_a_failure_in_a_compaction_is_no_less_an_error(
    loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MemoryJournal, "compact")
    loop.writer.compact(5)
    loop.until(lambda writer: writer.error)
    assert "AttributeError" in str(loop.writer.error)


@pytest.mark.parametrize("is_stored", [False, True])
def test_an_unknown_outcome_is_asked_for_again(loop: Loop, journal: Gated, is_stored: bool) -> None:
    journal.is_stored_unknown = is_stored
    journal.outcomes += [Append.UNKNOWN, Append.DURABLE]
    loop.put(b"a")
    loop.until(lambda writer: writer.stored == 1 and not writer.problem)
    assert journal.appends == [(1, 1), (1, 1)]
    assert journal.store.batches == {1: b"a"}


def test_an_outcome_that_stays_unknown_ends_the_broker(
    loop: Loop, journal: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNKNOWN_S", 0.01)
    journal.outcomes += [Append.UNKNOWN] * 10_000
    loop.put(b"a")
    loop.until(lambda writer: writer.error)
    assert "does not say whether it has stored batch 1" in str(loop.writer.error)


def test_closing_stores_what_was_put(loop: Loop, journal: Gated) -> None:
    journal.gate.clear()
    loop.put(*[b"a"] * 10)
    assert journal.begun.acquire(timeout=WAIT_S)
    threading.Timer(0.01, journal.gate.set).start()
    assert loop.writer.close() is True
    assert loop.writer.stored == 10
    assert journal.is_closed


def test_closing_waits_no_longer_than_told(loop: Loop, journal: Gated) -> None:
    journal.gate.clear()
    loop.put(b"a")
    assert journal.begun.acquire(timeout=WAIT_S)
    assert loop.writer.close(timeout_s=0.01) is False
    assert not journal.is_closed


def test_a_loop_that_cannot_be_woken_is_an_error(journal: Gated) -> None:
    def fail() -> None:
        raise OSError("no descriptor")

    list(journal.open())
    writer = Writer(journal, fail)
    writer.put(1, b"a")
    assert writer.close() is False
    assert "no descriptor" in str(writer.error)
    assert journal.is_closed
