"""The services that the tests share with their workers: ``cbw worker --app contract:shop``."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

import cbw

P = ParamSpec("P")
R = TypeVar("R")
LOG = Path(os.environ.get("CBW_TEST_LOG", os.devnull))
PRICES = {"tea": 490, "coffee": 750}

shop = cbw.Service("shop")
plain = cbw.Service("plain")


def note(line: str) -> None:
    """Tell the test something."""
    with LOG.open("a") as file:
        file.write(f"{line}\n")


@dataclass
class Line:
    article: str
    count: int = 1


def audited(function: Callable[P, R]) -> Callable[P, R]:
    """A plain decorator, as it stands around what is served."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        note(f"audited {function.__name__}")
        return function(*args, **kwargs)

    return wrapped


@shop.task()
def price(article: str, count: int = 1) -> int:
    return PRICES[article] * count


@shop.task(name="sum")
@audited
def total(lines: list[Line], *, currency: Literal["EUR", "USD"] = "EUR") -> dict[str, int]:
    return {currency: sum(price(line.article, line.count) for line in lines)}


@shop.task()
async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"waited {seconds} s"


@shop.task()
def maybe(number: int | None) -> int | None:
    return number


@shop.task()
def upper(body: bytes) -> bytes:
    return body.upper()


@shop.task(concurrency=3)
def meet(parties: int) -> int:
    """Returns when so many of these run at once."""
    with _changed:
        _present.append(parties)
        _changed.notify_all()
        _changed.wait_for(lambda: len(_present) >= parties, timeout=30)
        return len(_present)


@shop.task()
def linger(seconds: float) -> None:
    note("lingers")
    time.sleep(seconds)


# --- what is opened in each process


class Store:
    """Stands for a database: it can be used between its opening and its closing, and in the event loop that has opened it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_open = True
        note(f"opened {name} in {os.getpid()}")

    def close(self) -> None:
        self.is_open = False
        note(f"closed {self.name} in {os.getpid()}")


depot = cbw.Service("depot")
archive = cbw.Service("archive")
broken = cbw.Service("broken")
slow = cbw.Service("slow")
stuck = cbw.Service("stuck")


@depot.lifespan
async def open_depot() -> AsyncIterator[Store]:
    store = Store("depot")
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup():  # which must be left by the task that has entered it
        yield store
    assert asyncio.get_running_loop() is loop
    store.close()


@archive.lifespan
def open_archive() -> Iterator[Store]:
    store = Store("archive")
    yield store
    store.close()


@slow.lifespan
def open_slowly() -> Iterator[Store]:
    store = Store("slow")
    time.sleep(0.5)
    yield store
    store.close()


@slow.task()
def doze() -> None: ...


@broken.lifespan
def open_nothing() -> Iterator[None]:
    if "CBW_TEST_WORKS" not in os.environ:
        raise ConnectionError("no database at db:5432")
    yield None


@stuck.lifespan
def never_close() -> Iterator[None]:
    yield
    note("closes for ever")
    threading.Event().wait()


@stuck.task()
def rest() -> None: ...


@depot.task()
async def fetch(context: cbw.Context, article: str) -> str:
    await asyncio.sleep(0)
    return f"{article} {context.state.is_open} {id(asyncio.get_running_loop())}"


@depot.task(concurrency=2)
async def fetch_slowly(context: cbw.Context, seconds: float) -> int:
    note("fetches")
    await asyncio.sleep(seconds)
    note(f"fetched {context.state.is_open}")
    return id(asyncio.get_running_loop())


@archive.task()
def log_line(word: str) -> str:
    logging.getLogger("archive").info("says %s", word)
    context = cbw.Context.current()
    return context.request if context is not None else ""


@depot.task()
async def log_later(word: str) -> str:
    await asyncio.sleep(0.5)  # meanwhile others begin
    logging.getLogger("depot").info("says %s", word)
    context = cbw.Context.current()
    return context.request if context is not None else ""


@archive.task()
def look_up(context: cbw.Context, article: str) -> str:
    return f"{article} {context.state.name}"


@broken.task()
def use(article: str) -> str:
    return article


@archive.task()
def describe(context: cbw.Context) -> dict[str, object]:
    return {
        "request": context.request,
        "client": context.client,
        "service": context.service,
        "attempt": context.attempt,
        "retries": context.retries,
        "is_cancelled": context.is_cancelled,
        "headers": dict(context.headers),
        "has_deadline": context.deadline_at is not None,
        "time_left": context.time_left,
    }


_changed = threading.Condition()
_present: list[int] = []
