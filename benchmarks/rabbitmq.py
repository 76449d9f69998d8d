"""RabbitMQ as a durable request queue: persistent messages, publisher confirms, manual acks, a durable reply queue.

``python -m benchmarks.rabbitmq`` needs Debian's rabbitmq-server and aio-pika (``pip install aio-pika``), and a server that runs
on this machine with its default user. It counts what ``benchmarks.durable`` counts for cbw: answers that came back.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
import time
from typing import Any

from benchmarks.program import HOST, running

URL = "amqp://guest:guest@127.0.0.1/"
PORT = 5672
REQUESTS, REPLIES = "cbw-bench-requests", "cbw-bench-replies"
WINDOW = 256
SECONDS = 4.0
BODY = b"x" * 100


def is_there() -> bool:
    """Whether a server answers on this machine, and the library is installed."""
    with socket.socket() as probe:
        return importlib.util.find_spec("aio_pika") is not None and probe.connect_ex((HOST, PORT)) == 0


def requests_per_s() -> float:
    """Answers that one client gets a second from one worker, each a process."""
    with running([sys.executable, "-m", "benchmarks.rabbitmq", "worker"]):
        return asyncio.run(_request())


async def _open() -> Any:
    import aio_pika  # type: ignore[import-not-found]

    connection = await aio_pika.connect(URL)
    channel = await connection.channel(publisher_confirms=True)
    for queue in (REQUESTS, REPLIES):
        await channel.declare_queue(queue, durable=True)
    return connection, channel


async def _publish(channel: Any, queue: str, body: bytes, correlation_id: str) -> None:
    import aio_pika

    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, correlation_id=correlation_id)
    await channel.default_exchange.publish(message, routing_key=queue)


async def _request() -> float:
    connection, channel = await _open()
    for name in (REQUESTS, REPLIES):
        await (await channel.get_queue(name)).purge()
    await channel.set_qos(prefetch_count=WINDOW)
    answers: dict[str, asyncio.Future[bytes]] = {}

    async def answered(message: Any) -> None:
        if (future := answers.pop(message.correlation_id, None)) is not None:
            future.set_result(message.body)
        await message.ack()

    await (await channel.get_queue(REPLIES)).consume(answered)
    count = 0
    end_at = time.perf_counter() + 1.0 + SECONDS
    warm_at = end_at - SECONDS

    async def one(name: int) -> None:
        nonlocal count
        number = 0
        while (now := time.perf_counter()) < end_at:
            number += 1
            key = f"{name}-{number}"
            future = answers[key] = asyncio.get_running_loop().create_future()
            await _publish(channel, REQUESTS, BODY, key)
            await asyncio.wait_for(future, 30)
            count += now >= warm_at

    await asyncio.gather(*(one(name) for name in range(WINDOW)))
    await connection.close()
    return count / SECONDS


async def _work() -> None:
    _, channel = await _open()
    await channel.set_qos(prefetch_count=WINDOW)

    async def work(message: Any) -> None:
        await _publish(channel, REPLIES, message.body, message.correlation_id)
        await message.ack()

    await (await channel.get_queue(REQUESTS)).consume(work)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_work())
    else:
        print(f"{requests_per_s():,.0f} requests/s")
