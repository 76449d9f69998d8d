"""Dramatiq with RabbitMQ as broker and Redis for results.

- Its queues are durable, its messages persistent, and a message is acknowledged when its actor is done; a message is tried
  again up to 20 times. https://dramatiq.io/best_practices.html and https://dramatiq.io/motivation.html
- ``confirm_delivery``: a request counts as asked when RabbitMQ has confirmed it, which for a durable queue is when it is on disk.
  https://dramatiq.io/reference.html#dramatiq.brokers.rabbitmq.RabbitmqBroker, https://www.rabbitmq.com/docs/confirms
- ``Results`` with the Redis backend, which is the way to get an answer: https://dramatiq.io/guide.html#results
- Classic queues: Dramatiq declares them itself, and has no option for quorum queues, which RabbitMQ recommends where data must be
  safe. https://github.com/Bogdanp/dramatiq/pull/871, https://www.rabbitmq.com/docs/classic-queues
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import client, server
from benchmarks.faults.handler import handle
from benchmarks.faults.system import HOST, PORTS, QUEUE, Command, ComparedSystem, ports_of

MODULE = "benchmarks.faults.dramatiq_rabbitmq"


def _servers(_: str, folder: Path, ports: Sequence[int]) -> list[Command]:
    redis_port, epmd_port, distribution_port, port = ports
    return [
        server.redis(folder, redis_port),
        server.epmd(epmd_port),
        server.rabbitmq(folder, port, distribution_port, epmd_port),
    ]


def _worker(python: str, _: str, __: Sequence[int]) -> Command:
    return Command([python, "-m", "dramatiq", f"{MODULE}:set_up", "--processes", "1", "--threads", "1"])


SYSTEM = ComparedSystem(
    name="Dramatiq + RabbitMQ",
    module=MODULE,
    ports=4,
    servers=_servers,
    worker=_worker,
    settings="durable queues, persistent messages, `confirm_delivery`, results in Redis with AOF `appendfsync always`",
    programs={server.RABBITMQ: "rabbitmq-server", "redis-server": "redis-server"},
    libraries=("dramatiq", "pika", "redis"),
    child="the worker process under its main process",
)


def set_up() -> Any:
    """Make the broker and the actor, in workers and in the client."""
    import dramatiq  # type: ignore[import-not-found]
    from dramatiq.brokers.rabbitmq import RabbitmqBroker  # type: ignore[import-not-found]
    from dramatiq.results import Results  # type: ignore[import-not-found]
    from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]

    redis_port, *_, port = ports_of(os.environ[PORTS])
    broker = RabbitmqBroker(url=f"amqp://guest:guest@{HOST}:{port}", confirm_delivery=True)
    broker.add_middleware(Results(backend=RedisBackend(url=f"redis://{HOST}:{redis_port}/0")))
    dramatiq.set_broker(broker)
    return dramatiq.actor(handle, actor_name="handle", queue_name=QUEUE, store_results=True)


class Asker:
    """Sends messages, and asks the result backend for their results."""

    def __init__(self) -> None:
        self._actor = set_up()

    def ask(self, request: str) -> object:
        return self._actor.send(request)

    def answer_of(self, handle: object) -> str | None:
        from dramatiq.results.errors import ResultFailure, ResultMissing  # type: ignore[import-not-found]

        try:
            return str(handle.get_result(block=False))  # type: ignore[attr-defined]
        except ResultMissing:
            return None
        except ResultFailure as error:
            raise client.RequestFailed(repr(error)) from None


if __name__ == "__main__" and sys.argv[1:2] == ["client"]:
    client.run(Asker())
