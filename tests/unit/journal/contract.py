"""What every back end of the journal has to do. A subclass says in :meth:`Contract.backend` which one is tested."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cbw.errors import JournalInUse
from cbw.journal.backend import BATCHES_MAX, Append, Backend

MB = 1 << 20


def read(backend: Backend) -> list[tuple[int, bytes]]:
    """Open it and read it to the end."""
    return list(backend.open())


def batch(position: int, size: int = 200) -> bytes:
    """A batch that no other position has."""
    return b"%d:" % position + bytes([position % 251]) * size


def compact(backend: Backend, before: int) -> int:
    """Compact it until there is nothing left to do; in how many steps."""
    steps = 1
    while backend.compact(before):
        steps += 1
    return steps


class Contract:
    """The tests. ``folder`` is another one for each test, where a journal outlives the back ends that open it."""

    def backend(self, folder: Path) -> Backend:
        """A back end, not yet open, of the one journal at ``folder``."""
        raise NotImplementedError

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[Backend]:
        """A journal that is read to the end, and closed afterwards."""
        backend = self.backend(folder)
        read(backend)
        try:
            yield backend
        finally:
            backend.close()

    @contextlib.contextmanager
    def filled(self, folder: Path, count: int) -> Iterator[Backend]:
        """A journal to which that many batches were appended, closed afterwards."""
        with self.opened(folder) as backend:
            assert backend.append(1, [batch(position) for position in range(1, count + 1)]) is Append.DURABLE
            yield backend

    def contents(self, folder: Path) -> list[tuple[int, bytes]]:
        """What a new back end reads."""
        backend = self.backend(folder)
        try:
            return read(backend)
        finally:
            backend.close()

    def test_a_new_journal_is_empty_and_begins_at_1(self, tmp_path: Path) -> None:
        backend = self.backend(tmp_path)
        assert read(backend) == []
        assert backend.next_position == 1
        backend.close()
        with self.opened(tmp_path) as backend:
            assert backend.next_position == 1

    def test_batches_come_back_in_order_with_their_positions(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as backend:
            for position in range(1, 30, 3):
                three = [batch(position + step, size=position) for step in range(3)]
                assert backend.append(position, three) is Append.DURABLE
                assert backend.next_position == position + 3
        assert self.contents(tmp_path) == [(p, batch(p, size=p - (p - 1) % 3)) for p in range(1, 31)]

    def test_as_many_at_once_as_are_allowed(self, tmp_path: Path) -> None:
        batches = [b"%d" % number for number in range(BATCHES_MAX)]
        with self.opened(tmp_path) as backend:
            assert backend.append(1, batches) is Append.DURABLE
        assert [data for _, data in self.contents(tmp_path)] == batches

    def test_they_are_read_as_the_iterator_is(self, tmp_path: Path) -> None:
        with self.filled(tmp_path, 10):
            pass
        backend = self.backend(tmp_path)
        batches = backend.open()
        assert backend.next_position == 11
        assert next(iter(batches)) == (1, batch(1))
        assert dict(batches) == {position: batch(position) for position in range(2, 11)}
        backend.close()

    def test_it_goes_on_after_reopening(self, tmp_path: Path) -> None:
        for position in range(1, 6):
            with self.opened(tmp_path) as backend:
                assert backend.next_position == position
                assert backend.append(position, [batch(position)]) is Append.DURABLE
        assert self.contents(tmp_path) == [(position, batch(position)) for position in range(1, 6)]

    def test_reading_may_be_given_up(self, tmp_path: Path) -> None:
        with self.filled(tmp_path, 10):
            pass
        backend = self.backend(tmp_path)
        next(iter(backend.open()))
        backend.close()
        assert len(self.contents(tmp_path)) == 10

    @pytest.mark.parametrize("position", [0, 1, 3, 5, 100])
    def test_an_append_at_another_position_than_the_next_is_fenced(self, tmp_path: Path, position: int) -> None:
        with self.filled(tmp_path, 3) as backend:
            assert backend.append(position, [b"x", b"y"]) is Append.FENCED
            assert backend.next_position == 4
        assert len(self.contents(tmp_path)) == 3

    def test_empty_and_odd_batches(self, tmp_path: Path) -> None:
        odd = [b"", b"\0", b"\xff" * 3, "ü".encode(), bytes(4096), bytes(range(256)) * 17]
        with self.opened(tmp_path) as backend:
            assert backend.append(1, odd) is Append.DURABLE
        assert [found for _, found in self.contents(tmp_path)] == odd

    def test_batches_of_16_mb(self, tmp_path: Path) -> None:
        big = [bytes([number]) * (16 * MB + number) for number in range(3)]
        with self.opened(tmp_path) as backend:
            assert backend.append(1, big[:1]) is Append.DURABLE
            assert backend.append(2, big[1:]) is Append.DURABLE
        assert [found for _, found in self.contents(tmp_path)] == big

    def test_compaction_drops_a_prefix(self, tmp_path: Path) -> None:
        with self.filled(tmp_path, 20) as backend:
            compact(backend, 11)
            assert backend.next_position == 21
            compact(backend, 5)  # nothing to do
            assert backend.append(21, [batch(21)]) is Append.DURABLE
        assert self.contents(tmp_path) == [(position, batch(position)) for position in range(11, 22)]

    @pytest.mark.parametrize("before", [21, 1000])
    def test_compaction_of_everything_keeps_the_next_position(self, tmp_path: Path, before: int) -> None:
        with self.filled(tmp_path, 20) as backend:
            compact(backend, before)
            assert backend.next_position == 21
        backend = self.backend(tmp_path)
        assert read(backend) == []
        assert backend.next_position == 21
        assert backend.append(21, [batch(21)]) is Append.DURABLE
        backend.close()
        assert self.contents(tmp_path) == [(21, batch(21))]

    def test_appends_between_the_steps_of_a_compaction(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as backend:
            for position in range(1, 21):
                assert backend.append(position, [batch(position, size=MB)]) is Append.DURABLE
            position = 21
            while backend.compact(20):
                assert backend.append(position, [batch(position)]) is Append.DURABLE
                position += 1
        found = self.contents(tmp_path)
        assert found == [(20, batch(20, size=MB)), *((p, batch(p)) for p in range(21, position))]

    def test_an_interrupted_compaction_leaves_a_suffix(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as backend:
            for position in range(1, 21):
                assert backend.append(position, [batch(position, size=MB)]) is Append.DURABLE
            backend.compact(20)
        positions = [position for position, _ in self.contents(tmp_path)]
        assert positions == list(range(21 - len(positions), 21))

    def test_compaction_gives_space_back(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as backend:
            for position in range(1, 61):
                assert backend.append(position, [batch(position, size=MB)]) is Append.DURABLE
            assert backend.size_bytes > 60 * MB
            compact(backend, 60)
            assert backend.size_bytes < 30 * MB
        assert self.contents(tmp_path) == [(60, batch(60, size=MB))]

    def test_a_journal_that_is_compacted_does_not_grow(self, tmp_path: Path) -> None:
        sizes = []
        with self.opened(tmp_path) as backend:
            for position in range(1, 101):
                assert backend.append(position, [batch(position, size=MB)]) is Append.DURABLE
                compact(backend, position - 3)
                sizes.append(backend.size_bytes)
        assert max(sizes) < 40 * MB

    def test_of_two_owners_one_writes(self, tmp_path: Path) -> None:
        """A back end may refuse the second one, or let it take the journal over; then the first is fenced."""
        with self.filled(tmp_path, 3) as first:
            second = self.backend(tmp_path)
            try:
                with second_opened(second):
                    assert second.append(4, [b"second"]) is Append.DURABLE
                    assert first.append(4, [b"first"]) is Append.FENCED
                    expected = b"second"
            except JournalInUse:
                assert first.append(4, [b"first"]) is Append.DURABLE
                expected = b"first"
            assert (first.next_position == 5) == (expected == b"first")
        assert self.contents(tmp_path)[3:] == [(4, expected)]

    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as backend:
            told = backend.describe()
        assert told["kind"] and told["place"]
        assert msgspec.json.decode(msgspec.json.encode(told)) == told, "it is shown as JSON"

    def test_closing_twice_and_without_opening(self, tmp_path: Path) -> None:
        backend = self.backend(tmp_path)
        backend.close()
        with self.filled(tmp_path, 1) as backend:
            pass
        backend.close()
        assert len(self.contents(tmp_path)) == 1


@contextlib.contextmanager
def second_opened(backend: Backend) -> Iterator[None]:
    """Open it and read it to the end; close it afterwards, also if it is refused."""
    try:
        read(backend)
        yield
    finally:
        backend.close()
