"""How errors are told: to people on a few lines, to programs as JSON."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from cbw.cli import output
from cbw.cli.config_file import where_from
from cbw.errors import CbwError, Failure, HandlerFailed, RequestError
from cbw.language import said, translated
from cbw.settings import LOGGER_HOST


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command with these ``arguments`` is to print its errors as JSON, even if nobody can make sense of the others."""
    return "--json" in itertools.takewhile("--".__ne__, arguments)


def as_json(error: CbwError) -> None:
    """Print ``error`` as one JSON object to standard error."""
    output.json(_fields(error), sys.stderr.buffer)


def for_people(error: CbwError) -> None:
    """Print ``error`` to standard error: what happened, what to do, and where a setting that it names was found."""
    if isinstance(error, RequestError):
        error.advice = "\n     ".join([*filter(None, [translated(error.advice)]), *_more(error)])
    output.failure(error, where_from(f"{error} {error.advice}"))


def _fields(error: CbwError) -> dict[str, Any]:
    """All that ``error`` says. What is empty is left out."""
    known = {"error": type(error).__name__, "text": str(error), "advice": error.advice}
    if isinstance(error, RequestError):
        known["text"] = error.text
    names = ("kind", "service", "request", "code", "retry_after_s", "traceback")
    known |= {name: value for name in names if (value := getattr(error, name, None)) is not None}
    found: dict[str, Any] = {name: value for name, value in known.items() if value != ""}
    return found | ({"data": error.data} if isinstance(error, Failure) else {})


def _more(error: RequestError) -> Iterator[str]:
    """Lines for people below the first one."""
    if isinstance(error, Failure) and error.data is not None:
        yield msgspec.json.encode(error.data).decode()
    if isinstance(error, HandlerFailed):
        yield from error.traceback.splitlines()
    if os.environ.get(LOGGER_HOST.environment) and error.request:
        yield said("The log has more: cbw logs story {request}", request=error.request)
