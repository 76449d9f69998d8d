"""The queue of a service, against a model that is slow and obviously right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbw.core.broker.fair_queue import DEAD_MAX, FairQueue
from cbw.core.broker.states import RequestState
from cbw.core.broker.tables import ClientRow, Entry
from cbw.core.messages import PRIORITY, Request
from cbw.wire import native


@dataclass
class Model:
    """What waits, as plain lists: ``returned`` first, then ``clients`` in turn, each with its ``requests``, best first.

    What has ended lies there until its turn comes, or the dead are swept out, and keeps the place of its client as long.
    """

    returned: list[Entry] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    requests: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))

    def add(self, entry: Entry) -> None:
        name = entry.client.name
        if name not in self.clients:
            self.clients.append(name)
        self.requests[name].append(entry)
        self.requests[name].sort(key=lambda entry: -entry.request.priority)  # stable: first come, first served

    def take(self) -> Entry:
        if self.returned:
            return self.returned.pop(0)
        while not (line := self._from_the_first_living(name := self.clients.pop(0))):
            pass
        entry = line.pop(0)
        if line:
            self.clients.append(name)
        return entry

    def _from_the_first_living(self, name: str) -> list[Entry]:
        line = self.requests[name]
        while line and line[0].state is RequestState.ENDED:
            del line[0]
        return line

    def end(self, entry: Entry) -> None:
        if entry in self.returned:
            self.returned.remove(entry)

    def swept(self) -> None:
        for line in self.requests.values():
            line[:] = [entry for entry in line if entry.state is not RequestState.ENDED]
        self.clients = [name for name in self.clients if self.requests[name]]

    @property
    def living(self) -> list[Entry]:
        lying = [*self.returned, *(entry for name in self.clients for entry in self.requests[name])]
        return [entry for entry in lying if entry.state is not RequestState.ENDED]


class Both:
    """A queue and its model, told the same."""

    def __init__(self, dead_max: int = DEAD_MAX) -> None:
        self.waiting: FairQueue[Entry] = FairQueue(dead_max)
        self.model = Model()
        self.clients: dict[str, ClientRow] = {}
        self.taken: list[Entry] = []
        self.now = 0.0
        self._next_id = 1

    def add(self, name: str, priority: int = PRIORITY) -> Entry:
        client = self.clients.setdefault(name, ClientRow(name, "b", name.encode(), native.CLIENT))
        request = Request(self._next_id, "s", b"", None, priority)
        self._next_id += 1
        entry = Entry(request, client, RequestState.WAITING, self.now)
        self.waiting.add(entry)
        self.model.add(entry)
        return entry

    def take(self, count: int) -> list[Entry]:
        taken = self.waiting.take(count, self.now)
        for entry in taken:
            assert entry is self.model.take()
            entry.state = RequestState.RUNNING
        assert len(taken) == count or not self.model.living
        if len(taken) < count:  # it has looked at all: nobody has a place in line any more
            self.model.swept()
        self.taken += taken
        return taken

    def put_back(self, index: int) -> None:
        if self.taken:
            entry = self.taken.pop(index % len(self.taken))
            entry.state = RequestState.WAITING
            self.waiting.put_back(entry)
            self.model.returned.insert(0, entry)

    def end(self, index: int) -> None:
        if self.model.living:
            self.end_entry(self.model.living[index % len(self.model.living)])

    def end_entry(self, entry: Entry) -> None:
        self.waiting.mark_dead()
        entry.state = RequestState.ENDED
        self.model.end(entry)

    def tidy(self) -> None:
        self.waiting.tidy()
        if not self.waiting.dead:
            self.model.swept()

    def check(self) -> None:
        waiting, living = self.waiting, self.model.living
        assert waiting.count == len(waiting) == len(living)
        lying = list(waiting)
        assert [entry for entry in lying if entry.state is not RequestState.ENDED] == living
        assert len(lying) - len(living) == waiting.dead
        assert (waiting.since < float("inf")) is bool(living)


@pytest.fixture
def both() -> Both:
    return Both()


def ids(entries: list[Entry]) -> Iterator[tuple[str, int]]:
    return ((entry.client.name, entry.request.id) for entry in entries)


ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("ABCD"), st.sampled_from([PRIORITY, PRIORITY, 0, 9])),
    st.tuples(st.just("take"), st.integers(1, 5)),
    st.tuples(st.just("put_back"), st.integers(0, 5)),
    st.tuples(st.just("end"), st.integers(0, 20)),
    st.tuples(st.just("tidy")),
)


@pytest.mark.parametrize("dead_max", [DEAD_MAX, 3])
@given(st.lists(ACTIONS, max_size=80))
def test_it_does_as_the_model(dead_max: int, actions: list[tuple[str, ...]]) -> None:
    both = Both(dead_max)
    for name, *arguments in actions:
        both.now += 1
        getattr(both, name)(*arguments)
        both.check()
    both.take(1000)
    both.check()
    assert not list(both.waiting)


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(0, 9)), max_size=60), st.integers(1, 7))
def test_between_two_turns_of_a_client_every_other_has_one(requests: list[tuple[str, int]], share: int) -> None:
    """Of a client's own the highest priority comes first, and among these the first that came."""
    both = Both()
    for name, priority in requests:
        both.add(name, priority)
    order: list[Entry] = []
    while entries := both.take(share):
        order += entries
    last: dict[str, int] = {}
    for position, entry in enumerate(order):
        name = entry.client.name
        between = [other.client.name for other in order[last.get(name, -1) + 1 : position]]
        assert len(set(between)) == len(between)
        last[name] = position
        later = [other for other in order[position:] if other.client is entry.client]
        assert entry is min(later, key=lambda other: (-other.request.priority, other.request.id))


