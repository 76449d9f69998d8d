"""What type checkers know of a call: mypy and pyright must accept what is right, and find each mistake.

Pyright is tried as ``basedpyright``, which is the same checker with all that it needs in one package.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NAMES = ("contract.py", "right.py", "wrong.py")
CONTRACT = """
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import cbw

shop = cbw.Service("shop")


@shop.task(name="price", concurrency=4, retries=3)
def price(article: str, count: int = 1) -> int:
    return len(article) * count


@shop.task()
async def wait(seconds: float) -> str:
    return str(seconds)


@shop.task()
def told(context: cbw.Context, article: str) -> dict[str, int]:
    return {article: context.attempt}


@shop.task()
async def told_later(context: cbw.Context, article: str, *, size: Literal["S", "L"] = "S") -> int | None:
    return context.attempt if article else None


@shop.task()
def count(to: int) -> Iterator[int]:
    yield from range(to)


@shop.task()
async def spell(context: cbw.Context, word: str) -> AsyncIterator[str]:
    for letter in word:
        yield letter


@shop.task(batch=8)
def lengths(words: list[str]) -> list[int]:
    return [len(word) for word in words]


@shop.task(batch=8, wait_ms=2)
async def lengths_later(words: list[str]) -> list[int | Exception]:
    return [len(word) for word in words]


@shop.task()
def store(name: str) -> None:
    return None
"""
RIGHT = """
import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, assert_type

import cbw
from contract import count, lengths, lengths_later, price, spell, store, told, told_later, wait


@dataclass
class Line:
    article: str


def ask(client: cbw.Client) -> None:
    assert_type(client.call(price, "tea", count=3), int)
    assert_type(client.call(price, article="tea"), int)
    assert_type(client.call(price.with_options(timeout=2, priority=9), "tea"), int)
    assert_type(client.call(wait, 1.0), str)
    assert_type(client.call(told, "tea"), dict[str, int])
    assert_type(client.call(told_later, "tea", size="L"), int | None)
    client.call(store, "tea")
    assert_type(client.submit(price, "tea"), Future[int])
    assert_type(client.submit("tea", "shop.price", returns=int), Future[int])
    assert_type(client.start(price, "tea", 3), cbw.Ticket)
    for cents in client.map(price, ["tea", "coffee"]):
        assert_type(cents, int)
    for cents in client.map(price, ["tea", "coffee"], [1, 2], window=4):
        assert_type(cents, int)
    for number in client.map(told_later, iter(["tea"])):
        assert_type(number, int | None)


def read(client: cbw.Client) -> None:
    assert_type(client.stream(count, 3), cbw.AnswerStream[int])
    assert_type(client.stream(count.with_options(restart=True), 3), cbw.AnswerStream[int])
    for letter in client.stream(spell, word="tea"):
        assert_type(letter, str)
    assert_type(client.call(count, 3), list[int])
    assert_type(client.call(lengths, "tea"), int)
    assert_type(client.submit(lengths_later, "tea"), Future[int])
    for length in client.map(lengths, ["tea"]):
        assert_type(length, int)
    assert_type(client.call(spell, "tea"), list[str])
    for part in client.stream(b"tea", "shop.spell"):
        assert_type(part, bytes)
    for number in client.stream({"to": 3}, "shop.count", returns=int, restart=True, on_progress=print):
        assert_type(number, int)


async def read_async(client: cbw.AsyncClient) -> None:
    async for number in client.stream(count, 3):
        assert_type(number, int)
    async for letter in client.stream(spell, "tea"):
        assert_type(letter, str)
    assert_type(await client.call(spell, "tea"), list[str])
    assert_type(await client.call(price.with_options(on_progress=print), "tea"), int)


