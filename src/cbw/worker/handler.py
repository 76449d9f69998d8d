"""A user's function as a handler: how its arguments are read from a body, and how its result or exception becomes an answer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import os
import random
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cbw import codec
from cbw.contract.batching import checked_batch, one_of
from cbw.contract.context import Context
from cbw.contract.retrying import Retrying
from cbw.contract.service import Contract, Service, checked_time_limit
from cbw.contract.signature import Signature, is_async, name_of
from cbw.core import messages
from cbw.core.messages import ERROR_TEXT_CHARS_MAX, FAILURE_BYTES_MAX, OK, TRACEBACK_CHARS_MAX, Status
from cbw.core.parts import streamed_body
from cbw.errors import BadRequest, Failure, NotEncodable, TimeLimit, UsageError
from cbw.observe.spans import tracer
from cbw.visible import writable
from cbw.worker.outlet import Outlet
from cbw.worker.spans import processing, processing_all, tell_answers

_OURS = f"{Path(__file__).parents[1]}{os.sep}"
"""How the names of our own files begin."""


class Handler:
    """A function and the service that it serves.

    :class:`.Signature` says what it gets of the body. A parameter annotated :class:`Context` gets that, and takes nothing from
    the body. ``retrying`` says when the function is called again if it raises; ``chance`` draws a number from 0 to 1 for
    that. It may take ``time_limit_s`` seconds (None: as long as it likes). With ``batch`` it is given a list of so many requests
    at most, and waits ``wait_ms`` for the list to be full.

    Raises:
        UsageError: the function cannot be called like that, or ``time_limit_s`` is no time.
    """

    def __init__(
        self,
        service: str,
        function: Callable[..., Any],
        retrying: Retrying = Retrying(),  # noqa: B008 - frozen
        time_limit_s: float | None = None,
        batch: int | None = None,
        wait_ms: float = 0.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.time_limit_s = checked_time_limit(time_limit_s)
        self.batch = checked_batch(batch, wait_ms)
        self.wait_s = wait_ms / 1000
        self.service = service
        self.function = function
        self.retrying = retrying
        self._chance = chance
        if isinstance(function, Service):
            shown = repr(function)
            raise UsageError(
                f"{shown} is a service, and no function",
                advice="Serve all its tasks: cbw worker --app MODULE, or worker.add_service() in a program.",
            )
        self.owner = function.service if isinstance(function, Contract) else None
        """The service whose task it is."""
        self.state: Any = None
        """What the lifespan of its service has yielded in this process."""
        self._call = function.function if isinstance(function, Contract) else function
        self.is_async = is_async(function)
        if isinstance(function, Contract):
            self._signature = function.signature
        else:
            self._signature = Signature(function if batch is None else one_of(function))
        self.wants_context = self._signature.wants_context
        self.is_stream = self._signature.is_stream
        self._is_plain = self._signature.is_raw and not self.wants_context and not self.is_stream

    @property
    def described(self) -> str:
        """What it takes and returns, for ``cbw services``."""
        return self._signature.described

    def run(self, task: messages.Task, context: Context, outlet: Outlet | None = None) -> messages.Answer:
        """Call a function that is not async. Whatever it returns or raises becomes the answer.

        What it yields goes into ``outlet``, here and in :meth:`run_async`; without one it becomes a list.
        """
        if (found := tracer()) is None:
            return self._run_plain(task) if self._is_plain else self._run(task, context, outlet)
        with processing(found, task) as span:
            answer = self._run_plain(task) if self._is_plain else self._run(task, context, outlet)
            tell_answers(span, [answer])
        return answer

    def _run_plain(self, task: messages.Task) -> messages.Answer:
        """Call a function of bytes, which mostly returns bytes."""
        body = task.body
        try:
            result = self._call(body if type(body) is bytes else bytes(body))
            return messages.Answer(task.id, OK, result) if type(result) is bytes else self._answer(task, result)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: it would end the thread without an answer
            return self._failed(task, error)

    def _run(self, task: messages.Task, context: Context, outlet: Outlet | None) -> messages.Answer:
        if outlet is not None:
            return outlet.wait_through(self.steps(task, context, outlet))
        if self.wants_context:
            context.state = self.state
        try:
            arguments = self._signature.arguments(task.body, context)
        except Exception as error:  # msgspec raises RecursionError too, and a user's type whatever it likes
            return _bad_request(task, error)
        try:
            if self.is_stream:
                return self._list_of(task, self._call(**arguments), context)
            return self._answer(task, self._call(**arguments))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self._failed(task, error)

    def steps(self, task: messages.Task, context: Context, outlet: Outlet) -> Generator[None, None, messages.Answer]:
        """Run a function that yields, and give its parts to ``outlet``; the end is the answer. Yields while that has no room."""
        if self.wants_context:
            context.state = self.state
        try:
            arguments = self._signature.arguments(task.body, context)
        except Exception as error:
            return _bad_request(task, error)
        try:
            with contextlib.closing(self._call(**arguments)) as parts:
                for part in parts:
                    body = self._signature.body_of_part(part)
                    while not (outlet.has_room or context.is_cancelled):
                        yield
                    if context.is_cancelled:
                        return cancelled(task.id)
                    outlet.send(body)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self._failed(task, error)
        return messages.Answer(task.id, Status.STREAMED, streamed_body(outlet.sent))

    def _list_of(self, task: messages.Task, parts: Any, context: Context) -> messages.Answer:
        made: list[Any] = []
        with contextlib.closing(parts):
            for part in parts:
                made.append(part)
                if context.is_cancelled:
                    return cancelled(task.id)
        return self._answer(task, made)

    async def _streamed_async(self, task: messages.Task, parts: Any, outlet: Outlet | None) -> messages.Answer:
        made: list[Any] = []
        async with contextlib.aclosing(parts):
            async for part in parts:
                if outlet is None:
                    made.append(part)
                    continue
                body = self._signature.body_of_part(part)
                if not await outlet.has_room_async():
                    return cancelled(task.id)
                outlet.send(body)
        if outlet is None:
            return self._answer(task, made)
        return messages.Answer(task.id, Status.STREAMED, streamed_body(outlet.sent))

    def run_batch(self, tasks: Sequence[messages.Task], awaited: Callable[[Any], Any] | None) -> list[messages.Answer]:
        """Call a function that takes a list, once for all ``tasks`` whose bodies are right; the answer to each, in order.

        ``awaited`` waits for the coroutine of an async function. Of its results one that is an exception is the error of its
        task; an exception that is raised is that of all.
        """
        if (found := tracer()) is None:
            return self._run_batch(tasks, awaited)
        with processing_all(found, tasks) as span:
            answers = self._run_batch(tasks, awaited)
            tell_answers(span, answers)
        return answers

    def _run_batch(self, tasks: Sequence[messages.Task], awaited: Callable[[Any], Any] | None) -> list[messages.Answer]:
        answers: dict[int, messages.Answer] = {}
        values: list[Any] = []
        for task in tasks:
            try:
                values += self._signature.arguments(task.body, None).values()
            except Exception as error:
                answers[task.id] = _bad_request(task, error)
        called = [task for task in tasks if task.id not in answers]
        try:
            results = list(self._results(values, awaited)) if called else []
            if len(results) != len(called):
                raise TypeError(
                    f"{name_of(self.function)} was given {len(called)} requests and returned {len(results)} results"
                )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return [answers.get(task.id) or self._failed(task, error) for task in tasks]
        for task, result in zip(called, results, strict=True):
            answers[task.id] = self._answer_or_error(task, result)
        return [answers[task.id] for task in tasks]

    def _results(self, values: list[Any], awaited: Callable[[Any], Any] | None) -> Any:
        results = self._call(values)
        return results if awaited is None else awaited(results)

    def _answer_or_error(self, task: messages.Task, result: Any) -> messages.Answer:
        if isinstance(result, BaseException):
            return self._failed(task, result)
        try:
            return self._answer(task, result)
        except Exception as error:  # it has no form
            return self._failed(task, error)

    def _answer(self, task: messages.Task, result: Any) -> messages.Answer:
        if type(result) is bytes and not self._signature.has_codec:
            return messages.Answer(task.id, OK, result)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(f"{name_of(self.function)} returned a coroutine: its decorator needs functools.wraps")
        return messages.Answer(task.id, OK, self._signature.body_of(result))

    def _failed(self, task: messages.Task, error: BaseException) -> messages.Answer:
        answer = failed(task, error)
        after_s = self.retrying.after_s(error, task.retries, self._chance())
        if after_s is not None:
            answer.status, answer.retry_after_s = Status.RETRY, after_s
        return answer

    def overdue(self, task: messages.Task, stack: str) -> messages.Answer:
        """The answer to a task that has taken longer than the time limit. ``stack`` says where its handler was."""
        text = f"the handler of {task.service!r} has taken longer than its time limit of {self.time_limit_s:g} s"
        answer = self._failed(task, TimeLimit(f"{text} (time_limit_s, or --time-limit)"))
        answer.body = messages.error_body(*messages.error_of(answer.body), stack)
        return answer

    async def run_async(self, task: messages.Task, context: Context, outlet: Outlet | None = None) -> messages.Answer:
        """Call an async function. Whatever it returns or raises becomes the answer, except a cancellation, which is raised."""
        if (found := tracer()) is None:
            return await self._run_async(task, context, outlet)
        with processing(found, task) as span:
            answer = await self._run_async(task, context, outlet)
            tell_answers(span, [answer])
        return answer

    async def _run_async(self, task: messages.Task, context: Context, outlet: Outlet | None) -> messages.Answer:
        if self.wants_context:
            context.state = self.state
        try:
            arguments = self._signature.arguments(task.body, context)
        except Exception as error:  # msgspec raises RecursionError too, and a user's type whatever it likes
            return _bad_request(task, error)
        try:
            if self.is_stream:
                return await self._streamed_async(task, self._call(**arguments), outlet)
            return self._answer(task, await self._call(**arguments))
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return self._failed(task, error)


def failed(task: messages.Task, error: BaseException) -> messages.Answer:
    """The answer to a task whose handler raised ``error``. :class:`~cbw.errors.BadRequest` says that the client is to blame, and
    has no traceback; nor has :class:`~cbw.errors.Failure`, which is meant as an answer.
    """
    if isinstance(error, Failure):
        try:
            return messages.Answer(task.id, Status.FAILED, _failure_body(error))
        except NotEncodable as unusable:
            error = unusable
    if isinstance(error, BadRequest):
        status, traceback = Status.BAD_REQUEST, ""
    else:
        status, traceback = Status.FAILED, traceback_of(error)
    return messages.Answer(task.id, status, messages.error_body(type(error).__name__, _text_of(error), traceback))


def _text_of(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except BaseException as unprintable:  # one that ends the program is not meant here
        return f"and its text cannot be made: {type(unprintable).__name__}"


def _sendable(text: str) -> str:
    """``text`` as :func:`~cbw.visible.writable` makes it; its beginning if it is long."""
    if len(text) > ERROR_TEXT_CHARS_MAX:
        text = f"{text[: ERROR_TEXT_CHARS_MAX - 1]}…"
    return writable(text)


def _failure_body(failure: Failure) -> bytes:
    """The body of an answer that is ``failure``.

    Raises:
        NotEncodable: its data has no form in JSON, or too long a one.
    """
    try:
        data = codec.encode_json(failure.data)
        if len(data) > FAILURE_BYTES_MAX:
            text = f"the data of a failure has {len(data)} bytes as JSON; at most {FAILURE_BYTES_MAX} are sent"
            raise NotEncodable(text, advice="Put what is that large into an answer.")
    except NotEncodable as error:
        raise error from failure.with_traceback(_in_handler(failure.__traceback__))
    return messages.error_body(_sendable(failure.code), _sendable(failure.text), data=data.decode())


def traceback_of(error: BaseException) -> str:
    """Where ``error`` was raised in the handler, and because of what; the end of that if it is long.

    The frames that have called the handler are left out. An error without others is no line of the handler's: its result, say,
    has no form. That has only its text.
    """
    try:
        text = "".join(traceback.format_exception(type(error), error, _in_handler(error.__traceback__)))
        text = writable(text)
    except BaseException as unprintable:  # an exception may do anything when it is printed
        return f"the traceback cannot be made: {type(unprintable).__name__}"
    return text if len(text) <= TRACEBACK_CHARS_MAX else f"…{text[1 - TRACEBACK_CHARS_MAX :]}"


def _in_handler(frames: TracebackType | None) -> TracebackType | None:
    """``frames`` without those at their beginning that are ours, and have called the handler."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return frames


