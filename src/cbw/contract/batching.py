"""Functions that serve many requests with one call: what each of the requests holds, and what its answer is."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from cbw.contract.signature import annotated, name_of, yields
from cbw.errors import UsageError

BATCH_MAX = 10_000
"""Most requests that a handler can be given at once: a worker asks for as many tasks as it takes."""
_LISTS = (list, Sequence)


def checked_batch(batch: int | None, wait_ms: float) -> int | None:
    """``batch``, if a handler can be given so many requests at once; None: it gets one.

    Raises:
        UsageError: it is no such number, or ``wait_ms`` is no time.
    """
    if batch is not None and (type(batch) is not int or not 1 <= batch <= BATCH_MAX):
        raise UsageError(f"batch is {batch!r}; it must be a whole number from 1 to {BATCH_MAX}, or None")
    if not isinstance(wait_ms, (int, float)) or not 0 <= wait_ms < math.inf:
        raise UsageError(f"wait_ms is {wait_ms!r}; it must be a number of milliseconds")
    if wait_ms and batch is None:
        raise UsageError("wait_ms is for batches", advice="Give batch, too.")
    return batch


def one_of(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """A function that takes one of what ``function`` takes a list of, and returns one of what it returns. It is never called.

    Raises:
        UsageError: ``function`` takes anything but one list.
    """
    name = name_of(function)
    try:
        hints = typing.get_type_hints(annotated(function))
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, NameError, ValueError) as error:
        raise UsageError(f"{name} cannot be a handler: {error}") from None
    item = _member(hints.get(parameters[0].name)) if len(parameters) == 1 else None
    if item is None:
        advice = "Write one parameter: def handler(articles: list[str]) -> list[int]."
        raise UsageError(f"{name} cannot be given batches: it does not take one list", advice=advice)
    if yields(function):
        raise UsageError(f"{name} cannot be given batches: it yields", advice="Return a list.")
    result = _without_errors(_member(hints.get("return")) or Any)

    def one(value: Any) -> Any:
        raise NotImplementedError(name)

    parameter = parameters[0].replace(annotation=item)
    one.__qualname__, one.__doc__ = name, inspect.getdoc(annotated(function))
    one.__annotations__ = {parameter.name: item, "return": result}
    vars(one)["__signature__"] = inspect.Signature([parameter], return_annotation=result)
    return one


def _member(kind: Any) -> Any:
    """The type of a list's members: of ``list[int]``, ``int``; None: it is no list of anything."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) in _LISTS else None


def _without_errors(kind: Any) -> Any:
    """``kind`` without the exceptions that stand for answers in a list of results."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    kinds = [one for one in typing.get_args(kind) if not (isinstance(one, type) and issubclass(one, Exception))]
    return typing.Union[tuple(kinds)]  # noqa: UP007 - made at run time
