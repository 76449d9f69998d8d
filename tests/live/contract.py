"""The services that the tests share with their workers: ``cbw worker --app contract:shop``."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable
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


_changed = threading.Condition()
_present: list[int] = []