def ask_by_name(client: cbw.Client) -> None:
    assert_type(client.call(b"tea", "shop.price"), bytes)
    assert_type(client.call(), bytes)
    assert_type(client.call(Line("tea"), "shop.price", returns=int), int)
    assert_type(client.call({"article": "tea"}, "shop.price", returns=list[int]), list[int])
    maybe: int | None = client.call([1, 2], "maybe", returns=int | None)
    chosen: Literal["a"] = client.call(1, "choose", returns=Literal["a"])
    client.call(None, "store", returns=None)
    assert_type(client.result("T1", returns=int), int)
    print(maybe, chosen)


async def ask_async(client: cbw.AsyncClient) -> None:
    assert_type(await client.call(price, "tea", count=3), int)
    assert_type(await client.call(told_later, "tea"), int | None)
    assert_type(client.submit(price, "tea"), asyncio.Future[int])
    assert_type(await client.start(wait, 1.0), cbw.Ticket)
    async for cents in client.map(price, ["tea"]):
        assert_type(cents, int)
    assert_type(await client.call(b"tea", "shop.price", returns=int), int)


async def call_them() -> None:
    assert_type(price("tea", count=3), int)
    assert_type(await wait(1.0), str)
"""
WRONG = """
import cbw
from contract import count, lengths, price, shop, told, told_later, wait


def ask(client: cbw.Client) -> None:
    client.call(price)  # wrong
    client.call(price, 3)  # wrong
    client.call(price, "tea", count="3")  # wrong
    client.call(price, "tea", 3, 4)  # wrong
    client.call(price, "tea", nosuch=3)  # wrong
    client.call(price, "tea", timeout=3)  # wrong
    client.call(told, "tea", context=None)  # wrong
    client.call(told_later, "tea", size="M")  # wrong
    cents: str = client.call(price, "tea")  # wrong
    client.call(price.with_options(patience=3), "tea")  # wrong
    client.call(price.with_options(timeout="3"), "tea")  # wrong
    client.call(lambda: 3, "shop.price")  # wrong
    client.submit(price, 3)  # wrong
    client.start(price)  # wrong
    client.map(price, [3])  # wrong
    client.map(wait, ["3"])  # wrong
    client.map(price, ["tea"], ["3"])  # wrong
    client.stream(count, "3")  # wrong
    client.stream(price, "tea")  # wrong
    client.call(lengths, ["tea"])  # wrong
    client.call(lengths, 3)  # wrong
    word: str = next(client.stream(count, 3))  # wrong
    print(cents, word)


async def ask_async(client: cbw.AsyncClient) -> None:
    await client.call(price, 3)  # wrong
    await client.call(price, "tea", count="3")  # wrong
    client.map(price, [3])  # wrong
    price(3)  # wrong
    told("tea")  # wrong


shop.task(concurrency="4")  # wrong
"""


Mistakes = dict[str, set[int]]
"""The lines of each file in which there are some."""


def mypy(folder: Path) -> Mistakes:
    """What mypy finds."""
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), *NAMES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert re.search(r"^(Found|Success)", done.stdout, re.MULTILINE)
    found: Mistakes = {}
    for name, line in re.findall(r"^(\S+):(\d+): error", done.stdout, re.MULTILINE):
        found.setdefault(name, set()).add(int(line))
    return found


def pyright(folder: Path) -> Mistakes:
    """What pyright finds."""
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict", "pythonVersion": "3.11"}))
    command = [str(Path(sys.executable).parent / "basedpyright"), "--pythonpath", sys.executable, "--outputjson", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(NAMES)
    found: Mistakes = {}
    for one in said["generalDiagnostics"]:
        if one["severity"] == "error":
            found.setdefault(Path(one["file"]).name, set()).add(one["range"]["start"]["line"] + 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_checker_accepts_what_is_right_and_finds_each_mistake(
    checker: Callable[[Path], Mistakes], tmp_path: Path
) -> None:
    for name, program in zip(NAMES, (CONTRACT, RIGHT, WRONG), strict=True):
        (tmp_path / name).write_text(program)
    marked = {number for number, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert checker(tmp_path) == {"wrong.py": marked}
