"""Handlers that take a list of requests: whose error is whose, and what is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any
from unittest.mock import ANY

import pytest

import cbw
from cbw.contract.batching import one_of
from cbw.core import messages
from cbw.core.messages import Status
from cbw.testing import System
from cbw.worker.handler import Handler

calls: list[list[Any]] = []


def lengths(words: list[str]) -> list[int | Exception]:
    calls.append(words)
    if "raise" in words:
        raise ValueError("all of them")
    if "short" in words:
        return [1]
    return [len(word) or cbw.Failure("empty") for word in words]


async def lengths_later(words: list[str]) -> list[int | Exception]:
    return lengths(words)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def run(*bodies: bytes, function: Any = lengths) -> list[tuple[Status, str]]:
    tasks = [messages.Task(number, "s", body, None, 1) for number, body in enumerate(bodies)]
    answers = Handler("s", function, batch=8).run_batch(tasks, None)
    assert [answer.id for answer in answers] == list(range(len(bodies)))
    return [(answer.status, _said(answer)) for answer in answers]


def _said(answer: messages.Answer) -> str:
    return answer.body.decode() if answer.status is Status.OK else messages.error_of(answer.body)[1]


def test_each_result_is_the_answer_of_its_request() -> None:
    assert run(b"tea", b"coffee") == [(Status.OK, "3"), (Status.OK, "6")]
    assert calls == [["tea", "coffee"]]


def test_an_exception_in_the_list_blames_its_request_alone() -> None:
    assert [status for status, _ in run(b"tea", b"", b"coffee")] == [Status.OK, Status.FAILED, Status.OK]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Picky:
    """As a model of pydantic whose validator raises."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def model_validate(cls, value: dict[str, int]) -> Picky:
        if value["number"] == 7:
            raise Unprintable
        return cls(**value)


def numbers_of(picked: list[Picky]) -> list[int]:
    return [one.number for one in picked]


def test_a_body_whose_error_cannot_be_printed_blames_its_request_alone() -> None:
    said = run(b'{"number":1}', b'{"number":7}', function=numbers_of)
    assert said[0] == (Status.OK, "1")
    assert said[1] == (Status.BAD_REQUEST, "the body does not fit: and its text cannot be made: RuntimeError")


def test_an_exception_blames_all() -> None:
    assert run(b"tea", b"raise") == [(Status.FAILED, "all of them")] * 2


def test_a_list_of_another_length_is_said_clearly() -> None:
    text = "lengths was given 2 requests and returned 1 results"
    assert run(b"tea", b"short") == [(Status.FAILED, text)] * 2


def test_a_body_that_does_not_fit_is_left_out() -> None:
    def double(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return [2 * number for number in numbers]

    assert [status for status, _ in run(b"1", b"tea", b"3", function=double)] == [
        Status.OK,
        Status.BAD_REQUEST,
        Status.OK,
    ]
    assert calls == [[1, 3]]
    assert [status for status, _ in run(b"tea", function=double)] == [Status.BAD_REQUEST] and calls == [[1, 3]]


def test_retries_are_those_of_each_request() -> None:
    def busy(numbers: list[int]) -> list[int | Exception]:
        return [cbw.Retry(after_s=1) if number == 2 else number for number in numbers]

    assert [status for status, _ in run(b"1", b"2", function=busy)] == [Status.OK, Status.RETRY]


def no_list(word: str) -> int:
    return len(word)


def two(words: list[str], more: int) -> list[int]:
    return [more]


def yields(words: list[str]) -> Iterator[int]:
    yield from map(len, words)


@pytest.mark.parametrize("function", [no_list, two, yields, len])
def test_what_takes_no_list_is_refused(function: Any) -> None:
    with pytest.raises(cbw.UsageError):
        Handler("s", function, batch=8)


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": True}, {"batch": 10**9}, {"wait_ms": 3.0}])
def test_sizes_and_times_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(cbw.UsageError):
        Handler("s", lengths, **options)


def scaled(factor: int, numbers: list[int]) -> list[int]:
    return [number * factor for number in numbers]


class Doubling:
    def __call__(self, numbers: list[int]) -> list[int]:
        return [number * 2 for number in numbers]


@pytest.mark.parametrize("function", [functools.partial(scaled, 2), Doubling()])
def test_what_is_called_in_the_end_says_of_what_it_takes_a_list(function: Any) -> None:
    assert run(b"1", b"no", b"3", function=function) == [(Status.OK, "2"), (Status.BAD_REQUEST, ANY), (Status.OK, "6")]


def test_what_callers_are_told() -> None:
    one = one_of(lengths)
    assert one.__annotations__ == {"words": str, "return": int}
    assert '"signature":"(words: str) -> int"' in Handler("s", lengths, batch=8).described


@pytest.mark.parametrize("function", [lengths, lengths_later])
def test_in_memory(function: Any) -> None:
    shop = cbw.Service("shop")
    task = shop.task(batch=4)(function)
    with System() as system:
        requests = [system.submit(task, word) for word in ("tea", "coffee", "", "milk", "sugar")]
        system.worker(shop, concurrency=5)
        assert [request.result() for request in requests[:2]] == [3, 6]
        with pytest.raises(cbw.Failure) as failure:
            requests[2].result()
        assert failure.value.code == "empty"
        assert requests[4].result() == 5
    assert calls == [["tea", "coffee", "", "milk"], ["sugar"]]
