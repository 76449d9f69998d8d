"""taskiq with NATS JetStream as broker and NATS's object store for results.

- ``PullBasedJetStreamBroker`` with a durable consumer: a message is acknowledged by the worker, and delivered again when it was
  not. https://github.com/taskiq-python/taskiq-nats#nats-broker-based-on-jetstream
- ``ack_wait`` 30 s, which is the default: https://docs.nats.io/nats-concepts/jetstream/consumers
- ``--ack-type when_saved``, which is the default: acknowledged when the result is stored.
  https://taskiq-python.github.io/guide/cli.html
- The client gives each look for a result 5 s. Without that, a look during which the server dies may never return: the object
  store of nats-py waits for the rest of the object without a time limit. (Seen in one of three runs.)
- ``max_reconnect_attempts`` -1: neither client nor worker ever gives up to reconnect.
  https://nats-io.github.io/nats.py/modules.html#nats.aio.client.Client.connect
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import client, server
from benchmarks.faults.handler import handle
from benchmarks.faults.system import HOST, LEASE_S, PORTS, QUEUE, Command, ComparedSystem, ports_of

MODULE = "benchmarks.faults.taskiq_jetstream"
LOOK_S = 5.0
"""The time limit of nats-py for requests that have one."""


def _servers(_: str, folder: Path, ports: Sequence[int]) -> list[Command]:
    return [server.nats(folder, ports[0])]


def _worker(python: str, _: str, __: Sequence[int]) -> Command:
    command = [python, "-m", "taskiq", "worker", f"{MODULE}:set_up", "--workers", "1", "--ack-type", "when_saved"]
    return Command([*command, "--max-async-tasks", "1", "--max-threadpool-threads", "1"])


SYSTEM = ComparedSystem(
    name="taskiq + NATS JetStream",
    module=MODULE,
    ports=1,
    servers=_servers,
    worker=_worker,
    settings="stream in files, pull consumer with `ack_wait` 30 s, `--ack-type when_saved`, results in NATS's object store",
    programs={"nats-server": "nats-server"},
    libraries=("taskiq", "taskiq-nats", "nats-py"),
    child="the worker process under its process manager",
    late_s=LEASE_S + 15.0,
)


def set_up() -> Any:
    """The broker with its task, for workers and for the client."""
    from nats.js.api import ConsumerConfig
    from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker  # type: ignore[import-not-found]

    (port,) = ports_of(os.environ[PORTS])
    url = f"nats://{HOST}:{port}"
    broker = PullBasedJetStreamBroker(
        servers=url,
        durable=QUEUE,
        consumer_config=ConsumerConfig(durable_name=QUEUE, ack_wait=LEASE_S),
        max_reconnect_attempts=-1,
    ).with_result_backend(NATSObjectStoreResultBackend(servers=url, max_reconnect_attempts=-1))
    broker.register_task(handle, "handle")
    return broker


class Asker:
    """Kicks tasks, and asks the result backend for their results."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._broker = set_up()
        self._loop.run_until_complete(self._broker.startup())

    def ask(self, request: str) -> object:
        return self._loop.run_until_complete(self._broker.find_task("handle").kiq(request))

    def answer_of(self, handle: object) -> str | None:
        return self._loop.run_until_complete(asyncio.wait_for(_answer_of(handle), LOOK_S))


async def _answer_of(task: Any) -> str | None:
    if not await task.is_ready():
        return None
    result = await task.get_result()
    if result.is_err:
        raise client.RequestFailed(repr(result.error))
    return str(result.return_value)


if __name__ == "__main__" and sys.argv[1:2] == ["client"]:
    client.run(Asker())
