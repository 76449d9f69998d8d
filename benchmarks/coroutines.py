"""``AsyncClient`` with 256 coroutines, against nats-py with as many in the same run, with asyncio's loop and with uvloop; how
``submit`` compares with ``map``, and typed tasks with raw bytes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import cbw
from benchmarks.figure import Row, in_turns, print_rows
from benchmarks.program import HOST, free_port, running
from benchmarks.throughput import flood, nats_client

ROUNDS = 3
SECONDS = 1.5
COROUTINES = 256
BODY = b"x" * 100
shop = cbw.Service("coroutines")


@shop.task()
def price(article: str, count: int = 1) -> dict[str, int]:
    """A typed task, to be compared with :func:`echo`."""
    return {article: count}


@shop.task()
def echo(body: bytes) -> bytes:
    """A raw one."""
    return body


def rows() -> Iterator[Row]:
    """All of them in turns; the best of each."""
    loops = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
    measures = {(what, loop): partial(rate, what, loop) for loop in loops for what in WAYS}
    best = {key: max(rates) for key, rates in in_turns(ROUNDS, measures).items()}
    for loop in loops:
        of = {what: best[what, loop] for what in WAYS}
        for what, peer in (("call", "nats"), ("submit", "map"), ("typed", "call")):
            ratio = f"{of[what] / of[peer]:.2f}"
            yield Row(
                f"{what}, {COROUTINES} coroutines, {loop}", f"{of[what]:,.0f}/s", f"{peer}: {of[peer]:,.0f}/s", ratio
            )


def rate(what: str, loop: str) -> float:
    """Requests per second of a client in a process of its own."""
    port, workers = free_port(), free_port()
    with ExitStack() as stack:
        if what == "nats":
            stack.enter_context(running(["nats-server", "-a", HOST, "-p", str(port)], port))
            stack.enter_context(running([sys.executable, "-m", "benchmarks.throughput", str(port)]))
        else:
            command = [sys.executable, "-m", "cbw", "broker", str(port), str(workers), "--status-port", "0"]
            stack.enter_context(running(command, port))
            command = [
                sys.executable,
                "-m",
                "cbw",
                "worker",
                "W1",
                HOST,
                str(workers),
                "--app",
                "benchmarks.coroutines",
            ]
            stack.enter_context(running([*command, "--status-port", "0"]))
        reading, writing = os.pipe()
        pid = os.fork()  # each client has a process of its own, and a loop that nobody has used
        if not pid:
            os.write(writing, str(_measure(what, loop, port)).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answered = float(pipe.read())
        os.waitpid(pid, 0)
    return answered


def _measure(what: str, loop: str, port: int) -> float:
    run: Callable[..., float] = asyncio.run
    if loop == "uvloop":
        run = importlib.import_module("uvloop").run
    return run(WAYS[what](port))


async def _ours(what: str, port: int) -> float:
    async with cbw.AsyncClient(f"{HOST}:{port}") as client:
        await client.call(echo, BODY)  # until the worker is there
        asks: dict[str, Callable[[], Awaitable[Any]]] = {
            "call": lambda: client.call(BODY, echo.name),
            "submit": lambda: client.submit(BODY, echo.name),
            "typed": lambda: client.call(price, "tea", count=3),
        }
        if what != "map":
            return await _flood(asks[what])
        end_at, answered = time.perf_counter() + SECONDS, 0
        bodies = iter(lambda: BODY if time.perf_counter() < end_at else None, None)
        async for _ in client.map(bodies, echo.name, window=COROUTINES):
            answered += 1
        return answered / SECONDS


async def _nats(port: int) -> float:
    client = await nats_client(f"nats://{HOST}:{port}")
    found = await _flood(lambda: client.request("echo", BODY, timeout=30))
    await client.close()
    return found


async def _flood(ask: Callable[[], Awaitable[Any]]) -> float:
    """Answers per second."""
    return await flood(ask, COROUTINES, SECONDS) / SECONDS


WAYS: dict[str, Callable[[int], Any]] = {
    **{what: partial(_ours, what) for what in ("call", "submit", "map", "typed")},
    "nats": _nats,
}


if __name__ == "__main__":
    print_rows(rows())
