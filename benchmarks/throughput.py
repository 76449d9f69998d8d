"""Requests per second with a window of 256, against nats-py request/reply through nats-server in the same run."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from cbw.bench import Load, measure

ROUNDS = 3
SECONDS = 4.0
WINDOW = 256
BODY = b"x" * 100


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Two loads of ``cbw`` and the peer, in turns; the best of each."""
    ours: dict[tuple[int, int], float] = {}
    peer = 0.0
    for _ in range(ROUNDS):
        for clients, workers in ((1, 1), (4, 2)):
            load = Load(clients=clients, workers=workers, window=WINDOW, seconds=SECONDS)
            ours[clients, workers] = max(ours.get((clients, workers), 0.0), measure(load).requests_per_s)
        if shutil.which("nats-server"):
            peer = max(peer, nats())
    said = f"nats-py through nats-server: {peer:,.0f}/s" if peer else "nats-server is not installed"
    for (clients, workers), best in ours.items():
        name = (
            f"throughput, {clients} client{'s' * (clients > 1)}, {workers} worker{'s' * (workers > 1)}, window {WINDOW}"
        )
        yield name, f"{best:,.0f} requests/s", said, f"{best / peer:.1f}" if peer else "-"


def nats() -> float:
    """Requests per second of one nats-py client with one nats-py responder, each a process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["nats-server", "-a", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    responder = None
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        responder = subprocess.Popen([sys.executable, __file__, str(port)])
        return asyncio.run(_request(f"nats://127.0.0.1:{port}"))
    finally:
        for process in (responder, server):
            if process is not None:
                process.kill()
                process.wait()


async def _request(url: str) -> float:
    import nats as nats_py

    client: Any = await nats_py.connect(url)
    while True:
        try:
            await client.request("echo", BODY, timeout=1)
            break
        except Exception:  # the responder is not there yet
            await asyncio.sleep(0.05)
    await _flood(client, 1.0)
    answered = await _flood(client, SECONDS)
    await client.close()
    return answered / SECONDS


async def _flood(client: Any, seconds: float) -> int:
    end_at = time.perf_counter() + seconds
    answered = 0

    async def one() -> None:
        nonlocal answered
        while time.perf_counter() < end_at:
            await client.request("echo", BODY, timeout=30)
            answered += 1

    await asyncio.gather(*(one() for _ in range(WINDOW)))
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
        asyncio.run(_respond(f"nats://127.0.0.1:{sys.argv[1]}"))
    else:
        for row in rows():
            print(*row, sep=" | ")