def test_one_with_many_delays_anothers_only_one_by_one_request(both: Both) -> None:
    for _ in range(100_000):
        both.waiting.add(Entry(Request(0, "s", b""), ClientRowOf.flood, RequestState.WAITING, 0.0))
    alone = Entry(Request(1, "s", b""), ClientRowOf.other, RequestState.WAITING, 0.0)
    both.waiting.add(alone)
    assert alone in both.waiting.take(2, 1.0)


class ClientRowOf:
    flood = ClientRow("flood", "b", b"f", native.CLIENT)
    other = ClientRow("other", "b", b"o", native.CLIENT)


def test_whoever_comes_back_after_its_last_request_is_behind_the_others(both: Both) -> None:
    both.add("A")
    both.add("B")
    both.take(1)
    both.add("A")
    both.add("A")
    assert list(ids(both.take(3))) == [("B", 2), ("A", 3), ("A", 4)]


def test_a_higher_priority_gains_nothing_over_other_clients(both: Both) -> None:
    both.add("A", 0)
    both.add("B", 9)
    both.add("A", 1)
    both.add("B", 9)
    assert list(ids(both.take(4))) == [("A", 3), ("B", 2), ("A", 1), ("B", 4)]


def test_what_is_put_back_is_next(both: Both) -> None:
    for name in "ABAB":
        both.add(name)
    both.take(2)
    both.put_back(1)
    both.put_back(0)
    assert list(ids(both.take(4))) == [("A", 1), ("B", 2), ("A", 3), ("B", 4)]


def test_the_dead_take_no_turn(both: Both) -> None:
    first, second = both.add("A"), both.add("A")
    both.add("A")
    both.add("B")
    both.end_entry(first)
    both.end_entry(second)
    assert list(ids(both.take(2))) == [("A", 3), ("B", 4)]
    assert both.waiting.dead == 0


def test_many_dead_are_swept_out_and_so_are_clients_without_a_living_one(both: Both) -> None:
    entries = [both.add(name) for name in "AB" for _ in range(DEAD_MAX)]
    for entry in entries[:-1]:
        both.end_entry(entry)
    both.waiting.tidy()
    assert both.waiting.dead == 0 and list(both.waiting) == entries[-1:]


def test_the_turn_of_a_client_is_as_old_as_its_last_one(both: Both) -> None:
    """A worker of several services goes by this, so that no service waits longer than its clients' turns."""
    for name in "AAB":
        both.add(name)
    both.now = 1.0
    assert both.waiting.since == 0.0
    both.take(1)
    assert both.waiting.since == 0.0  # B's
    both.take(1)
    assert both.waiting.since == 1.0
    both.take(1)
    assert both.waiting.since == float("inf")


@given(st.lists(ACTIONS, max_size=60))
def test_as_many_are_taken_before_one_as_is_told(actions: list[tuple[str, ...]]) -> None:
    both = Both()
    for name, *arguments in actions:
        getattr(both, name)(*arguments)
    before = {entry.request.id: both.waiting.before(entry, 1000) for entry in both.model.living}
    told = sorted((-1 if count is None else count, number) for number, count in before.items())
    for looked_max in range(3):  # then it may not be told, but not wrongly
        for entry in both.model.living:
            assert both.waiting.before(entry, looked_max) in (None, before[entry.request.id])
    taken = both.take(len(told))
    assert told == [(number, entry.request.id) for number, entry in enumerate(taken)]
