"""When a handler that raised is called again, and when: by class, by count, within the bounds of its backoff."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

import cbw
from cbw.contract.context import Context
from cbw.contract.retrying import RETRIES, Retrying
from cbw.core import messages
from cbw.core.messages import Status
from cbw.worker.handler import Handler

NETWORK = Retrying(3, (ConnectionError,), (1.0, 60.0))


def answer_to(error: BaseException, retrying: Retrying = NETWORK, *, used: int = 0) -> messages.Answer:
    def handler(body: bytes) -> bytes:
        raise error

    task = messages.Task(7, "s", b"", None, 1, retries=used)
    return Handler("s", handler, retrying, chance=lambda: 0.5).run(task, Context(task, 0.0))


def test_nothing_is_tried_again_unless_the_service_says_so() -> None:
    answer = answer_to(ConnectionError("gone"), Retrying())
    assert (answer.status, answer.retry_after_s) == (Status.FAILED, None)


@pytest.mark.parametrize("error", [ConnectionError("gone"), ConnectionResetError("gone")])
def test_a_class_and_its_subclasses_are_tried_again(error: Exception) -> None:
    answer = answer_to(error)
    assert answer.status is Status.RETRY and answer.retry_after_s is not None
    assert messages.error_of(answer.body) == (type(error).__name__, "gone")


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("bad"), SystemExit(3), cbw.BadRequest("bad")])
def test_other_exceptions_are_not(error: BaseException) -> None:
    assert answer_to(error).status in (Status.FAILED, Status.BAD_REQUEST)


def test_a_bad_request_is_never_tried_again() -> None:
    assert answer_to(cbw.BadRequest("bad"), Retrying(3, (Exception,))).status is Status.BAD_REQUEST


def test_a_body_that_does_not_fit_is_not_tried_again() -> None:
    def handler(number: int) -> int:
        return number

    task = messages.Task(7, "s", b"no number", None, 1)
    answer = Handler("s", handler, Retrying(3, (Exception,))).run(task, Context(task, 0.0))
    assert answer.status is Status.BAD_REQUEST


@pytest.mark.parametrize("used", range(5))
def test_the_last_try_fails(used: int) -> None:
    assert answer_to(ConnectionError(), used=used).status is (Status.RETRY if used < 3 else Status.FAILED)


@pytest.mark.parametrize(("after_s", "told_s"), [(0.0, 0.0), (7.5, 7.5), (None, 1.5)])
def test_a_handler_may_ask_for_it_itself(after_s: float | None, told_s: float) -> None:
    answer = answer_to(cbw.Retry("not yet", after_s=after_s), Retrying())
    assert (answer.status, answer.retry_after_s) == (Status.RETRY, told_s)
    assert messages.error_of(answer.body) == ("Retry", "not yet")


def test_it_gets_as_many_as_the_service_allows_or_5() -> None:
    asked = cbw.Retry(after_s=0.0)
    assert answer_to(asked, Retrying(), used=RETRIES - 1).status is Status.RETRY
    assert answer_to(asked, Retrying(), used=RETRIES).status is Status.FAILED
    assert answer_to(asked, Retrying(7), used=6).status is Status.RETRY
    assert answer_to(asked, Retrying(0)).status is Status.FAILED


@pytest.mark.parametrize("bounds", [(1.0, 60.0), (0.0, 0.0), (0.5, 0.6), (3, 3), (0.0, 10.0)])
@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_a_backoff_grows_and_stays_within_its_bounds(bounds: tuple[float, float], chance: float) -> None:
    retrying = Retrying(1000, (ValueError,), bounds)
    times = [retrying.after_s(ValueError(), used, chance) for used in range(1000)]
    assert all(time is not None and bounds[0] <= time <= bounds[1] for time in times)
    assert times == sorted(times, key=lambda time: time or 0.0)


def test_a_backoff_doubles() -> None:
    times = [NETWORK.after_s(ConnectionError(), used, 1.0) for used in range(3)]
    assert times == [2.0, 4.0, 8.0]
    assert NETWORK.after_s(ConnectionError(), 0, 0.0) == 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": True},
        {"retries": 1.5},
        {"retries": 1001},
        {"retry_on": ConnectionError},
        {"retry_on": (KeyboardInterrupt,)},
        {"retry_on": ("ConnectionError",)},
        {"backoff_s": 3},
        {"backoff_s": (2, 1)},
        {"backoff_s": (-1, 1)},
        {"backoff_s": (1, math.nan)},
        {"backoff_s": (1, math.inf)},
        {"backoff_s": ("1", "2")},
    ],
)
def test_what_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(cbw.UsageError):
        cbw.Worker("localhost", trace=None).add("s", bytes, **options)


@pytest.mark.parametrize("after_s", [-1.0, math.nan, math.inf])
def test_so_is_a_time_that_makes_none(after_s: float) -> None:
    with pytest.raises(cbw.UsageError):
        cbw.Retry(after_s=after_s)


def test_an_async_handler_too() -> None:
    async def handler(body: bytes) -> bytes:
        raise ConnectionResetError("gone")

    task = messages.Task(7, "s", b"", None, 1)
    answer = asyncio.run(Handler("s", handler, NETWORK).run_async(task, Context(task, 0.0)))
    assert answer.status is Status.RETRY


def test_a_handler_knows_how_often_it_was_tried() -> None:
    def handler(attempt: cbw.Context) -> int:
        return attempt.retries

    task = messages.Task(7, "s", b"", None, 1, retries=2)
    assert Handler("s", handler).run(task, Context(task, 0.0)).body == b"2"


# --- the traceback, for the story that the broker keeps


def no_way(body: bytes) -> bytes:
    raise ConnectionResetError(f"no way to {body.decode()}")


class Unprintable(ConnectionError):
    """An exception that raises when it is printed, and that has no text."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__cause__":
            raise RecursionError("no end")
        return super().__getattribute__(name)


