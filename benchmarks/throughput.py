"""Requests per second with a window of 256, against nats-py request/reply through nats-server in the same run."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.figure import Row, in_turns, print_rows
from benchmarks.program import HOST, free_port, running
from cbw.bench import Load, measure

ROUNDS = 3
SECONDS = 4.0
WINDOW = 256
BODY = b"x" * 100
LOADS = {
    f"throughput, 1 client, 1 worker, window {WINDOW}": Load(window=WINDOW, seconds=SECONDS),
    f"throughput, 4 clients, 2 workers, window {WINDOW}": Load(clients=4, workers=2, window=WINDOW, seconds=SECONDS),
}
FIGURES = tuple(LOADS)


def rows() -> Iterator[Row]:
    """Two loads of ``cbw`` and the peer, in turns; the best of each."""
    measures = {name: partial(rate, load) for name, load in LOADS.items()}
    if shutil.which("nats-server") is not None:
        measures["nats"] = partial(nats)
    best = {name: max(rates) for name, rates in in_turns(ROUNDS, measures).items()}
    peer = best.get("nats", 0.0)
    said = f"nats-py through nats-server: {peer:,.0f}/s" if peer else "nats-server is not installed"
    for name in FIGURES:
        yield Row(name, f"{best[name]:,.0f} requests/s", said, f"{best[name] / peer:.1f}" if peer else "-")


def rate(load: Load) -> float:
    """Requests per second under ``load``."""
    return measure(load).requests_per_s


def nats() -> float:
    """Requests per second of one nats-py client with one nats-py responder, each a process."""
    port = free_port()
    server = running(["nats-server", "-a", HOST, "-p", str(port)], port)
    with server, running([sys.executable, "-m", "benchmarks.throughput", str(port)]):
        return asyncio.run(_request(f"nats://{HOST}:{port}"))


async def _request(url: str) -> float:
    client = await nats_client(url)
    await _flood(client, 1.0)
    answered = await _flood(client, SECONDS)
    await client.close()
    return answered / SECONDS


async def nats_client(url: str) -> Any:
    """A client of nats-py, once its responder is there."""
    import nats as nats_py

    client: Any = await nats_py.connect(url)
    while True:
        try:
            await client.request("echo", BODY, timeout=1)
            return client
        except Exception:  # the responder is not there yet
            await asyncio.sleep(0.05)


async def _flood(client: Any, seconds: float) -> int:
    return await flood(lambda: client.request("echo", BODY, timeout=30), WINDOW, seconds)


async def flood(ask: Callable[[], Awaitable[Any]], coroutines: int, seconds: float) -> int:
    """How many answers that many ``coroutines`` get in ``seconds``, each of which asks for one after another."""
    end_at = time.perf_counter() + seconds
    answered = 0

    async def one() -> None:
        nonlocal answered
        while time.perf_counter() < end_at:
            await ask()
            answered += 1

    await asyncio.gather(*(one() for _ in range(coroutines)))
    return answered


async def _respond(url: str) -> None:
    import nats as nats_py

    client: Any = await nats_py.connect(url)

    async def answer(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe("echo", cb=answer)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_respond(f"nats://{HOST}:{sys.argv[1]}"))
    else:
        print_rows(rows())