def _bad_request(task: messages.Task, error: Exception) -> messages.Answer:
    text = _sendable(f"the body does not fit: {_text_of(error)}")
    return messages.Answer(task.id, Status.BAD_REQUEST, messages.error_body("bad_request", text))


def cancelled(task_id: int) -> messages.Answer:
    """The answer to a task that was cancelled before it ended."""
    return messages.Answer(task_id, Status.CANCELLED, messages.error_body("cancelled", "cancelled by the client"))


def _below_import(error: BaseException) -> str:
    """Where a module that was imported has raised ``error``."""
    frames = error.__traceback__
    while frames is not None and (
        frames.tb_frame.f_code.co_filename == __file__ or "importlib" in str(frames.tb_frame)
    ):
        frames = frames.tb_next
    return indented(error, frames)


def indented(error: BaseException, frames: TracebackType | None) -> str:
    """``error`` and where it was raised, from ``frames`` on, as the advice of another error is printed."""
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip().replace("\n", "\n     ")


def load(path: str) -> Any:
    """The object at ``package.module:name``. Modules are searched for in the current folder first.

    Raises:
        UsageError: there is none, or its module does not import.
    """
    module_name, separator, name = path.partition(":")
    if not separator or not module_name or not name:
        raise UsageError(f"{path!r} is no handler", advice="Write it as package.module:function.")
    found = load_module(module_name, name)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise UsageError(f"{path}: {error}") from None
    return found


def load_module(module_name: str, name: str = "") -> Any:
    """The module called so. Modules are searched for in the current folder first. ``name`` is of what is wanted of it.

    Raises:
        UsageError: there is none, or it does not import.
    """
    path = f"{module_name}:{name}" if name else module_name
    if module_name.endswith(".py") or "/" in module_name:
        module = module_name.removeprefix("./").removesuffix(".py").replace("/", ".")
        advice = f"Write {module}:{name}." if name else f"Write {module}."
        raise UsageError(f"{module_name!r} is a file, not a module", advice=advice)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        advice = f"Looked in {here} and in the installed packages."
        is_inside = error.name is not None and not f"{module_name}.".startswith(f"{error.name}.")
        importing = f"{module_name} imports it" if is_inside else path
        raise UsageError(f"{importing}: no module named {error.name!r}", advice=advice) from None
    except (Exception, SystemExit) as error:
        text = f"{path} does not import: {type(error).__name__}: {error}"
        raise UsageError(text, advice=_below_import(error)) from error
