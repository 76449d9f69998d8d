"""For how many parts of an answer a client has room, and which of them its program gets."""

from __future__ import annotations

from cbw.core.client.reader import Reader
from cbw.core.messages import AnswerPart, StreamRequest
from cbw.core.parts import PARTS_FIRST, PARTS_MAX, PARTS_ROOM_BYTES


def part(number: int, size: int = 1, task: int = 7) -> AnswerPart:
    return AnswerPart(1, number, b"x" * size, task)


def test_each_part_goes_to_the_program_once() -> None:
    reader = Reader()
    assert [reader.came(part(number)) for number in (1, 2, 2, 3)] == [True, True, False, True]
    assert not reader.came(part(5)) and reader.received == 3, "part 4 is lost, which the broker will see"


def test_the_first_part_once_more_begins_anew() -> None:
    reader = Reader()
    for number in range(1, 9):
        reader.came(part(number))
    reader.took(8)
    assert reader.wanted > PARTS_FIRST
    assert reader.came(part(1, task=8)) and reader.received == 1 and reader.wanted == PARTS_FIRST
    assert not reader.came(part(2)), "it is of the first attempt"
    assert reader.came(part(2, task=8))


def test_what_is_taken_of_an_earlier_attempt_is_no_room_for_more_of_this() -> None:
    reader = Reader()
    for number in range(1, 41):
        reader.came(part(number))
    reader.came(part(1, task=8))
    assert not reader.took(1) and reader.wanted == PARTS_FIRST
    assert [reader.took(1) for _ in range(39)].count(True) == 1 and reader.wanted <= PARTS_MAX


def test_more_are_wanted_when_half_of_the_room_is_free() -> None:
    reader = Reader()
    reader.came(part(1))
    assert reader.took(1) and reader.wanted == 1 + PARTS_MAX
    told = [reader.took(1) for _ in range(PARTS_MAX)]
    assert told.index(True) == PARTS_MAX // 2 - 1 and told.count(True) == 2


def test_of_large_parts_fewer_are_wanted() -> None:
    reader = Reader()
    for number in range(1, PARTS_FIRST + 1):
        reader.came(part(number, PARTS_ROOM_BYTES // 3))
        reader.took(1)
    assert reader.wanted == PARTS_FIRST + 2
    for number in range(PARTS_FIRST + 1, PARTS_FIRST + 3):
        reader.came(part(number, 2 * PARTS_ROOM_BYTES))
    assert [reader.took(1) for _ in range(2)] == [False, True] and reader.wanted == PARTS_FIRST + 3


def test_what_is_sent_again_says_what_has_come() -> None:
    reader = Reader()
    for number in range(1, 4):
        reader.came(part(number))
    request = StreamRequest(1, "s", b"")
    reader.ask_again(request)
    assert (request.received, request.parts, request.task) == (3, PARTS_FIRST, 7)
