"""A user's function as a handler: how its arguments are read from a body, and its result or exception told."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cbw import codec
from cbw.core import messages as m
from cbw.core.messages import Status
from cbw.errors import BadRequest, UsageError


class Attempt:
    """What a handler can know about the attempt that it is: ask for it with a parameter annotated ``cbw.Attempt``.

    ``number`` counts from 1; above 1, earlier attempts took their workers down and may have done part of the work.
    """

    __slots__ = ("_clock", "_deadline_at", "is_cancelled", "number", "service", "task")

    def __init__(self, task: m.Task, received_at: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.task = task.id
        self.service = task.service
        self.number = task.attempt
        self.is_cancelled = False
        self._deadline_at = None if task.ttl is None else received_at + task.ttl
        self._clock = clock

    @property
    def time_left(self) -> float | None:
        """Seconds until nobody waits for the answer any more; None: no deadline."""
        return None if self._deadline_at is None else self._deadline_at - self._clock()


class Handler:
    """A function and the service that it serves.

    A function with one parameter gets the body, read by the parameter's annotation (none and ``bytes``: as it is, ``str``:
    UTF-8, else: JSON of that type). With several parameters the body is a JSON object with their names and no others. A parameter
    annotated :class:`Attempt` is given the attempt and takes nothing from the body.

    Raises:
        UsageError: the function cannot be called like that.
    """

    def __init__(self, service: str, function: Callable[..., Any]) -> None:
        self.service = service
        self.function = function
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(f"{_name(function)} cannot be a handler: it yields, and a request has one answer")
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        try:
            hints = typing.get_type_hints(_annotated(function), include_extras=True)
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, NameError, ValueError) as error:
            raise UsageError(f"{_name(function)} cannot be a handler: {error}") from None
        self._attempt_name: str | None = None
        fields: list[tuple[str, Any, Any]] = []
        for parameter in parameters:
            kind = hints.get(parameter.name, bytes)
            if kind is Attempt:
                self._attempt_name = parameter.name
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise UsageError(f"{_name(function)} cannot be a handler: parameter {parameter} has no single name")
            elif parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
                default = msgspec.NODEFAULT if parameter.default is parameter.empty else parameter.default
                fields.append((parameter.name, kind, default))
        self._single = fields[0] if len(fields) == 1 else None
        self._is_raw = self._single is not None and self._single[1] in (bytes, Any)
        self._struct = (
            None
            if len(fields) <= 1
            else msgspec.defstruct(f"{_name(function)}_body", fields, kw_only=True, forbid_unknown_fields=True)
        )

    def arguments(self, task: m.Task, attempt: Attempt) -> dict[str, Any]:
        """The keyword arguments for ``task``; what they raise is the client's error."""
        arguments: dict[str, Any] = {}
        if self._single is not None:
            name, kind, default = self._single
            if not task.body and default is not msgspec.NODEFAULT:
                arguments[name] = default
            else:
                arguments[name] = codec.decode(task.body, bytes if self._is_raw else kind)
        elif self._struct is not None:
            arguments = msgspec.structs.asdict(msgspec.json.decode(task.body, type=self._struct))
        if self._attempt_name is not None:
            arguments[self._attempt_name] = attempt
        return arguments

    def run(self, task: m.Task, attempt: Attempt) -> m.Answer:
        """Run a sync handler; whatever happens in it becomes the answer."""
        if self._is_raw and self._attempt_name is None:
            try:
                return _answer(task, self.function(task.body if type(task.body) is bytes else bytes(task.body)))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit too: it would end the thread, and nobody would answer
                return failed(task, error)
        try:
            arguments = self.arguments(task, attempt)
        except Exception as error:  # msgspec raises RecursionError too, and a user's type whatever it likes
            return _bad_request(task, error)
        try:
            return _answer(task, self.function(**arguments))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return failed(task, error)

    async def run_async(self, task: m.Task, attempt: Attempt) -> m.Answer:
        """Run an async handler; the same, and a cancellation is told as well."""
        try:
            arguments = self.arguments(task, attempt)
        except Exception as error:  # msgspec raises RecursionError too, and a user's type whatever it likes
            return _bad_request(task, error)
        try:
            return _answer(task, await self.function(**arguments))
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return failed(task, error)


def _answer(task: m.Task, result: Any) -> m.Answer:
    return m.Answer(task.id, Status.OK, result if type(result) is bytes else codec.encode(result))


def failed(task: m.Task, error: BaseException) -> m.Answer:
    """The answer of a task whose handler raised ``error``. A :class:`~cbw.errors.BadRequest` is the client's error."""
    try:
        text = str(error).encode(errors="backslashreplace").decode()  # names of files may hold lone surrogates
    except Exception as unprintable:
        text = f"and its text cannot be made: {type(unprintable).__name__}"
    status = Status.BAD_REQUEST if isinstance(error, BadRequest) else Status.FAILED
    return m.Answer(task.id, status, m.error_body(type(error).__name__, text))


def _bad_request(task: m.Task, error: Exception) -> m.Answer:
    return m.Answer(task.id, Status.BAD_REQUEST, m.error_body("bad_request", f"the body does not fit: {error}"))


def cancelled(task_id: int) -> m.Answer:
    """The answer of a task that was cancelled before it ended."""
    return m.Answer(task_id, Status.CANCELLED, m.error_body("cancelled", "cancelled by the client"))


def _annotated(function: Callable[..., Any]) -> Callable[..., Any]:
    """What tells the types of its parameters."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def load(path: str) -> Any:
    """The object at ``package.module:name``; the current folder is looked in first.

    Raises:
        UsageError: there is none, or its module does not import.
    """
    module_name, separator, name = path.partition(":")
    if not separator or not module_name or not name:
        raise UsageError(f"{path!r} is no handler", advice="Write it as package.module:function.")
    if module_name.endswith(".py") or "/" in module_name:
        module = module_name.removeprefix("./").removesuffix(".py").replace("/", ".")
        raise UsageError(f"{module_name!r} is a file, not a module", advice=f"Write {module}:{name}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        advice = f"Looked in {here} and in the installed packages."
        is_inside = error.name is not None and not f"{module_name}.".startswith(f"{error.name}.")
        importing = f"{module_name} imports it" if is_inside else path
        raise UsageError(f"{importing}: no module named {error.name!r}", advice=advice) from None
    except AttributeError as error:
        raise UsageError(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return found
