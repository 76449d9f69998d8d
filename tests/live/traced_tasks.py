"""Tasks whose worker has OpenTelemetry: it is set up when the module is imported, as a program of a user does."""

from __future__ import annotations

import os
from collections.abc import Iterator

from opentelemetry import trace

import cbw

from . import otel_setup

if "CBW_TEST_SPANS" in os.environ:
    otel_setup.set_up()
traced = cbw.Service("traced")


@traced.task()
def work(word: str) -> str:
    with trace.get_tracer("mine").start_as_current_span("inside"):
        return word.upper()


@traced.task()
async def later(word: str) -> str:
    with trace.get_tracer("mine").start_as_current_span("inside"):
        return word.upper()


@traced.task(retries=1, retry_on=(ConnectionError,), backoff_s=(0.0, 0.0))
def flaky(context: cbw.Context) -> int:
    if context.retries == 0:
        raise ConnectionError("not yet")
    return context.retries


@traced.task()
def broken() -> None:
    raise LookupError("no such thing")


@traced.task()
def parts() -> Iterator[int]:
    yield from range(3)


@traced.task(batch=10, wait_ms=200)
def many(words: list[str]) -> list[int]:
    return [len(word) for word in words]
