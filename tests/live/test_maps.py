"""Many requests of one map: their order, their errors, their progress, and bodies that come slowly."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import cbw

from .conftest import Log
from .program import wait_until
from .slow_bodies import SLOW_S, SlowBodies


def test_map_keeps_the_order(client: cbw.Client) -> None:
    assert list(client.map(range(3000), "double", returns=int)) == [2 * number for number in range(3000)]


def test_map_of_nothing(client: cbw.Client) -> None:
    assert list(client.map([], "echo")) == []


def test_map_as_completed(client: cbw.Client) -> None:
    """The slow ones come last; each says which it is."""
    texts = ["0.3 slow", *(f"0 {number}" for number in range(20))]
    answers = list(client.map(texts, "sleep", returns=str, is_ordered=False))
    assert sorted(answers) == sorted(enumerate(texts))
    assert answers[-1] == (0, "0.3 slow")


def test_map_is_lazy_and_bounded(client: cbw.Client) -> None:
    """No more than a window is taken from the bodies before the first answer is."""
    taken: list[int] = []

    def bodies() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    answers = client.map(bodies(), "double", window=8, returns=int)
    assert taken == []
    assert [next(answers), next(answers)] == [0, 2]
    assert len(taken) <= 16
    answers.close()  # type: ignore[attr-defined]


def test_map_tells_its_progress(client: cbw.Client) -> None:
    told: list[int] = []
    assert len(list(client.map(range(100), "double", window=10, on_progress=told.append))) == 100
    assert told == sorted(told)
    assert told[-1] == 100


@pytest.mark.parametrize("is_ordered", [True, False])
def test_map_with_errors(client: cbw.Client, is_ordered: bool) -> None:
    kinds = ["fine", "raise", "fine", "type"]
    answers = list(client.map(kinds, "fail", returns=str, is_ordered=is_ordered, return_errors=True))
    if not is_ordered:
        answers = [answer for _, answer in sorted(answers, key=lambda pair: int(pair[0]))]
    assert answers[0] == answers[2] == "fine"
    assert [type(answers[1]), type(answers[3])] == [cbw.HandlerFailed] * 2


def test_map_raises_the_first_error_and_cancels_the_rest(client: cbw.Client, shared_log: Log) -> None:
    def count(word: str) -> int:
        return shared_log.count(f"{word} 30 rest")

    def bodies() -> Iterator[str]:
        time.sleep(SLOW_S)  # so that each is sent before the next is asked for
        yield "30 rest"
        wait_until(lambda: count("begun") > before, "it is begun")
        yield from ("x is no number", "30 rest")

    before = count("begun")
    with pytest.raises(cbw.HandlerFailed, match="could not convert"):
        list(client.map(bodies(), "sleep", is_ordered=False))
    wait_until(lambda: before < count("begun") == count("cancelled"), "what has begun is cancelled")


def test_map_of_bodies_that_raise(client: cbw.Client) -> None:
    def bodies() -> Iterator[bytes]:
        yield b"1"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(client.map(bodies(), "echo"))
    with pytest.raises(cbw.UsageError):
        client.map([], window=0)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_answers_do_not_wait_for_slow_bodies(client: cbw.Client, is_ordered: bool) -> None:
    bodies = SlowBodies()
    answers = client.map(bodies, "double", returns=int, is_ordered=is_ordered)
    first = next(answers)
    bodies.are_enough = True
    assert first == 2 if is_ordered else first in [(number, 2 * number + 2) for number in range(bodies.taken)]
    assert bodies.taken < SlowBodies.COUNT
    assert len(list(answers)) == bodies.taken - 1
    assert client.call("x", "echo") == b"x"


def test_a_request_of_slow_bodies_is_answered_while_the_next_is_awaited(client: cbw.Client) -> None:
    def bodies() -> Iterator[str]:
        time.sleep(SLOW_S)
        yield "0 first of slow ones"
        wait_until(lambda: client.status()["in_flight"] == 0, "it is answered")
        yield "0 second"

    assert len(list(client.map(bodies(), "sleep"))) == 2