def told(function: Any, retries: int = 0, retrying: Retrying = NETWORK) -> tuple[Status, str, str, str]:
    task = messages.Task(7, "s", b"Oslo", None, 1, retries=retries)
    answer = Handler("s", function, retrying).run(task, Context(task, 0.0))
    return answer.status, *messages.error_parts(answer.body)[:3]


@pytest.mark.parametrize(("retries", "status"), [(0, Status.RETRY), (NETWORK.retries, Status.FAILED)])
def test_the_broker_is_told_where_an_exception_came_from(retries: int, status: Status) -> None:
    found, kind, text, traceback = told(no_way, retries)
    assert (found, kind, text) == (status, "ConnectionResetError", "no way to Oslo")
    first, where, *_, last = traceback.splitlines()
    assert first == "Traceback (most recent call last):" and "in no_way" in where, "it begins in the handler itself"
    assert last == "ConnectionResetError: no way to Oslo"


def test_but_not_if_nobody_tries_again() -> None:
    status, kind, text, traceback = told(no_way, retrying=Retrying())
    assert (status, kind, text) == (Status.FAILED, "ConnectionResetError", "no way to Oslo")
    assert traceback.endswith("ConnectionResetError: no way to Oslo\n")


def test_a_long_traceback_is_told_from_its_end() -> None:
    def handler(body: bytes) -> bytes:
        raise ConnectionResetError("!" * 100_000 + "the end")

    traceback = told(handler)[3]
    assert len(traceback) == messages.TRACEBACK_CHARS_MAX
    assert traceback.startswith("…") and traceback.endswith("the end\n")


def test_an_exception_that_cannot_be_printed_is_tried_again_too() -> None:
    def handler(body: bytes) -> bytes:
        raise Unprintable

    status, _, _, traceback = told(handler)
    assert status is Status.RETRY and traceback == "the traceback cannot be made: RecursionError"


def test_a_traceback_with_half_a_character_is_told() -> None:
    def handler(body: bytes) -> bytes:
        raise ConnectionResetError("a file called \udcff")

    assert "\\udcff" in told(handler)[3]
