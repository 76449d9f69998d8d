"""What becomes of an exception of a handler: what its client is told of it, and within which bounds."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

import cbw
from cbw.contract.context import Context
from cbw.core import catalogue, messages
from cbw.core.messages import ERROR_TEXT_CHARS_MAX, FAILURE_BYTES_MAX, ErrorParts, Status
from cbw.core.record import Record
from cbw.worker.handler import Handler, cancelled, failed
from cbw.worker.watchers import FailureWatch, task_watch

TASK = messages.Task(1, "price", b"tea", None, 1, "C1/7")


def answer_of(function: Callable[..., Any]) -> messages.Answer:
    return Handler("price", function).run(TASK, Context(TASK, 0.0))


def said_by(error: BaseException) -> ErrorParts:
    def handler(body: bytes) -> None:
        raise error

    return messages.error_parts(answer_of(handler).body)


@pytest.mark.parametrize("data", [None, {"article": "tea"}, [1, 2.5, "ü"], "text", 0, False])
def test_a_failure_is_an_answer_with_its_code_and_data(data: Any) -> None:
    said = said_by(cbw.Failure("not_found", "no tea", data=data))
    assert (said.kind, said.text, said.traceback) == ("not_found", "no tea", "")
    assert said.data is not None
    assert messages.error_parts(answer_of(lambda body: 1).body).data is None


def test_data_that_json_has_no_form_for_is_a_fault_of_the_handler() -> None:
    said = said_by(cbw.Failure("not_found", data=object()))
    assert said.kind == "NotEncodable" and "JSON has no form for" in said.text
    assert "Failure: not_found" in said.traceback and said.data is None


def test_so_is_data_that_is_too_large() -> None:
    said = said_by(cbw.Failure("not_found", data="x" * FAILURE_BYTES_MAX))
    assert said.kind == "NotEncodable" and str(FAILURE_BYTES_MAX) in said.text


@pytest.mark.parametrize("error", [KeyError("milk"), SystemExit(3), cbw.Failure("no", data=object())])
def test_a_traceback_begins_in_the_handler(error: BaseException) -> None:
    assert first_frame(said_by(error).traceback) == (__file__, "handler")


def test_so_does_that_of_an_exception_that_ends_a_thread() -> None:
    """A pool takes it from its thread: there are more frames of ours above the handler."""
    with pytest.raises(KeyboardInterrupt) as raised:
        said_by(KeyboardInterrupt())
    frames: Any = raised.value.__traceback__
    while frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    said = messages.error_parts(failed(TASK, raised.value.with_traceback(frames)).body)
    assert first_frame(said.traceback) == (__file__, "handler")


def first_frame(traceback: str) -> tuple[str, str]:
    """The file and the function of the first line that ``traceback`` shows."""
    shown = re.search(r'File "(.*)", line \d+, in (.*)', traceback)
    assert shown is not None, traceback
    return shown[1], shown[2]


@pytest.mark.parametrize("result", [object(), math.nan, "x\udcff"])
def test_a_result_that_has_no_form_has_no_traceback(result: object) -> None:
    """No line of the handler has raised anything, and ours tell its author nothing."""

    def handler(body: bytes) -> Any:
        return result

    said = messages.error_parts(answer_of(handler).body)
    assert said.kind == "NotEncodable" and said.text.startswith("a value of type ")
    assert said.traceback.startswith("cbw.errors.NotEncodable: a value of type ")


def test_how_far_a_handler_is_may_be_said_in_any_text() -> None:
    """That ended its worker, and with the attempts at it all workers: names of files may be no UTF-8."""
    told: list[messages.ProgressMade] = []
    Context(TASK, 0.0, told.append).progress(1, 2, "caf\udce9.txt")
    assert [progress.text for progress in told] == ["caf\\udce9.txt"]


@pytest.mark.parametrize("code", ["", "x" * 201, 404, None])
def test_a_failure_has_a_code(code: Any) -> None:
    with pytest.raises(cbw.UsageError, match="code"):
        cbw.Failure(code)


def test_a_long_text_leaves_the_type_of_its_exception() -> None:
    said = said_by(KeyError("x" * 2 * ERROR_TEXT_CHARS_MAX))
    assert said.kind == "KeyError" and len(said.text) == ERROR_TEXT_CHARS_MAX
    assert said_by(cbw.Failure("c", "x" * 2 * ERROR_TEXT_CHARS_MAX)).kind == "c"


@pytest.mark.parametrize("error", [KeyError("\udcff" * 10), cbw.Failure("\udcff", "\udcff")])
def test_text_that_utf_8_cannot_hold_is_sent_as_escapes(error: Exception) -> None:
    assert "\\udcff" in said_by(error).text


def test_a_failure_of_somebody_else_is_passed_on() -> None:
    """A handler that asks another service need not translate what that says."""
    got = cbw.Failure("not_found", "no tea", data=[1], request_id=7, service="stock", request="C9/7")
    said = said_by(got)
    assert (said.kind, said.text, said.data) == ("not_found", "no tea", "[1]")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            messages.Answer(1, Status.FAILED, messages.error_body("not_found", "no tea", data="null")),
            "not_found: no tea",
        ),
        (cancelled(1), "cancelled"),
    ],
)
def test_what_is_no_accident_shows_in_the_trace_and_frightens_nobody(
    caplog: pytest.LogCaptureFixture, answer: messages.Answer, text: str
) -> None:
    """Neither a failure, which is an answer, nor a task that was given up, as when a reader leaves a stream."""
    records: list[Record] = []
    all_tasks = task_watch("W1", records.extend)
    failures = FailureWatch("W1", records.extend, wants_all=True, is_printed=False)
    for watch in (all_tasks, failures):
        watch(TASK, answer)
    ((record),) = records
    assert (record.event, record.request, record.text) == (catalogue.DONE, "C1/7", text)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
