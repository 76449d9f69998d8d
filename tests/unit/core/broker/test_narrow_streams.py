"""Streams whose parts were more than a broker may keep for clients that read slowly."""

from __future__ import annotations

import pytest

from cbw.core import messages
from cbw.core.broker import events
from cbw.core.broker.backlog import MESSAGE_BYTES
from cbw.core.broker.narrow_streams import ROOM_LOOK_S
from cbw.core.messages import AnswerPart, PartsWanted, StreamRequest, StreamTask
from cbw.core.parts import PARTS_FIRST, streamed_body
from cbw.wire import native

from .system import CoreSystem, client_said, worker_said

PART = b"x" * 300
ROOM = 4
"""Parts of that size for which the memory of these tests has room."""


class Streaming:
    """A client that has been given up as it did not read the parts of its streams, and has come back."""

    def __init__(self, streams: int, concurrency: int = 2) -> None:
        self.system = system = CoreSystem(parked_bytes_max=2 * ROOM * (MESSAGE_BYTES + len(PART)))
        self.unsent = 0
        system.core.requests.streams.narrow.unsent_bytes = lambda: self.unsent
        hello = messages.WorkerHello("W1", "b", ["s"], concurrency, streams, takes_streams=True)
        system.tell(worker_said(b"W1", [hello]))
        system.client("C1")
        self.ids = range(1, streams + 1)
        self._ask(received=0, first=0)
        first = self.tasks()
        self.first = [task.parts for task in first]
        system.tell(worker_said(b"W1", [AnswerPart(task.id, n, PART) for task in first for n in (1, 2)]))
        unread = [message for message in system.take("C1") if isinstance(message, AnswerPart)]
        system.tell(events.PeerUnread(events.Side.CLIENT, b"C1", list(unread), native.CLIENT))
        self._ask(received=1, first=first[0].id)
        ended = [messages.Answer(task.id, messages.Status.CANCELLED, b"") for task in first]
        system.tell(worker_said(b"W1", [*ended]))
        system.tell()
        system.take("C1")

    def _ask(self, received: int, first: int) -> None:
        options = {"parts": PARTS_FIRST, "restarts": True, "received": received}
        asked = [StreamRequest(i, "s", b"go", task=first and first + i - 1, **options) for i in self.ids]  # type: ignore[arg-type]
        self.system.tell(client_said(b"C1", [messages.ClientHello("C1", "b"), *asked]))

    def tasks(self) -> list[StreamTask]:
        """Those that the worker has got since the last look."""
        return [each for each in self.system.take("W1") if isinstance(each, StreamTask)]

    def begun(self) -> tuple[list[StreamTask], list[int]]:
        """The tasks that the worker has got, and their ids: the one that was told of room first, and the others."""
        sent = self.system.take("W1")
        tasks = [each for each in sent if isinstance(each, StreamTask)]
        (told,) = (each for each in sent if isinstance(each, PartsWanted))
        assert told.parts == ROOM
        return tasks, [told.id, *(task.id for task in tasks if task.id != told.id)]

    def granted(self) -> dict[int, int]:
        """Up to which parts the worker was told that there is room, by task, since the last look."""
        return {each.id: each.parts for each in self.system.take("W1") if isinstance(each, PartsWanted)}

    def send(self, task: int, *numbers: int) -> None:
        self.system.tell(worker_said(b"W1", [AnswerPart(task, number, PART) for number in numbers]))
        self.unsent = 0


@pytest.fixture
def two() -> Streaming:
    return Streaming(2)


def test_what_clients_have_room_for_is_granted_at_once_as_long_as_there_is_memory(two: Streaming) -> None:
    assert two.first == [PARTS_FIRST, PARTS_FIRST]


def test_together_they_get_the_room_that_there_is_one_after_the_other(two: Streaming) -> None:
    tasks, (one, other) = two.begun()
    assert [task.parts for task in tasks] == [0, 0]
    two.send(one, 1, 2)
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {other: 2}
    two.send(one, 3, 4)
    two.send(other, 1, 2)
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {one: 4 + ROOM}


def test_what_waits_for_others_leaves_less_but_one_part_is_always_possible(two: Streaming) -> None:
    _, (one, other) = two.begun()
    two.send(one, 1, 2, 3, 4)
    two.unsent = 1 << 20
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {other: 1}
    two.send(other, 1)
    two.unsent = 1 << 20
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {one: 5}
    two.system.wait(10 * ROOM_LOOK_S, "W1")
    assert two.granted() == {}, "it is not used yet"


def test_what_a_worker_has_not_begun_gets_no_room_and_gets_it_then() -> None:
    two = Streaming(2, concurrency=1)
    _, (one, other) = two.begun()
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {}
    two.send(one, 1, 2, 3, 4)
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {one: PARTS_FIRST}
    answer = messages.Answer(one, messages.Status.STREAMED, streamed_body(4))
    two.system.tell(worker_said(b"W1", [answer]))
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {other: ROOM}


def test_streams_that_have_ended_are_looked_after_no_more(two: Streaming) -> None:
    two.tasks()
    two.system.tell(client_said(b"C1", [messages.Cancel(1), messages.Cancel(2)]))
    two.system.wait(ROOM_LOOK_S, "W1")
    assert two.granted() == {}
    assert two.system.core.wake_at > two.system.now + ROOM_LOOK_S


def test_nothing_is_looked_at_when_all_have_the_room_that_their_clients_have() -> None:
    one = Streaming(1)
    _, (task,) = one.begun()
    one.send(task, 1, 2, 3, 4)
    one.system.wait(ROOM_LOOK_S, "W1")
    assert one.granted() == {task: PARTS_FIRST}
    one.system.wait(ROOM_LOOK_S, "W1")
    assert one.system.core.wake_at > one.system.now + ROOM_LOOK_S
